"""NAYER's generator: its input is an embedding of the label, which random layers turn into different images."""

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
    """Make images from labels: y -> BN(E y) -> a noisy linear layer -> `Generator` (Tran et al., CVPR 2024).

    The k-th image of every class goes through the k-th of K = ceil(N / C) noisy layers. Labels are balanced; those
    that are left over are drawn without replacement. The noisy layers are the only source of randomness: each round
    draws them anew, weights ~ N(0, 1) and biases 0. All parts are trained.

    Args:
        latent: width of E's rows if no file gives it.
        embeddings: file of E (C, D), or "" for orthogonal rows, drawn once.
        hidden: outputs of a noisy layer.
        life: rounds after which the whole generator is initialised anew.
    """

    latent: int = 512
    embeddings: str = ""
    hidden: int = 1000
    life: int = 20

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return NoisyGeneratorSource(self, domain, device, seed)


class NoisyNet(nn.Module):
    """Map labels (N,), and the index (N,) of the noisy layer of each, to images (N,C,H,W).

    The noisy layers are computed as one batched product over (layer, class) instead of K small ones. Two images of
    the same label and layer are the same image.

    Args:
        table: constant embeddings (classes, D).
        layers: number of noisy layers, K.
        hidden: outputs of a noisy layer.
        decoder: network from the hidden vectors (N, hidden) to images.
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
        """Draw the noisy layers anew."""
        with torch.no_grad():
            self.weight.normal_(0, 1, generator=rng)
            self.bias.zero_()

    def forward(self, labels: Tensor, layer: Tensor) -> Tensor:
        embedded = self.norm(self.table[labels])
        inputs = embedded.new_zeros(len(self.weight), *self.table.shape).index_put((layer, labels), embedded)
        hidden = torch.baddbmm(self.bias[:, None], inputs, self.weight.transpose(1, 2))
        images: Tensor = self.decoder(hidden[layer, labels])
        return images


def rank_in_class(labels: Tensor) -> Tensor:
    """Count, for each of the labels (N,), the equal labels before it: (N,).

    >>> rank_in_class(torch.tensor([3, 1, 3, 3, 1]))
    tensor([0, 0, 1, 2, 1])
    """
    same = labels[:, None] == labels[None, :]
    return same.tril(-1).sum(1)


class NoisyGeneratorSource(ImageSource):
    """Optimise a noisy generator. Its network is built at the first start, when the number of images is known."""

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

    def required_labels(self, n: int, rng: torch.Generator) -> Tensor:
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
        # Labels that the recipe draws may be unbalanced: the surplus of a class shares layers.
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
