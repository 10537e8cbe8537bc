"""Slow, obvious versions of the comparisons in tables: loops over seeds, and sums for integrals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """one - other at each seed that both have."""
    return [one[seed] - other[seed] for seed in sorted(one) if seed in other]


def tail(t: float, freedom: int, steps: int = 20_000) -> float:
    """The chance of a t value beyond ±t: one minus the area of Student's density between, by the midpoint rule."""
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    width = 2 * t / steps
    places = (-t + (step + 0.5) * width for step in range(steps))
    return 1 - sum(scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) * width for x in places)


def standard_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def p_value(values: Sequence[float]) -> float:
    """Two-sided, of the hypothesis that the mean is zero."""
    return tail(abs(math.fsum(values) / len(values)) / standard_error(values), len(values) - 1)


def holm(p_values: Sequence[float], comparisons: int) -> list[bool]:
    """Which of the hypotheses fall at 5 %: the smallest p-value must pass 5 % / all, the next 5 % / (all - 1), ..."""
    fallen = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (comparisons - rank) >= 0.05:
            break
        fallen[place] = True
    return fallen


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
