"""How much better one method is than another, over the seeds that both have finished, and how sure that is.

Trials of one seed share their teacher and their data, so the difference at a seed varies less than either accuracy:
methods are compared seed by seed. The interval is the percentile bootstrap of the mean difference (Efron 1979).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rgal.methods.names import uses_rgal
from rgal.reporting.results import Row, finished, numbers, uses_real_data

RESAMPLES = 10_000
EXACT = 6  # seeds, up to which all n^n resamples are taken instead: 46,656 at most
TAIL = 25  # resamples of 1,000 outside the 95 % interval on each side
DECIMALS = 9  # 0.3 - 0.1 - 0.2 points are none: an interval that touches zero must not seem to exclude it

Values = NDArray[np.float64]
Trials = Mapping[Row, pd.DataFrame]


@dataclass(frozen=True)
class Difference:
    """Mean difference over `seeds` shared seeds, and the ends of its 95 % interval, in the values' unit.

    `mean` is NaN without a shared seed, `low` and `high` with fewer than two.
    """

    mean: float
    low: float
    high: float
    seeds: int

    def columns(self, name: str) -> dict[str, Any]:
        """As columns of a table of accuracies, in the order of `difference_columns`."""
        values = (self.mean, self.low, self.high, self.seeds)
        return dict(zip(difference_columns(name), values, strict=True))


def difference_columns(name: str) -> tuple[str, ...]:
    return (f"{name}_mean_points", f"{name}_low_points", f"{name}_high_points", f"{name}_seeds")


def excludes_zero(low: float, high: float) -> bool:
    """Whether an interval lies on one side of zero; an unknown one (NaN) does not."""
    return low > 0 or high < 0


def by_seed(trials: pd.DataFrame, *columns: str) -> dict[float, float]:
    """Seed -> the sum of these columns of its finished trial, ascending; the mean where a seed ran twice.

    A trial without a seed, or without a finite number, has no partner and is left out.
    """
    done = finished(trials)
    seeds, *parts = (numbers(done, name).to_numpy() for name in ("seed", *columns))
    values = np.sum(parts, axis=0)
    known = np.isfinite(seeds) & np.isfinite(values)
    found: dict[float, list[float]] = {}
    for seed, value in sorted(zip(seeds[known].tolist(), values[known].tolist(), strict=True)):
        found.setdefault(seed, []).append(value)
    return {seed: math.fsum(several) / len(several) for seed, several in found.items()}


def paired_difference(one: Mapping[float, float], other: Mapping[float, float]) -> Difference:
    """`one` minus `other`, both by seed, over the seeds in both."""
    shared = sorted(one.keys() & other.keys())
    values = np.array([one[seed] - other[seed] for seed in shared], dtype=float).round(DECIMALS) + 0.0
    if not shared:
        return Difference(math.nan, math.nan, math.nan, 0)
    return Difference(float(values.mean().round(DECIMALS)), *bootstrap_interval(values), len(shared))


def bootstrap_interval(values: Values) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of values (n,); (NaN, NaN) for n < 2.

    Each end is a mean that a resample has, with at most 2.5 % of the resamples beyond it: [min, max] for two or three
    values. Too narrow for few values, as every bootstrap: its resamples vary by (n - 1) / n of the variance.
    """
    if len(values) < 2:
        return math.nan, math.nan
    means = values[_resamples(values)].mean(axis=1).round(DECIMALS) + 0.0
    outside = (len(means) - 1) * TAIL // 1000
    ends = np.partition(means, (outside, len(means) - 1 - outside))
    return float(ends[outside]), float(ends[len(means) - 1 - outside])


def _resamples(values: Values) -> NDArray[np.int64]:
    """Indices (resamples, n) into values (n,): every possible resample, or RESAMPLES that the values determine."""
    n = len(values)
    if n <= EXACT:
        return np.indices((n,) * n).reshape(n, -1).T
    digest = hashlib.sha256(values.astype("<f8").tobytes()).digest()
    random = np.random.RandomState(
        int.from_bytes(digest[:4], "little")
    )  # its stream is frozen in all versions
    return random.randint(n, size=(RESAMPLES, n), dtype=np.int64)


def strongest_baselines(rows: Trials, column: str) -> dict[str, str]:
    """Case -> the data-free method without RGAL that has the highest mean there; of equal ones the first row.

    A case in which no such method has a finished trial has no entry.
    """
    best: dict[str, tuple[float, str]] = {}
    for (case, name), trials in rows.items():
        if uses_rgal(name) or uses_real_data(trials):
            continue
        mean = round(float(numbers(finished(trials), column).mean()), DECIMALS)
        if mean > best.get(case, (-math.inf, ""))[0]:
            best[case] = (mean, name)
    return {case: name for case, (_, name) in best.items()}


VERSUS_BEST = "vs_best"
BASELINE = f"{VERSUS_BEST}_baseline"
VERSUS_BEST_COLUMNS = (*difference_columns(VERSUS_BEST), BASELINE)


def versus_best(rows: Trials, column: str) -> dict[Row, dict[str, Any]]:
    """Row -> its VERSUS_BEST_COLUMNS: the paired difference to the strongest baseline of its case, and its name.

    The baseline's own row has the name and no difference. Rows on real data, and cases without a baseline, have
    neither.
    """
    best = strongest_baselines(rows, column)
    others = {case: by_seed(rows[case, name], column) for case, name in best.items()}
    found = {}
    for (case, name), trials in rows.items():
        baseline = "" if uses_real_data(trials) else best.get(case, "")
        entry: dict[str, Any] = dict.fromkeys(VERSUS_BEST_COLUMNS, math.nan) | {BASELINE: baseline}
        if baseline and baseline != name:
            entry |= paired_difference(by_seed(trials, column), others[case]).columns(VERSUS_BEST)
        found[case, name] = entry
    return found
