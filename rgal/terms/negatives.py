"""Distances of unit vectors, pairs of one label, and the sampler of the negatives that pairs are compared with.

Negatives follow distance-weighted sampling (Wu et al., "Sampling matters in deep embedding learning", ICCV 2017)
within a band of distances; the *focal weighted sampling* of RGAL's paper is the finite band 0.5 < d < 1.0.

Everything is dense, N x N: O(N^2) memory and, on a GPU, static shapes and no host synchronisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BandName = Literal["distance", "focal", "uniform"]


@dataclass(frozen=True)
class Band:
    """Say which distances a negative may have: low < d < high, after d is clamped up to `clamp`.

    Args:
        low: lower limit, exclusive.
        high: upper limit, exclusive.
        clamp: smaller distances count as this one.
        weighted: whether draws are weighted by the inverse density of distances, or uniform inside the band.
    """

    low: float = 0.0
    high: float = 2.0
    clamp: float = 0.0
    weighted: bool = True

    def between(self, low: float | None, high: float | None) -> Band:
        """Return the band with other limits, where they are given; a given `low` also ends the clamping.

        Raises:
            ValueError: no distance lies between the limits.
        """
        limits = (self.low if low is None else low, self.high if high is None else high)
        if not limits[0] < limits[1]:
            raise ValueError(f"the band of distances is empty: low={low}, high={high}")
        return Band(*limits, self.clamp if low is None else 0.0, self.weighted)


BANDS: Mapping[BandName, Band] = {
    "distance": Band(high=1.4, clamp=0.5),
    "focal": Band(low=0.5, high=1.0),
    "uniform": Band(low=-1.0, high=float("inf"), weighted=False),
}


@dataclass(frozen=True)
class Pairs:
    """List the ordered pairs (a,p) of different rows of one label, for N rows of which none is in more than K pairs.

    Args:
        columns: p for each anchor a, ascending, (N,K); rows with fewer pairs are filled up with any row.
        real: whether the entry is a pair, (N,K).
    """

    columns: Tensor
    real: Tensor


def same_label_pairs(labels: Tensor) -> Pairs:
    """List the pairs of rows of one label, for labels (N,).

    On a CPU, K is the size of the largest class. Elsewhere it is N, because a size that depends on data would
    synchronise the device.
    """
    n, device = len(labels), labels.device
    if device.type != "cpu":
        columns = torch.arange(n, device=device).expand(n, n)
        return Pairs(columns, (labels[:, None] == labels) & (columns != columns.T))
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    place = torch.arange(int(counts.max()) if n else 0)
    start, size = (counts.cumsum(0) - counts)[inverse, None], counts[inverse, None]
    columns = order[(start + place).clamp(max=n - 1)]
    return Pairs(columns, (place < size) & (columns != torch.arange(n)[:, None]))


@dataclass(frozen=True)
class Negatives:
    """Hold the negatives that were drawn for N anchors.

    Args:
        index: rows of other labels for each anchor: that of each of its pairs, (N,K), or as many as asked for.
        exists: whether the anchor has a row of another label at all, (N,).
        in_band: whether it has one inside the band, (N,). If not, its draws are uniform over all other labels.
        pairs: the anchors' pairs.
    """

    index: Tensor
    exists: Tensor
    in_band: Tensor
    pairs: Pairs


class _UnitDistances(torch.autograd.Function):
    """Compute `unit_distances` of float64 rows (N,D), with the gradient sum_j S_ij (u_i - u_j), S = G + G^T.

    G is the incoming gradient over the distance, and 0 where two rows coincide: one matrix product in each direction.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, u: Tensor) -> Tensor:
        squared_length = u.square().sum(1)
        squared = torch.addmm(squared_length, u, u.T, alpha=-2).add_(squared_length[:, None]).clamp_(max=4)
        distance = squared.masked_fill_(squared <= 1e-14, 0).sqrt_()
        ctx.save_for_backward(u, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:  # type: ignore[override]
        u, distance = ctx.saved_tensors  # type: ignore[attr-defined]
        over = (grad / distance).masked_fill_(distance == 0, 0)
        both = over + over.T
        return both.sum(1, keepdim=True) * u - both @ u


def unit_distances(u: Tensor) -> Tensor:
    """Return the distances (N,N), float64, of unit vectors (N,D), with zero gradient where two rows coincide.

    d^2 = |u_i|^2 + |u_j|^2 - 2<u_i,u_j> loses half of its digits for close pairs; float64 keeps distance and
    gradient right to float32 precision in O(N^2) memory, where differences of all pairs would need O(N^2 D).
    |u_i|^2 is not taken for 1: float32 unit vectors miss it by 1e-7, which alone is a distance of 3e-4.
    """
    distance: Tensor = _UnitDistances.apply(u.double())
    return distance


def row_distances(rows: Tensor) -> Tensor:
    """Return the distances (N,N), float64, of rows (N,D) of any scale after they are brought to unit length."""
    return unit_distances(F.normalize(rows.float(), dim=1))


def log_inverse_density(distance: Tensor, dimension: int) -> Tensor:
    """Return -log q(d) up to a constant, q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2).

    q is the density of the distance of two random points of the unit sphere in R^D (Wu et al. 2017). d^2 is kept off 0
    and 4, where the logarithms diverge.
    """
    squared = distance.square().clamp_(1e-8, 4 - 1e-4)
    near = squared.log().mul_((dimension - 2) / 2)
    far = squared.mul_(-0.25).add_(1).log_().mul_((dimension - 3) / 2)
    return near.add_(far).neg_()


@torch.no_grad()
def sample_negatives(
    embeddings: Tensor,
    labels: Tensor,
    band: Band,
    rng: torch.Generator,
    draws: int | None = None,
    among: Tensor | None = None,
) -> Negatives:
    """Draw a negative for each pair of N rows, or `draws` negatives for each row, with replacement.

    Inadmissible columns are masked *before* the softmax over the log weights. The release normalises by the row
    maximum over all columns first, which at D = 100 underflows every admissible weight as soon as one close
    same-label neighbour exists. Draws invert the cumulative distribution, which needs no check on the host. The random
    number of the pair (a,p) is that of row a and column p, however many pairs there are.

    Args:
        embeddings: (N,D) of any scale. Distances are those of the normalised rows, and D enters the density.
        labels: (N,).
        band: which distances negatives may have.
        rng: of the draws.
        draws: negatives per anchor; None: one for each pair.
        among: which columns may be negatives of which row at all, bool (N,N); None: all.
    """
    n, dimension = embeddings.shape
    pairs = same_label_pairs(labels)
    distance = row_distances(embeddings).clamp_(min=band.clamp)
    other = labels[:, None] != labels[None, :]
    if among is not None:
        other = other & among
    admissible = other & (distance > band.low) & (distance < band.high)
    exists, in_band = other.any(1), admissible.any(1)
    # Whoever has nobody in the band draws uniformly from all other labels.
    admissible |= other & ~in_band[:, None]
    log_weight = log_inverse_density(distance, dimension) if band.weighted else torch.zeros_like(distance)
    log_weight.mul_(in_band[:, None]).masked_fill_(~admissible, float("-inf"))
    cumulative = torch.softmax(log_weight, dim=1).masked_fill_(~exists[:, None], 0.0).cumsum_(1)
    total = cumulative[:, -1:]
    point = torch.rand(n, draws or n, generator=rng, device=embeddings.device)
    point = (point if draws else point.gather(1, pairs.columns)) * total
    # Rounding may put a point on the total itself, past the last column of positive weight.
    point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, point, right=True).clamp_(max=n - 1)
    return Negatives(index, exists, in_band, pairs)
