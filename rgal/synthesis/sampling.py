"""How a student's batches are drawn from a pool by priority, and which images make room in a pool that is full.

Schaul et al., "Prioritized Experience Replay", ICLR 2016, for images in place of transitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rgal.core.problem import Problem
from rgal.synthesis.pool import ImagePool


@dataclass(frozen=True)
class Prioritised:
    """Draw images with probability P_i = p_i^a / sum_j p_j^a, with replacement, p their priorities.

    Terms weigh them by w_i = (N P_i)^-b, divided by the batch's largest, which undoes the unequal frequencies where
    b is 1; b rises linearly over the run. A term of the student sets new priorities, `ctx.priority`.

    Args:
        exponent: a; 0 draws all images equally often.
        correction: b at the start; it ends at 1.
    """

    exponent: float = 1.0
    correction: float = 0.4

    def draw(
        self, pool: ImagePool, n: int, rng: torch.Generator, fraction: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return rows (n,) of the pool and the importance weights (n,) of their images.

        Args:
            pool: not empty.
            n: number of images.
            rng: generator on the pool's device.
            fraction: share of the run that is done.
        """
        mass = pool.priorities.double().clamp_min(1e-12) ** self.exponent
        chances = mass / mass.sum()
        rows = torch.multinomial(chances, n, replacement=True, generator=rng)
        correction = self.correction + (1 - self.correction) * fraction
        weights = (len(pool) * chances[rows]) ** -correction
        return rows, (weights / weights.max()).float()


def oldest(pool: ImagePool, problem: Problem) -> Tensor:
    """Rank images by when they were added: the oldest make room first."""
    return pool.born


def least_priority(pool: ImagePool, problem: Problem) -> Tensor:
    """Rank images by their priority: the least make room first."""
    return pool.priorities


Rank = Callable[[ImagePool, Problem], Tensor]


@dataclass(frozen=True)
class Memory:
    """Bound a pool: it holds `capacity` images, and those of the lowest rank make room for new ones.

    Args:
        capacity: images that the pool holds.
        rank: gives each image of the pool a number (len,), from its pixels, labels, priorities, age, or from what the
            teacher says of it. It is asked when new images have come; ties are broken by age.
    """

    capacity: int
    rank: Rank = oldest

    def making_room(self, pool: ImagePool, problem: Problem) -> Tensor | None:
        """Return all rows of a pool, those that make room first before the others; None while it is empty."""
        if not len(pool):
            return None
        by_age = pool.born.argsort()
        with torch.no_grad():
            return by_age[self.rank(pool, problem)[by_age].argsort(stable=True)]
