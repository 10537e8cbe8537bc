"""Slow, obvious versions of what works class by class: IntraQ's terms and Qimera's mixtures. As in `naive`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.helpers.naive import softmax


def inception(logits: Tensor, labels: Sequence[int], goals: Sequence[float]) -> Tensor:
    """(1/N) sum_i (p_i[label_i] - goal_i)^2; 0 without images."""
    total = 0.0 * logits.sum()
    for row, label, goal in zip(logits, labels, goals, strict=True):
        total = total + (softmax(row)[label] - goal) ** 2
    return total / max(1, len(logits))


def cosine(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """<a,b> / (|a| |b|), norms not below eps."""
    norms = [torch.sqrt((v * v).sum()) if bool((v != 0).any()) else 0.0 * v.sum() for v in (a, b)]
    return (a * b).sum() / (norms[0].clamp_min(eps) * norms[1].clamp_min(eps))


def marginal_distance(
    features: Tensor, labels: Sequence[int], earlier: Sequence[tuple[int, Tensor]], lower: float, upper: float
) -> Tensor:
    """Mean over images whose class occurs in `earlier`, pairs of label and feature, of [lower - d]_+ + [d - upper]_+, d
    the cosine distance to the mean of the class's earlier features."""
    total, count = 0.0 * features.sum(), 0
    for row, label in zip(features, labels, strict=True):
        same = [feature.double() for other, feature in earlier if other == label]
        if not same:
            continue
        d = 1 - cosine(row, sum(same) / len(same))
        count += 1
        if d < lower:
            total = total + lower - d
        if d > upper:
            total = total + d - upper
    return total / max(1, count)


def layer_norm(row: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps), biased variance."""
    mean = sum(row) / len(row)
    var = sum((x - mean) ** 2 for x in row) / len(row)
    return torch.stack([(x - mean) / torch.sqrt(var + eps) for x in row])


def mixed_input(table: Tensor, labels: Sequence[int], noise: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k normalise(E(y_k) + z_k) of one image: table (C,D), noise (K,D), weights (K,)."""
    return sum(w * layer_norm(table[y] + z) for y, z, w in zip(labels, noise, weights, strict=True))


def class_shares(labels: Sequence[Sequence[int]], weights: Tensor, classes: int) -> Tensor:
    """Row i, column c: the sum of the weights w_ik whose label y_ik is c."""
    rows = []
    for row, own in zip(labels, weights, strict=True):
        shares = [0.0 * own.sum() for _ in range(classes)]
        for label, weight in zip(row, own, strict=True):
            shares[label] = shares[label] + weight
        rows.append(torch.stack(shares))
    return torch.stack(rows)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """-(1/N) sum_i sum_c t_ic ln p_ic."""
    rows = zip(logits, shares, strict=True)
    return sum(-(t * torch.log(softmax(z))).sum() for z, t in rows) / len(logits)
