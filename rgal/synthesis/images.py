"""What is optimised: pixels, a fresh generator and its latent code, a persistent generator, a meta-generator.

A recipe names a *spec* (frozen data: `Pixels`, `FreshGenerator`, ...); `spec.build(domain, device, seed)` makes the
stateful parameterisation that the inversion loop drives:

    attach(n, rng, steps) -> start(targets, optimiser) -> images() -> step(loss) -> images() -> ... -> finish()
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.precision import adam, place
from rgal.core.problem import Domain
from rgal.core.seeding import global_seed
from rgal.nets.generators import Generator, LargeGenerator, reset_first, reset_generator


@dataclass(frozen=True)
class Adam:
    """Synthesis optimiser."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)


class ImageSource:
    """Base of all parameterisations. Images are (N,C,H,W) in [0,1] and differentiable in `parameters()`.

    shares: where the round's images mix classes, the share of each class in each image, (N,C); set by `start`.
    sizes: (height, width) of what networks are shown on the way to images of the domain's size.
    """

    shares: Tensor | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    def __init__(self, domain: Domain, device: torch.device) -> None:
        self.domain, self.device = domain, device
        self.optimiser: torch.optim.Adam
        self.n, self.steps = 0, 0
        self.rng: torch.Generator

    def attach(self, n: int, rng: torch.Generator, steps: int = 0) -> None:
        """Batch size, stream and number of steps of the round, at its start and when it is taken up again from a stored
        state."""
        self.n, self.rng, self.steps = n, rng, steps

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        """Begin a round of `self.n` images with labels `targets` (n,)."""
        raise NotImplementedError

    def wanted_labels(self, n: int, rng: torch.Generator) -> Tensor | None:
        """Labels (n,) of a round, where this parameterisation cannot do with any; None: as the recipe draws them."""
        return None

    def images(self) -> Tensor:
        raise NotImplementedError

    def shown(self, images: Tensor) -> Tensor:
        """What views and terms get of `images` in the current step, (N,C,h,w)."""
        return images

    @property
    def whole(self) -> bool:
        """Whether `shown` is the images themselves. If not, its loss is no reason to keep them."""
        return True

    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def step(self, loss: Tensor) -> None:
        """One optimiser step on the loss. Only this parameterisation's tensors are touched."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.after_step()

    def after_step(self) -> None:
        """Project back to what is admissible."""

    def finish(self) -> None:
        """End the round."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n fresh images (n,C,H,W) without gradient, for students that train on the generator itself."""
        raise TypeError(f"{type(self).__name__} keeps no generator that could draw images outside a round")

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class ImageSpec(Protocol):
    """Frozen data that builds a parameterisation."""

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource: ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, in normalised space, N(0,1) at the start and clipped to valid images after each step.

    Yin et al., "Dreaming to Distill" (DeepInversion), CVPR 2020, in the form of the CMI repository. clip=False: as its
    authors do at 32x32, networks also see values that no image has; what is kept is clamped in the end.
    """

    clip: bool = True

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _Pixels(domain, device, self.clip)


class _Pixels(ImageSource):
    def __init__(self, domain: Domain, device: torch.device, clip: bool = True) -> None:
        super().__init__(domain, device)
        self.clip = clip

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        noise = torch.randn(self.n, *self.domain.shape, generator=self.rng, device=self.device)
        self._begin(noise, optimiser)

    def _begin(self, values: Tensor, optimiser: Adam) -> None:
        self.spec = optimiser
        self.pixels = values.requires_grad_()
        self._make_optimiser()

    def _make_optimiser(self) -> None:
        groups = [{"params": [self.pixels], "lr": self.spec.lr}]
        self.optimiser = adam(groups, self.spec.betas, self.device)

    def images(self) -> Tensor:
        return self.domain.denormalise(self.pixels)

    @torch.no_grad()
    def after_step(self) -> None:
        if self.clip:
            self.pixels.copy_(self.domain.clip_normalised(self.pixels))

    def state_dict(self) -> dict[str, Any]:
        if not hasattr(self, "pixels"):
            return {}
        return {
            "pixels": self.pixels.detach().clone(),
            "optimiser": self.optimiser.state_dict(),
            "lr": self.spec.lr,
            "betas": self.spec.betas,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._begin(state["pixels"].to(self.device).clone(), Adam(state["lr"], tuple(state["betas"])))
            self.optimiser.load_state_dict(state["optimiser"])


@dataclass(frozen=True)
class Noise:
    """Nothing is optimised: pixels N(0,1) in normalised space, clipped to valid images. For rounds without steps."""

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _Pixels(domain, device)


@dataclass(frozen=True)
class FreshGenerator:
    """A generator re-initialised in every round and its latent codes, optimised together (CMI, RGAL).

    latent: code size. width: base channel count. large: `LargeGenerator`. lr_latent: own step size for the codes.
    """

    latent: int = 256
    width: int = 64
    large: bool = False
    lr_latent: float | None = None

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _FreshGenerator(self, domain, device, seed)


@dataclass(frozen=True)
class PersistentGenerator(FreshGenerator):
    """A generator that lives through the whole run, with one optimiser; codes are drawn anew each step, not
    optimised (DAFL, ZSKT, DFAD, adversarial DFQ)."""

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _PersistentGenerator(self, domain, device, seed)


@dataclass(frozen=True)
class ConditionalGenerator(PersistentGenerator):
    """A persistent generator that is told the label: its input is E(y) * z, E a trained vector a class (GDFQ).

    Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020. Theirs ends in tanh and a batch norm without
    parameters, in normalised space; ours, as all generators here, in a sigmoid.
    """

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _ConditionalGenerator(self, domain, device, seed)


@dataclass(frozen=True)
class MetaGenerator(FreshGenerator):
    """FastDFKD's meta-generator: each round optimises a copy of it and fresh codes, then moves it by a meta step.

    Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation", AAAI 2022. form "fomaml": the gradients of
    all inner steps, summed; "reptile": the difference to the adapted copy. meta_lr: Adam step of the meta update.
    reset: the round, counted from 1, that begins with `reset_first` of the meta-generator; 0: none.
    """

    meta_lr: float = 0.02
    form: str = "fomaml"
    reset: int = 0

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return _MetaGenerator(self, domain, device, seed)


def make_generator(spec: FreshGenerator, domain: Domain, device: torch.device, seed: int) -> nn.Module:
    """The generator network of a spec, initialised from `seed`, in training mode for good."""
    channels, height, width = domain.shape
    if height != width:
        raise UserError(
            f"generators make square images, these are {width}x{height}; give --set image_size=..., "
            "or a method that optimises pixels"
        )
    kind = LargeGenerator if spec.large else Generator
    with global_seed(seed, "generator"):
        net = kind(spec.latent, channels=channels, size=height, width=spec.width)
    return place(net, device).train()


class _FreshGenerator(ImageSource):
    """Also the base of the other generator parameterisations: network, codes, optimiser and their state."""

    def __init__(self, spec: FreshGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(domain, device)
        self.spec = spec
        self.net = make_generator(spec, domain, device, seed)
        self.codes = torch.empty(0, spec.latent, device=device)

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


class _PersistentGenerator(_FreshGenerator):
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
        """Images from running batch norm statistics, as CMI's driver samples."""
        self.net.eval()
        try:
            codes = torch.randn(n, self.spec.latent, generator=rng, device=self.device)
            return self.net(codes).float()
        finally:
            self.net.train()


class _ConditionalGenerator(_PersistentGenerator):
    def __init__(self, spec: FreshGenerator, domain: Domain, device: torch.device, seed: int) -> None:
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
        return self.net(self.labels(self.targets) * noise).float()

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        raise TypeError("images of a conditional generator come with their labels: train on batches instead")

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"labels": self.labels.state_dict(), "targets": self.targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels.load_state_dict(state["labels"])
        self.targets = state["targets"].to(self.device)
        super().load_state_dict(state)


class _MetaGenerator(_FreshGenerator):
    """`net` is the meta-generator, `inner` the copy that a round adapts."""

    spec: MetaGenerator

    def __init__(self, spec: MetaGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        self.inner = copy.deepcopy(self.net)
        groups = [{"params": list(self.net.parameters()), "lr": spec.meta_lr}]
        self.meta_optimiser = adam(groups, (0.5, 0.999), device)
        self.rounds = 0

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self.rounds += 1
        if self.rounds == self.spec.reset:
            reset_first(self.net, self.rng)
        self.inner.load_state_dict(self.net.state_dict())
        self.meta_optimiser.zero_grad(set_to_none=True)
        self.codes = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        self._make_optimiser(optimiser)

    def _make_optimiser(self, optimiser: Adam) -> None:
        self.codes = self.codes.detach().requires_grad_()
        self.adam = optimiser
        groups = [
            {"params": list(self.inner.parameters()), "lr": optimiser.lr},
            {"params": [self.codes], "lr": self.spec.lr_latent or optimiser.lr},
        ]
        self.optimiser = adam(groups, optimiser.betas, self.device)

    def images(self) -> Tensor:
        return self.inner(self.codes).float()

    def step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.spec.form == "fomaml":
            # First-order MAML: the meta gradient is the sum of the inner gradients, each before its update.
            for meta, inner in zip(self.net.parameters(), self.inner.parameters(), strict=True):
                if inner.grad is not None:
                    meta.grad = inner.grad.clone() if meta.grad is None else meta.grad + inner.grad
        self.optimiser.step()

    @torch.no_grad()
    def finish(self) -> None:
        if self.spec.form == "reptile":
            for meta, inner in zip(self.net.parameters(), self.inner.parameters(), strict=True):
                meta.grad = meta - inner
        self.meta_optimiser.step()
        for kept, seen in zip(self.net.buffers(), self.inner.buffers(), strict=True):
            kept.copy_(seen)

    def state_dict(self) -> dict[str, Any]:
        grads = [None if p.grad is None else p.grad.clone() for p in self.net.parameters()]
        meta = {"inner": self.inner.state_dict(), "meta_optimiser": self.meta_optimiser.state_dict()}
        return super().state_dict() | meta | {"meta_grads": grads, "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.inner.load_state_dict(state["inner"])
        self.meta_optimiser.load_state_dict(state["meta_optimiser"])
        self.rounds = int(state["rounds"])
        for parameter, grad in zip(self.net.parameters(), state["meta_grads"], strict=True):
            parameter.grad = None if grad is None else grad.to(self.device)
