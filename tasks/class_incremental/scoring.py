"""Classifiers that are computed from class statistics, for the test images of a phase: nothing is trained by steps.

Each is a value of `IncrementalSpec.classifier`. `fitted` solves in float64 and returns a function from features (N,D)
to scores (N,C).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.tasks.class_incremental.statistics import ClassStatistics, raised

Score = Callable[[Tensor], Tensor]


class StatisticClassifier(Protocol):
    """Score features by what is kept of the classes."""

    def fitted(self, kept: ClassStatistics, seed: int) -> Score:
        """Return the function from features (N,D) to scores (N,C).

        Args:
            kept: statistics of all classes so far.
            seed: of what the classifier draws; the same in all phases of a run.
        """
        ...

    def linear(self, kept: ClassStatistics) -> Tensor | None:
        """Return rows (C,D) that name the same class as the scores, without a bias; None where there are none."""
        ...


def required(value: Tensor | None) -> Tensor:
    """Return a statistic. Raises ValueError if the method does not keep it."""
    if value is None:
        raise ValueError("the recipe's classifier reads a statistic that the recipe does not keep")
    return value


@dataclass(frozen=True)
class NearestMean:
    """Name the class whose mean has the least angle to the feature: argmin_c |x^ - m_c^|, ^ for unit length."""

    def fitted(self, kept: ClassStatistics, seed: int) -> Score:
        rows = F.normalize(required(kept.means).double(), dim=1)
        return lambda x: F.normalize(x.double(), dim=1) @ rows.T

    def linear(self, kept: ClassStatistics) -> Tensor | None:
        return F.normalize(required(kept.means), dim=1)


@dataclass(frozen=True)
class Mahalanobis:
    """Name the class with the least (u - m)' R_c^-1 (u - m), u and m of unit length (FeCAM, AdaGauss).

    u = (x^p)^ and m = (m_c^p)^, p a power of each entry; R_c is the correlation matrix of the shrunk unbiased
    covariance of the p-th powers. There is neither a determinant nor a prior of the classes in it.

    Args:
        power: p. The run takes covariances of the same power.
        shrink: (a1, a2) of `shrunk`.
        times: how often the covariance is shrunk.
    """

    power: float = 1.0
    shrink: tuple[float, float] = (3.0, 0.0)
    times: int = 1

    def precisions(self, kept: ClassStatistics) -> Tensor:
        """Return R_c^-1 of every class, float64 (C,D,D)."""
        covariances = unbiased(required(kept.covariances).double(), required(kept.counts))
        for _ in range(self.times):
            covariances = torch.stack([shrunk(one, *self.shrink) for one in covariances])
        return torch.linalg.pinv(torch.stack([correlation(one) for one in covariances]), hermitian=True)

    def fitted(self, kept: ClassStatistics, seed: int) -> Score:
        precisions = self.precisions(kept)
        means = F.normalize(raised(required(kept.means).double(), self.power), dim=1)

        def score(x: Tensor) -> Tensor:
            u = F.normalize(raised(x.double(), self.power), dim=1)
            return -torch.stack([_squared(u - m, p) for m, p in zip(means, precisions, strict=True)], dim=1)

        return score

    def linear(self, kept: ClassStatistics) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Ridge:
    """Score h W with W = (G + gamma I)^-1 Q, G = sum h h' and Q = sum h e_y' over all images so far (ACIL, DPCR).

    G and Q are added up over the phases and solved at the end of each in float64: that equals the recursion of the
    authors in exact arithmetic, which in float32 ends 25 % off at K = 1024. Where a method keeps means, covariances
    and counts in place of G and Q, both are made of these: sum_c n_c (S_c + m_c m_c') and n_c m_c.

    Args:
        gamma: of the ridge.
        expand: K, if not 0: h = relu(x U), U (D,K) uniform in +-1/sqrt(D), drawn from the run's seed; else h = x.
        unit: whether the column of each class in W is brought to unit length.
    """

    gamma: float
    expand: int = 0
    unit: bool = False

    def inputs(self, features: Tensor, seed: int) -> Tensor:
        """Return h (N,K) of features (N,D), float64."""
        if not self.expand:
            return features.double()
        rng = torch.Generator().manual_seed(seed)  # on the host: the same on every device
        weight = torch.rand(features.shape[1], self.expand, generator=rng, dtype=torch.float64)
        reach = 1 / math.sqrt(features.shape[1])
        return (features.double() @ ((2 * weight - 1) * reach).to(features.device)).relu()

    def weight(self, kept: ClassStatistics) -> Tensor:
        """Return W, float64 (K,C)."""
        gram, cross = (kept.gram, kept.cross) if kept.gram is not None else products(kept)
        ridge = self.gamma * torch.eye(len(required(gram)), dtype=torch.float64, device=required(gram).device)
        weight = torch.linalg.solve(required(gram) + ridge, required(cross))
        return F.normalize(weight, dim=0) if self.unit else weight

    def fitted(self, kept: ClassStatistics, seed: int) -> Score:
        weight = self.weight(kept)
        return lambda x: self.inputs(x, seed) @ weight

    def linear(self, kept: ClassStatistics) -> Tensor | None:
        return None if self.expand else self.weight(kept).T


def products(kept: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Return G = sum_c n_c (S_c + m_c m_c') (D,D) and Q (D,C) with columns n_c m_c, float64.

    S_c is biased, so that both are the sums over the images themselves.
    """
    means, counts = required(kept.means).double(), required(kept.counts).double()
    second = required(kept.covariances).double() + means[:, :, None] * means[:, None, :]
    return (counts[:, None, None] * second).sum(0), (counts[:, None] * means).T


def unbiased(covariances: Tensor, counts: Tensor) -> Tensor:
    """Return covariances (C,D,D) divided by n - 1 in place of n; those of a single image stay 0."""
    return covariances * (counts / (counts - 1).clamp_min(1)).to(covariances)[:, None, None]


def shrunk(covariance: Tensor, diagonal: float, others: float) -> Tensor:
    """Return S + a1 v1 I + a2 v2 (1 1' - I) of S (D,D).

    v1 is the mean of the diagonal, v2 that of the other entries which are not exactly 0; 0 if all of them are, where
    FeCAM's code divides 0 by 0. A class without any spread gets the identity, of which a correlation exists.

    Args:
        covariance: S.
        diagonal: a1.
        others: a2.
    """
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    v1 = covariance.diagonal().mean()
    if not bool(v1 > 0):
        return covariance + identity
    beside = covariance * (1 - identity)
    v2 = beside.sum() / (beside != 0).sum().clamp_min(1)
    return covariance + diagonal * v1 * identity + others * v2 * (1 - identity)


def correlation(covariance: Tensor) -> Tensor:
    """Return S_ij / sqrt(S_ii S_jj) of S (D,D), whose diagonal is positive."""
    deviation = covariance.diagonal().sqrt()
    return covariance / (deviation[:, None] * deviation[None, :])


def _squared(rows: Tensor, precision: Tensor) -> Tensor:
    """Return x' P x of every row x, (N,), without a product of rows with rows."""
    return ((rows @ precision) * rows).sum(1)


class ScoredNet(nn.Module):
    """Show a network's images the classifier of its class statistics in place of its own.

    Args:
        net: its extractor is used, and shared.
        score: from features (N,D) to scores (N,C).
    """

    def __init__(self, net: nn.Module, score: Score) -> None:
        super().__init__()
        self.net, self.score = net, score

    def forward(self, x: Tensor) -> Tensor:
        features = observe(self.net, x, ("feature",)).required_feature.float()
        with torch.autocast(x.device.type, enabled=False):
            return self.score(features)
