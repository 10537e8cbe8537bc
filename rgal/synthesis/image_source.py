"""What is optimised to make images: the contract between a source of images and the inversion loop.

A recipe names a *spec*, which is frozen data (`Pixels`, `FreshGenerator`, ...). `spec.build(domain, device, seed)`
makes the source that the inversion loop drives:

    attach(n, rng, steps) -> start(targets, optimiser) -> images() -> step(loss) -> images() -> ... -> finish()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rgal.core.problem import Domain


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

    def required_labels(self, n: int, rng: torch.Generator) -> Tensor | None:
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
