"""Class-incremental metrics from counts: accuracy per phase, average incremental accuracy, forgetting.

Notation: phases are t = 0..T, 0 is the base; task j is the classes that are new in phase j. After phase t, c_tj of the
n_tj test images of task j are classified right, with the argmax over all classes so far. a_tj = 100 c_tj / n_tj, and
A_t = 100 sum_{j<=t} c_tj / sum_{j<=t} n_tj. Results are in percent, differences in percentage points.

`Counts` has a row for every phase: row t is (c_tj, n_tj) for j = 0..t. All functions raise ValueError for counts that
are empty, not lower-triangular, without images (n = 0) or impossible (c < 0, c > n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Counts = Sequence[Sequence[tuple[int, int]]]


def accuracy(counts: Counts, t: int) -> float:
    """Return A_t, the accuracy on the test images of all classes seen by phase t. Every image weighs the same.

    >>> accuracy([[(3, 4)], [(2, 4), (1, 1)]], t=1)
    60.0

    Raises:
        ValueError: unless 0 <= t <= T.
    """
    return _pooled(_row(counts, t))


def average_incremental(counts: Counts, with_base: bool = True) -> float:
    """Return AIA = 1/(T+1) sum_{t=0..T} A_t, or without the base phase 1/T sum_{t=1..T} A_t, which is NaN for T = 0.

    >>> average_incremental([[(3, 4)], [(2, 4), (1, 1)]])
    67.5
    """
    _check(counts)
    return _mean([_pooled(row) for row in counts[0 if with_base else 1 :]])


def last(counts: Counts) -> float:
    """Return A_T."""
    return accuracy(counts, len(counts) - 1)


def task_mean(counts: Counts, t: int) -> float:
    """Return 1/(t+1) sum_{j<=t} a_tj, in which every task weighs the same, as ABD reports. It is A_t for equal tasks.

    Raises:
        ValueError: unless 0 <= t <= T.
    """
    return _mean([_percent(pair) for pair in _row(counts, t)])


def forgetting(counts: Counts) -> float:
    """Return F = 1/T sum_{j<T} (max_{j<=l<T} a_lj - a_Tj), the loss since the best phase before the last; 0 for T = 0.

    >>> forgetting([[(3, 4)], [(2, 4), (1, 1)]])
    25.0
    """
    _check(counts)
    final = len(counts) - 1
    drops = [
        max(_percent(counts[phase][task]) for phase in range(task, final)) - _percent(counts[final][task])
        for task in range(final)
    ]
    return _mean(drops) if drops else 0.0


def initial_forgetting(counts: Counts) -> float:
    """Return F0 = 1/T sum_{j<T} (a_jj - a_Tj), the loss since a task was new; 0 for T = 0."""
    _check(counts)
    final = len(counts) - 1
    drops = [_percent(counts[task][task]) - _percent(counts[final][task]) for task in range(final)]
    return _mean(drops) if drops else 0.0


def backward_transfer(counts: Counts) -> float:
    """Return BWT = -F0."""
    return 0.0 - initial_forgetting(counts)  # a minus sign alone would print -0.0


def old_and_new(counts: Counts, t: int) -> tuple[float | None, float]:
    """Return the accuracy after phase t on the tasks before t (None for t = 0), and on task t.

    Raises:
        ValueError: unless 0 <= t <= T.
    """
    row = _row(counts, t)
    return (_pooled(row[:t]) if t else None), _percent(row[t])


def summary(counts: Counts) -> dict[str, float]:
    """Return all metrics of a run by name: those of one phase are taken after the last, T.

    aia, aia_without_base, last (A_T), task_mean (after T), forgetting (F), initial_forgetting (F0), bwt, old_top1 and
    new_top1 (`old_and_new` after T), base_top1 (A_0). For a run without increments (T = 0), aia_without_base and
    old_top1 are NaN.
    """
    final = len(counts) - 1
    old, new = old_and_new(counts, final)
    return {
        "aia": average_incremental(counts),
        "aia_without_base": average_incremental(counts, with_base=False),
        "last": last(counts),
        "task_mean": task_mean(counts, final),
        "forgetting": forgetting(counts),
        "initial_forgetting": initial_forgetting(counts),
        "bwt": backward_transfer(counts),
        "old_top1": math.nan if old is None else old,
        "new_top1": new,
        "base_top1": accuracy(counts, 0),
    }


def _check(counts: Counts) -> None:
    if len(counts) == 0:
        raise ValueError("counts are empty; expected a row for every phase")
    for phase, row in enumerate(counts):
        if len(row) != phase + 1:
            raise ValueError(f"row {phase} of the counts has {len(row)} tasks; expected {phase + 1}")
        for task, (correct, total) in enumerate(row):
            if total < 1 or not 0 <= correct <= total:
                raise ValueError(f"{correct} of {total} images of task {task} are right after phase {phase}")


def _row(counts: Counts, t: int) -> Sequence[tuple[int, int]]:
    """Check the counts and return row t."""
    _check(counts)
    if not 0 <= t < len(counts):
        raise ValueError(f"phase is {t}; the counts have phases 0 to {len(counts) - 1}")
    return counts[t]


def _percent(pair: tuple[int, int]) -> float:
    correct, total = pair
    return 100 * correct / total


def _pooled(row: Sequence[tuple[int, int]]) -> float:
    return _percent((sum(correct for correct, _ in row), sum(total for _, total in row)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
