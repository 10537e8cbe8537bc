"""Slow, obvious versions of what learners do with statistics of classes. float64, from the formulas. As in `naive`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def shrink(covariance: Tensor, a1: float, a2: float) -> Tensor:
    """S + a1 (mean of the diagonal) on the diagonal, + a2 (mean of what is not 0 beside it) elsewhere."""
    size = len(covariance)
    diagonal = [float(covariance[i, i]) for i in range(size)]
    beside = [float(covariance[i, j]) for i in range(size) for j in range(size) if i != j]
    beside = [value for value in beside if value != 0]
    v1, v2 = sum(diagonal) / size, sum(beside) / len(beside) if beside else 0.0
    found = covariance.clone()
    for i in range(size):
        for j in range(size):
            found[i, j] += a1 * v1 if i == j else a2 * v2
    return found


def mahalanobis(
    x: Tensor, mean: Tensor, rows: Tensor, power: float, shrinkage: tuple[float, float], times: int
) -> float:
    """Of one query to a class with these rows, as FeCAM and AdaGauss have it."""
    raised = rows.double() ** power
    centred = raised - raised.mean(0)
    covariance = centred.T @ centred / (len(rows) - 1)
    for _ in range(times):
        covariance = shrink(covariance, *shrinkage)
    size = len(covariance)
    for_inverse = torch.zeros_like(covariance)
    for i in range(size):
        for j in range(size):
            for_inverse[i, j] = covariance[i, j] / math.sqrt(covariance[i, i] * covariance[j, j])
    u, m = x.double() ** power, mean.double() ** power
    difference = u / u.norm() - m / m.norm()
    return float(difference @ torch.linalg.inv(for_inverse) @ difference)


def recursive_ridge(batches: Sequence[tuple[Tensor, Sequence[int]]], gamma: float) -> tuple[Tensor, Tensor]:
    """(W, R) of the release: A = (I + H R H')^-1, R <- R - R H'A H R, W <- W + R H'(Y - H W), new columns 0."""
    width = batches[0][0].shape[1]
    inverse = torch.eye(width, dtype=torch.float64) / gamma
    weight = torch.zeros(width, 0, dtype=torch.float64)
    for rows, labels in batches:
        h, classes = rows.double(), max([weight.shape[1] - 1, *labels]) + 1
        weight = torch.cat([weight, torch.zeros(width, classes - weight.shape[1], dtype=torch.float64)], 1)
        y = torch.zeros(len(h), classes, dtype=torch.float64)
        for i, label in enumerate(labels):
            y[i, label] = 1
        a = torch.linalg.inv(torch.eye(len(h), dtype=torch.float64) + h @ inverse @ h.T)
        inverse = inverse - inverse @ h.T @ a @ h @ inverse
        weight = weight + inverse @ h.T @ (y - h @ weight)
    return weight, inverse


def kernel_shift(
    means: Tensor, old: Tensor, new: Tensor, sigma: float, importance: Tensor | None = None
) -> Tensor:
    """The moves of means (C,D): SDC's without an importance, EFC's with one."""
    distances = [[_squared(g - m, importance) for g in old.double()] for m in means.double()]
    flat = [d for row in distances for d in row]
    moves = []
    for row in distances:
        if importance is None:
            weights = [math.exp(-d / (2 * sigma**2)) + 1e-5 for d in row]
        else:
            near = [(max(flat) - d) / (max(flat) - min(flat)) for d in row]
            weights = [math.exp(a / (2 * sigma**2)) for a in near]
        steps = zip(weights, old.double(), new.double(), strict=True)
        moves.append(sum(w / sum(weights) * (f - g) for w, g, f in steps))
    return torch.stack(moves)


def _squared(x: Tensor, importance: Tensor | None) -> float:
    return float(x @ x) if importance is None else float(x @ importance.double() @ x)


def importance(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """Mean over rows of sum_c p_c (d ln p_c / df)(d ln p_c / df)', class by class."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for f in features.double():
        p = torch.softmax(weight.double() @ f + bias.double(), 0)
        expected = sum(p_c * w for p_c, w in zip(p, weight.double(), strict=True))
        for p_c, w in zip(p, weight.double(), strict=True):
            total = total + p_c * torch.outer(w - expected, w - expected)
    return total / len(features)


def anti_collapse(rows: Tensor, limit: float = 1.0, jitter: float = 0.0) -> Tensor:
    """-mean_j min(L_jj, limit): L by Cholesky's own recursion, of the unbiased covariance + jitter I."""
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / (len(rows) - 1)
    size = len(covariance)
    covariance = covariance + jitter * torch.eye(size, dtype=rows.dtype)
    factor: dict[tuple[int, int], Tensor] = {}
    for i in range(size):
        for j in range(i + 1):
            rest = covariance[i, j] - sum(factor[i, k] * factor[j, k] for k in range(j))
            factor[i, j] = rest.sqrt() if i == j else rest / factor[j, j]
    return -sum(factor[j, j].clamp(max=limit) for j in range(size)) / size
