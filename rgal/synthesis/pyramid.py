"""Pixels optimised from coarse to fine: networks first see them averaged over squares, then as they are.

Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, arXiv 1912.08795, in the
form of its code for ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.optimiser import StudentOptimiser
from rgal.core.problem import Domain
from rgal.synthesis.image_source import Adam, ImageSource
from rgal.synthesis.pixels import PixelSource


@dataclass(frozen=True)
class Level:
    """Describe one resolution of a pyramid.

    Args:
        pooling: side in pixels of the squares over which images are averaged.
        parts: the level's part of the round's steps, relative to the parts of the other levels.
        lr_warmup: share of the level's steps in which the learning rate rises linearly; then it falls to 0 as a cosine.
    """

    pooling: int
    parts: int
    lr_warmup: float


@dataclass(frozen=True)
class PyramidPixels:
    """Optimise pixels at full resolution, which networks see level by level; each level has an optimiser of its own.

    Pixels are in normalised space and clipped after each step. The default levels are those of DeepInversion's code:
    2000 steps at half resolution and 1000 at full, with 100 steps of warm-up in both; for other numbers of steps the
    shares are the same. As in that code, every level matches the same batch norm statistics.

    Raises:
        ValueError: the last level is not at full resolution, or a level has no steps.
    """

    levels: tuple[Level, ...] = (Level(2, 2, 0.05), Level(1, 1, 0.1))

    def __post_init__(self) -> None:
        if self.levels[-1].pooling != 1 or min(level.parts for level in self.levels) < 1:
            raise ValueError(
                f"a pyramid ends at full resolution and has steps on every level, got {self.levels}"
            )

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return PyramidSource(self.levels, domain, device)


class PyramidSource(PixelSource):
    """Optimise a pyramid of pixels. Adds to the base's state the steps of the round so far, `done`."""

    def __init__(self, levels: tuple[Level, ...], domain: Domain, device: torch.device) -> None:
        super().__init__(domain, device)
        self.levels, self.done = levels, 0
        _, height, width = domain.shape
        self.sizes = tuple((-(-height // level.pooling), -(-width // level.pooling)) for level in levels[:-1])

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self.done = 0
        super().start(targets, optimiser)

    def _span(self) -> tuple[Level, int, int]:
        """Return the current level, its first step and the step after its last. The last level always has a step."""
        total, first, parts = sum(level.parts for level in self.levels), 0, 0
        for level in self.levels:
            parts += level.parts
            end = self.steps * parts // total
            if self.done < end:
                return level, first, end
            first = end
        return self.levels[-1], first, end

    def shown(self, images: Tensor) -> Tensor:
        """Average the images over squares, which are cut at the border of an odd size."""
        pooling = self._span()[0].pooling
        return images if pooling == 1 else F.avg_pool2d(images, pooling, ceil_mode=True)

    @property
    def whole(self) -> bool:
        return self._span()[0].pooling == 1

    def step(self, loss: Tensor) -> None:
        level, first, end = self._span()
        schedule = StudentOptimiser(self.spec.lr, lr_warmup=level.lr_warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.learning_rate(self.done - first, end - first)
        super().step(loss)
        self.done += 1
        if self.done == end:
            self._make_optimiser()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state | {"done": self.done} if state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state:
            self.done = int(state["done"])
