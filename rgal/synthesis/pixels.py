"""Sources whose parameters are the pixels themselves, and noise that nothing optimises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgal.core.precision import adam
from rgal.core.problem import Domain
from rgal.synthesis.image_source import Adam, ImageSource


@dataclass(frozen=True)
class Pixels:
    """Optimise pixels, in normalised space: N(0,1) at the start, clipped to valid images after each step.

    Yin et al., "Dreaming to Distill" (DeepInversion), CVPR 2020, in the form of the CMI repository.

    Args:
        clip: whether pixels are clipped after each step. If not, as DeepInversion's authors do at 32x32, networks also
            see values that no image has, and only what is kept is clamped.
    """

    clip: bool = True

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return PixelSource(domain, device, self.clip)


class PixelSource(ImageSource):
    """Optimise pixels with Adam, from normal noise in each round. See `Pixels`."""

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
    """Draw pixels N(0,1) in normalised space, clipped to valid images, for rounds without synthesis steps."""

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return PixelSource(domain, device)
