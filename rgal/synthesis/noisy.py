"""Images from labels: a generator whose input is an embedding of the label, made different by layers of noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.precision import adam, place
from rgal.core.problem import Domain
from rgal.core.seeding import global_seed
from rgal.nets.checkpoint import load_table
from rgal.nets.generators import reinitialise
from rgal.synthesis.generators import FreshGenerator, make_generator
from rgal.synthesis.image_source import Adam, ImageSource


@dataclass(frozen=True)
class NoisyGenerator(FreshGenerator):
    """NAYER's generator: label y -> BN(E y) -> a noisy linear layer -> `Generator`.

    The k-th image of every class goes through the k-th of K = ceil(N / C) noisy layers, so labels are balanced: as
    many of each class as there can be, the rest drawn without replacement. Nothing else is random: the noisy layers,
    weights ~ N(0, 1), biases 0, are drawn anew each round, and all parts are trained. Tran et al., CVPR 2024.

    latent: width of E's rows where no file gives it. embeddings: file of E (C, D), "" for orthogonal rows, drawn once.
    hidden: outputs of a noisy layer. life: rounds after which the whole generator is initialised anew.
    """

    latent: int = 512
    embeddings: str = ""
    hidden: int = 1000
    life: int = 20

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _NoisyGenerator(self, domain, device, seed)


class NoisyNet(nn.Module):
    """(labels (N,), noisy layer of each (N,)) -> images (N,C,H,W). table: (classes, D) constant embeddings.

    The noisy layers are one batched product over (layer, class) instead of K small ones. Two images of the same label
    and layer are the same image.
    """

    table: Tensor

    def __init__(self, table: Tensor, layers: int, hidden: int, decoder: nn.Module) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.norm = nn.BatchNorm1d(table.shape[1])
        self.weight = nn.Parameter(torch.empty(layers, hidden, table.shape[1]))
        self.bias = nn.Parameter(torch.empty(layers, hidden))
        self.decoder = decoder

    def redraw(self, rng: torch.Generator) -> None:
        """New noisy layers."""
        with torch.no_grad():
            self.weight.normal_(0, 1, generator=rng)
            self.bias.zero_()

    def forward(self, labels: Tensor, layer: Tensor) -> Tensor:
        embedded = self.norm(self.table[labels])
        grid = embedded.new_zeros(len(self.weight), *self.table.shape).index_put((layer, labels), embedded)
        hidden = torch.baddbmm(self.bias[:, None], grid, self.weight.transpose(1, 2))
        images: Tensor = self.decoder(hidden[layer, labels])
        return images


def rank_in_class(labels: Tensor) -> Tensor:
    """How many of the labels (N,) before each are the same: (N,)."""
    same = labels[:, None] == labels[None, :]
    return same.tril(-1).sum(1)


class _NoisyGenerator(ImageSource):
    """`net` is built at the first start, when the number of images, and with it of noisy layers, is known."""

    net: NoisyNet

    def __init__(self, spec: NoisyGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(domain, device)
        self.spec, self.seed = spec, seed
        self.table = self._table().to(device)
        self.rounds = 0

    def _table(self) -> Tensor:
        classes = self.domain.classes
        if self.spec.embeddings:
            return load_table(self.spec.embeddings, classes)
        with global_seed(self.seed, "label embeddings"):
            return nn.init.orthogonal_(torch.empty(classes, self.spec.latent))

    def _build(self, layers: int) -> None:
        if hasattr(self, "net") and len(self.net.weight) == layers:
            return
        spec = replace(self.spec, latent=self.spec.hidden)
        decoder = make_generator(spec, self.domain, self.device, self.seed)
        self.net = NoisyNet(self.table, layers, self.spec.hidden, decoder)
        place(self.net, self.device).train()

    def wanted_labels(self, n: int, rng: torch.Generator) -> Tensor:
        classes = self.domain.classes
        rest = torch.randperm(classes, generator=rng, device=self.device)[: n % classes]
        return torch.cat([torch.arange(classes, device=self.device).repeat(n // classes), rest])

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self._build(-(-self.n // self.domain.classes))
        if self.rounds % self.spec.life == 0:
            reinitialise(self.net, self.rng)
        self.net.redraw(self.rng)
        self.rounds += 1
        self._make_optimiser(targets, optimiser)

    def _make_optimiser(self, targets: Tensor, optimiser: Adam) -> None:
        self.targets, self.adam = targets, optimiser
        # Labels that a recipe draws itself may be unbalanced: its surplus shares layers.
        self.layer = rank_in_class(targets) % len(self.net.weight)
        groups = [{"params": list(self.net.parameters()), "lr": optimiser.lr}]
        self.optimiser = adam(groups, optimiser.betas, self.device)

    def images(self) -> Tensor:
        return self.net(self.targets, self.layer).float()

    def state_dict(self) -> dict[str, Any]:
        if not self.rounds:
            return {}
        return {
            "net": self.net.state_dict(),
            "layers": len(self.net.weight),
            "targets": self.targets,
            "rounds": self.rounds,
            "optimiser": self.optimiser.state_dict(),
            "lr": self.adam.lr,
            "betas": self.adam.betas,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._build(state["layers"])
            self.net.load_state_dict(state["net"])
            self.rounds = int(state["rounds"])
            self._make_optimiser(state["targets"].to(self.device), Adam(state["lr"], tuple(state["betas"])))
            self.optimiser.load_state_dict(state["optimiser"])
