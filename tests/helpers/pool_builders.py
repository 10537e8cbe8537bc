"""Pools of numbered images, and what is drawn from them."""

from __future__ import annotations

import torch
from torch import Tensor

from rgal.synthesis.pool import ImagePool

SHAPE = (1, 2, 3)


def numbered(start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their number, with the number as the label."""
    numbers = torch.arange(start, start + count)
    return numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(count, *SHAPE), numbers


def filled(count: int, capacity: int | None = None, batch: int = 7) -> ImagePool:
    """A pool of `count` numbered images, added in batches."""
    pool = ImagePool(SHAPE, capacity=capacity)
    for start in range(0, count, batch):
        pool.add(*numbered(start, min(batch, count - start)))
    return pool


def epoch(pool: ImagePool, batches: int, size: int, rng: torch.Generator) -> list[int]:
    """The numbers of the images in so many batches."""
    return [int(label) for _ in range(batches) for label in pool.sample(size, rng)[1]]


def life(pool: ImagePool, rng: torch.Generator) -> list[int]:
    """Samples, with images added on the way."""
    drawn = epoch(pool, 3, 4, rng)
    for start in (100, 107, 114):
        pool.add(*numbered(start, 7))
        drawn += epoch(pool, 3, 4, rng)
    return drawn
