"""Slow, obvious versions of the comparisons in tables: loops over seeds and resamples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence


def differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """one - other at each seed that both have."""
    return [one[seed] - other[seed] for seed in sorted(one) if seed in other]


def all_resamples(values: Sequence[float]) -> Iterable[tuple[float, ...]]:
    """Every way to draw len(values) of the values with replacement."""
    return itertools.product(values, repeat=len(values))


def interval(resamples: Iterable[Sequence[float]]) -> tuple[float, float]:
    """The outermost means that keep at most 2.5 % of the resamples outside, on each side."""
    means = sorted(round(math.fsum(resample) / len(resample), 9) for resample in resamples)
    low = high = 0
    while (low + 1) / (len(means) - 1) <= 0.025:
        low += 1
    while (high + 1) / (len(means) - 1) <= 0.025:
        high += 1
    return means[low], means[len(means) - 1 - high]


def strongest(scores: Mapping[str, Sequence[float]], data_free: Mapping[str, bool]) -> str:
    """The data-free method without RGAL with the highest mean; the first of equal ones; "" where there is none."""
    best, name = -math.inf, ""
    for method, values in scores.items():
        if not data_free[method] or "rgal" in method or not values:
            continue
        mean = math.fsum(values) / len(values)
        if mean > best + 1e-9:
            best, name = mean, method
    return name
