"""Sources whose parameters are a generator's: new in every round, kept for the whole run, or told the label."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.precision import adam, place
from rgal.core.problem import Domain, evaluating
from rgal.core.seeding import global_seed
from rgal.nets.following import follow
from rgal.nets.generators import Generator, LargeGenerator, reset_generator
from rgal.synthesis.image_source import Adam, ImageSource


@dataclass(frozen=True)
class FreshGenerator:
    """Optimise a generator, re-initialised in every round, together with its latent codes (CMI, RGAL).

    Args:
        latent: length of a code.
        width: channels of the last hidden map.
        large: whether the network is `LargeGenerator` in place of `Generator`.
        lr_latent: learning rate of the codes; None: the generator's.
    """

    latent: int = 256
    width: int = 64
    large: bool = False
    lr_latent: float | None = None

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return FreshGeneratorSource(self, domain, device, seed)


@dataclass(frozen=True)
class PersistentGenerator(FreshGenerator):
    """Optimise one generator through the whole run (DAFL, ZSKT, DFAD, adversarial DFQ).

    Codes are drawn anew in each step and are not optimised.

    Args:
        slow: share of itself that a copy of the network keeps when it follows the network after each step; students
            then see images of either, half of each. None: there is no copy.
    """

    slow: float | None = None

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return PersistentGeneratorSource(self, domain, device, seed)


@dataclass(frozen=True)
class ConditionalGenerator(PersistentGenerator):
    """Optimise a persistent generator that is told the label: its input is E(y) * z, E one trained vector per class.

    Xu et al., "Generative Low-bitwidth Data Free Quantization" (GDFQ), ECCV 2020. Their network ends in tanh and a
    batch norm without parameters, in normalised space; ours in a sigmoid, as all generators here do.
    """

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return ConditionalGeneratorSource(self, domain, device, seed)


def make_generator(spec: FreshGenerator, domain: Domain, device: torch.device, seed: int) -> nn.Module:
    """Make the generator network of a spec, initialised from `seed`, in training mode.

    Raises:
        UserError: the images of the domain are not square.
    """
    channels, size = square_images(domain)
    kind = LargeGenerator if spec.large else Generator
    with global_seed(seed, "generator"):
        net = kind(spec.latent, channels=channels, size=size, width=spec.width)
    return place(net, device).train()


def square_images(domain: Domain) -> tuple[int, int]:
    """Return the channels and the size of a domain's images.

    Raises:
        UserError: they are not square.
    """
    channels, height, width = domain.shape
    if height != width:
        raise UserError(
            f"generators make square images, these are {width}x{height}; give --set image_size=..., "
            "or a method that optimises pixels"
        )
    return channels, height


class FreshGeneratorSource(ImageSource):
    """Hold network, codes and optimiser; see `FreshGenerator`. The other generator sources are derived from it."""

    def __init__(self, spec: FreshGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(domain, device)
        self.spec = spec
        self.net = self.make_net(seed)
        self.codes = torch.empty(0, spec.latent, device=device)

    def make_net(self, seed: int) -> nn.Module:
        """Make the network, initialised from `seed`, in training mode."""
        return make_generator(self.spec, self.domain, self.device, seed)

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        reset_generator(self.net, self.rng)
        self.codes = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        self._make_optimiser(optimiser)

    def _make_optimiser(self, optimiser: Adam) -> None:
        self.codes = self.codes.detach().requires_grad_()
        groups = [
            {"params": list(self.net.parameters()), "lr": optimiser.lr},
            {"params": [self.codes], "lr": self.spec.lr_latent or optimiser.lr},
        ]
        self.adam = optimiser
        self.optimiser = adam(groups, optimiser.betas, self.device)

    def images(self) -> Tensor:
        return self.net(self.codes).float()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"net": self.net.state_dict(), "codes": self.codes.detach().clone()}
        if hasattr(self, "optimiser"):
            state |= {"optimiser": self.optimiser.state_dict(), "lr": self.adam.lr, "betas": self.adam.betas}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.codes = state["codes"].to(self.device).clone()
        if "optimiser" in state:
            self._make_optimiser(Adam(state["lr"], tuple(state["betas"])))
            self.optimiser.load_state_dict(state["optimiser"])


class PersistentGeneratorSource(FreshGeneratorSource):
    """Keep the network and its optimiser from round to round. See `PersistentGenerator`."""

    spec: PersistentGenerator

    def __init__(self, spec: PersistentGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        self.slow = None if spec.slow is None else copy.deepcopy(self.net).eval().requires_grad_(False)

    def after_step(self) -> None:
        if self.slow is not None and self.spec.slow is not None:
            follow(self.slow, self.net, self.spec.slow)

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        if not hasattr(self, "optimiser"):
            self._make_optimiser(optimiser)

    def _make_optimiser(self, optimiser: Adam) -> None:
        self.adam = optimiser
        groups = [{"params": list(self.net.parameters()), "lr": optimiser.lr}]
        self.optimiser = adam(groups, optimiser.betas, self.device)

    def images(self) -> Tensor:
        codes = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        return self.net(codes).float()

    @torch.no_grad()
    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw images by the running batch norm statistics, as CMI's driver does; the latter half by the slow copy."""
        codes = torch.randn(n, self.spec.latent, generator=rng, device=self.device)
        with evaluating(self.net):
            if self.slow is None:
                return self.net(codes).float()
            own = n - n // 2
            return torch.cat([self.net(codes[:own]), self.slow(codes[own:])]).float()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self.slow is None else state | {"slow": self.slow.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.slow is not None:
            self.slow.load_state_dict(state["slow"])


class ConditionalGeneratorSource(PersistentGeneratorSource):
    """Multiply noise by a trained vector for each label. See `ConditionalGenerator`."""

    def __init__(self, spec: PersistentGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        with global_seed(seed, "label vectors"):
            self.labels = nn.Embedding(domain.classes, spec.latent).to(device)
        self.targets = torch.empty(0, dtype=torch.int64, device=device)

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self.targets = targets
        super().start(targets, optimiser)

    def _make_optimiser(self, optimiser: Adam) -> None:
        self.adam = optimiser
        parameters = [*self.net.parameters(), *self.labels.parameters()]
        self.optimiser = adam([{"params": parameters, "lr": optimiser.lr}], optimiser.betas, self.device)

    def images(self) -> Tensor:
        noise = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        return self.made(noise, self.targets)

    def made(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Make images (n,C,H,W) of noise (n, latent) and labels (n,)."""
        return self.net(self.labels(labels) * noise).float()

    @torch.no_grad()
    def draw_labelled(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw labels (n,), all classes equally likely, and images of them by the running statistics."""
        labels = torch.randint(0, self.domain.classes, (n,), generator=rng, device=self.device)
        noise = torch.randn(n, self.spec.latent, generator=rng, device=self.device)
        with evaluating(self.net):
            return self.made(noise, labels), labels

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return self.draw_labelled(n, rng)[0]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"labels": self.labels.state_dict(), "targets": self.targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels.load_state_dict(state["labels"])
        self.targets = state["targets"].to(self.device)
        super().load_state_dict(state)
