"""How much better one method is than another, over the seeds that both have finished, and how sure that is.

Trials of one seed share their teacher and their data, so the difference at a seed varies less than either accuracy:
methods are compared seed by seed, and only where the teacher is the same. Intervals and p-values are those of the
paired t test (Student 1908).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from rgal.methods.names import host_of, uses_rgal
from rgal.reporting.results import MethodTrials, Row
from rgal.suite.measures import Measure

LEAST_INTERVAL = 3  # shared seeds from which on a difference has an interval
LEAST_BOLD = 5  # shared seeds from which on a difference can be called one
LEVEL = 0.05
Seed = float | tuple[float, str]  # what two trials of a pair share: the seed, and the teacher if it is known
DECIMALS = 9  # 0.3 - 0.1 - 0.2 points are none: an interval that touches zero must not seem to exclude it


@dataclass(frozen=True)
class Difference:
    """Mean difference over `seeds` shared seeds, the ends of its 95 % interval, and its p-value.

    `mean` is NaN without a shared seed, `seeds` where nothing is compared; `low`, `high` and `p` with fewer than
    `LEAST_INTERVAL`. `p` is two-sided and, once a table is made, adjusted for the number of its comparisons.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: float = math.nan
    p: float = math.nan


def is_significant(seeds: float, p: float) -> bool:
    """Tell whether a difference may be printed bold: an adjusted p-value below 5 %, over enough seeds."""
    return seeds >= LEAST_BOLD and p < LEVEL


def by_seed(trials: MethodTrials, values: pd.Series[float]) -> dict[Seed, float]:
    """Map each seed, with its teacher if that is known, to its finished trial's value, ascending; the mean of several.

    A trial without a seed, or without a finite number, has no partner and is left out.
    """
    pairs = zip(trials.numbers("seed").tolist(), _teachers(trials), values.tolist(), strict=True)
    values_of: dict[Seed, list[float]] = {}
    for seed, teacher, value in sorted(pair for pair in pairs if not math.isnan(pair[0] + pair[2])):
        values_of.setdefault((seed, teacher) if teacher else seed, []).append(value)
    return {seed: math.fsum(several) / len(several) for seed, several in values_of.items()}


def _teachers(trials: MethodTrials) -> list[str]:
    """What each finished trial distils from; "" where a method may have a first model of its own, or it is unknown."""
    if "teacher_key" not in trials.finished.columns:
        return [""] * len(trials.finished)
    pairs = zip(trials.finished["teacher_key"].fillna(""), trials.numbers("teacher_top1"), strict=True)
    return ["" if math.isnan(top1) else str(key) for key, top1 in pairs]


def paired_difference(one: Mapping[Seed, float], other: Mapping[Seed, float]) -> Difference:
    """Compare `one` with `other`, both by seed, over the seeds in both: the mean of one - other, with its interval."""
    shared = [seed for seed in one if seed in other]
    values = np.array([one[seed] - other[seed] for seed in shared], dtype=float).round(DECIMALS) + 0.0
    if not shared:
        return Difference(seeds=0)
    mean = float(values.mean().round(DECIMALS))
    if len(values) < LEAST_INTERVAL:
        return Difference(mean, seeds=len(values))
    if np.ptp(values) == 0:  # no spread: a t value would be a quotient by zero
        return Difference(mean, mean, mean, len(values), 0.0 if mean else 1.0)
    # This is scipy.stats.ttest_1samp to the last bit; scipy.stats takes longer to import than tables to make.
    n, estimate = len(values), values.mean()
    error = math.sqrt(((values - estimate) ** 2).mean() * (n / (n - 1)) / n)
    tail = (1 - (1 - LEVEL)) / 2
    low, high = special.stdtrit(n - 1, (tail, 1 - tail)) * error + estimate
    p = 2 * special.stdtr(n - 1, -abs(estimate / error))
    return Difference(mean, float(low), float(high), n, float(p))


def holm(p_values: Sequence[float], comparisons: int | None = None) -> list[float]:
    """Adjust p-values for the number of comparisons, so that 5 % bounds the chance of any false one (Holm 1979).

    Args:
        p_values: of the comparisons that are shown; NaN where there is none, which stays NaN.
        comparisons: how many there are in all, where the shown ones were chosen among more; by default all are shown.
    """
    every = len(p_values) if comparisons is None else comparisons
    adjusted, least = [math.nan] * len(p_values), 0.0
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for rank, (p, place) in enumerate(tested):
        least = max(least, min(1.0, (every - rank) * p))
        adjusted[place] = least
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """A row's difference to the strongest baseline of its case, and that baseline's name; none of its own row."""

    difference: Difference = Difference()
    baseline: str = ""


def baselines(rows: Mapping[Row, MethodTrials]) -> list[MethodTrials]:
    """Return the rows that can be the strongest baseline: data-free, without RGAL, and finished."""
    return [row for row in rows.values() if row.data_free and not uses_rgal(row.method) and len(row.finished)]


def strongest_baselines(rows: Mapping[Row, MethodTrials], measure: Measure) -> dict[str, str]:
    """Map each case to the data-free method without RGAL that has the best mean there; of equal ones the first row.

    A case in which no such method has a finished trial has no entry.
    """
    sign = -1 if measure.better == "lower" else 1
    best: dict[str, tuple[float, str]] = {}
    for row in baselines(rows):
        mean = sign * round(float(row.measured(measure).mean()), DECIMALS)
        if mean > best.get(row.case, (-math.inf, ""))[0]:
            best[row.case] = (mean, row.method)
    return {case: name for case, (_, name) in best.items()}


def versus_best(rows: Mapping[Row, MethodTrials], measure: Measure) -> dict[Row, Comparison]:
    """Map each row to its comparison with the strongest baseline of its case; p-values are adjusted for
    `comparisons(rows)`.

    Rows on real data, and cases without a baseline, have neither a difference nor a name.
    """
    best = strongest_baselines(rows, measure)
    compared: dict[Row, Comparison] = {}
    for key, row in rows.items():
        baseline = best.get(row.case, "") if row.data_free else ""
        difference = Difference()
        if baseline and baseline != row.method:
            pair = (row, rows[row.case, baseline])
            difference = paired_difference(*(by_seed(one, one.measured(measure)) for one in pair))
        compared[key] = Comparison(difference, baseline)
    adjusted = holm([comparison.difference.p for comparison in compared.values()], comparisons(rows))
    return {
        key: replace(comparison, difference=replace(comparison.difference, p=p))
        for (key, comparison), p in zip(compared.items(), adjusted, strict=True)
    }


def comparisons(rows: Mapping[Row, MethodTrials]) -> int:
    """Count the pairs of a finished method and a baseline a table could have compared, whichever baseline was best.

    Choosing the best one of many that are equally good makes all others seem worse; counting every pair allows for it.
    """
    free = [row for row in rows.values() if row.data_free and len(row.finished)]
    count = 0
    for case in {row.case for row in free}:
        here = [row for row in free if row.case == case]
        n = sum(not uses_rgal(row.method) for row in here)
        count += n * (n - 1) // 2 + n * (len(here) - n)
    return count


def hosts(rows: Mapping[Row, MethodTrials]) -> dict[Row, MethodTrials]:
    """(case, method with RGAL) -> its host in that case, of finished ones."""
    done = [row for row, trials in rows.items() if len(trials.finished)]
    names = {(case, name): host_of(name, [other for at, other in done if at == case]) for case, name in done}
    return {row: rows[row[0], host] for row, host in names.items() if host}


def versus_hosts(
    rows: Mapping[Row, MethodTrials], measure: Measure, comparisons: int | None = None
) -> dict[Row, Difference]:
    """(case, method with RGAL) -> its difference to its own host, with adjusted p-values.

    Args:
        rows: all rows of a group.
        measure: what is compared.
        comparisons: for how many the p-values are adjusted; None: for the number of these differences.
    """
    pairs = {row: (rows[row], host) for row, host in hosts(rows).items()}
    raw = {
        key: paired_difference(*(by_seed(one, one.measured(measure)) for one in pair))
        for key, pair in pairs.items()
    }
    adjusted = holm([difference.p for difference in raw.values()], comparisons)
    return {key: replace(difference, p=p) for (key, difference), p in zip(raw.items(), adjusted, strict=True)}
