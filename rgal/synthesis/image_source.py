"""The contract between a source of images, which is what synthesis optimises, and the inversion loop.

A recipe names a *spec*, which is frozen data (`Pixels`, `FreshGenerator`, ...). `spec.build(domain, device, seed)`
makes the source that the inversion loop drives:

    attach(n, rng, steps) -> start(targets, optimiser) -> images() -> step(loss) -> images() -> ... -> finish()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rgal.core.problem import Domain


@dataclass(frozen=True)
class Adam:
    """Set the learning rate and the betas of Adam, which optimises images."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)


class ImageSource:
    """Make images (N,C,H,W) in [0,1] that are differentiable in `parameters()`, and optimise them.

    Attributes:
        shares: where the round's images mix classes, the share of each class in each image, (N,C), set by `start`;
            None: each image is of one class.
        sizes: sizes (height, width) that networks are shown in before the full one; empty for most sources.
    """

    shares: Tensor | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    def __init__(self, domain: Domain, device: torch.device) -> None:
        self.domain, self.device = domain, device
        self.optimiser: torch.optim.Adam
        self.n, self.steps = 0, 0
        self.rng: torch.Generator

    def meet(self, teacher: nn.Module) -> None:
        """Take note of the frozen teacher, once, for sources that ask it of images that they make on their own."""

    def attach(self, n: int, rng: torch.Generator, steps: int = 0) -> None:
        """Prepare a round: at its start, and again when a run goes on from a stored state in the middle of it.

        Args:
            n: images of the round.
            rng: the source of all its draws.
            steps: optimiser steps of the round.
        """
        self.n, self.rng, self.steps = n, rng, steps

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        """Begin a round of `self.n` images.

        Args:
            targets: labels (n,).
            optimiser: learning rate and betas of the round.
        """
        raise NotImplementedError

    def required_labels(self, n: int, rng: torch.Generator) -> Tensor | None:
        """Return the labels (n,) that this source must have in a round, or None where the recipe may draw them."""
        return None

    def images(self) -> Tensor:
        """Return the current images (N,C,H,W) in [0,1], attached to the graph."""
        raise NotImplementedError

    def shown(self, images: Tensor) -> Tensor:
        """Return what views and terms are given of the current images, (N,C,h,w): smaller on the way to full size.

        Args:
            images: what `images()` returned in this step, (N,C,H,W).
        """
        return images

    @property
    def whole(self) -> bool:
        """Whether `shown` returns the images at full size. If not, a small loss is no reason to keep them."""
        return True

    def parameters(self) -> list[Tensor]:
        """Return all tensors that the optimiser moves."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def step(self, loss: Tensor) -> None:
        """Do one optimiser step on a loss. Only the tensors of this source are touched."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.after_step()

    def after_step(self) -> None:
        """Bring the tensors back to admissible values after a step."""

    def finish(self) -> None:
        """End the round, before its images enter the pool."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n fresh images (n,C,H,W) without gradient, for students that train on the generator itself.

        Raises:
            TypeError: this source has no generator outside a round.
        """
        raise TypeError(f"{type(self).__name__} keeps no generator that could draw images outside a round")

    def draw_labelled(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Do as `draw`, and return the labels (n,) that the images were made for; None if they were made for none."""
        return self.draw(n, rng), None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps and rounds depend on."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        raise NotImplementedError


class ImageSpec(Protocol):
    """Describe a source of images as frozen data, which a recipe can name."""

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        """Make the source for images of a domain, its own parameters initialised from `seed`."""
        ...
