"""Rows, labels and distances that the tests of the relation term share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.negatives import Negatives, unit_distances
from tests.helpers import naive, small

LIMITS = {
    "distance": (0.0, 1.4, 0.5, True),
    "focal": (0.5, 1.0, 0.0, True),
    "uniform": (0.0, float("inf"), 0.0, False),
}


def close_rows(n: int, dimension: int, seed: int = 0) -> Tensor:
    """Rows around one direction: distances spread over 0.3 .. 1.5, so that every band has members and outsiders."""
    noise = small.randn(n, dimension, seed=seed)
    width = torch.linspace(0.1, 0.6, n)[:, None]
    return (1.0 / dimension**0.5 + width * noise) * torch.linspace(1, 9, n)[:, None]


def labels_of(n: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, (n,), generator=small.rng(seed))


def pair_distances(rows: Tensor) -> Tensor:
    return unit_distances(F.normalize(rows, dim=1))


def exact(rows: Tensor, labels: Tensor, band: str) -> tuple[Tensor, Tensor, Tensor]:
    unit = F.normalize(rows, dim=1)
    sure, some, none = naive.negative_probabilities(unit, labels.tolist(), *LIMITS[band])
    return torch.tensor(sure, dtype=torch.float64), torch.tensor(some), torch.tensor(none)


def by_pair(negatives: Negatives) -> list[list[int]]:
    """Put the negatives into a table (N,N) whose entry [a][p] is that of the pair (a,p)."""
    n = len(negatives.exists)
    table = torch.zeros(n, n, dtype=torch.int64)
    anchor, place = negatives.pairs.real.nonzero().T
    table[anchor, negatives.pairs.columns[anchor, place]] = negatives.index[anchor, place]
    rows: list[list[int]] = table.tolist()
    return rows
