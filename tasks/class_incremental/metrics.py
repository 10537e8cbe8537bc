"""Class-incremental metrics from counts: accuracy per phase, average incremental accuracy, forgetting.

Notation: phase t = 0..T (0 = base), task j = the classes new in phase j; (c_tj, n_tj) = test images of task j
that are right after phase t (argmax over all classes seen by then), and how many there are.
a_tj = 100 c_tj / n_tj, and A_t = 100 sum_{j<=t} c_tj / sum_{j<=t} n_tj. All results are percent, or
percentage points for differences.

`Counts` has a row for every phase: row t is (c_tj, n_tj) for j = 0..t. All functions raise ValueError for
counts that are empty, not lower-triangular, without images (n = 0) or impossible (c < 0, c > n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Counts = Sequence[Sequence[tuple[int, int]]]


def accuracy(counts: Counts, t: int) -> float:
    """A_t: accuracy on the test images of all classes seen after phase t; every image weighs the same.

    Raises ValueError unless 0 <= t <= T.
    """
    return _pooled(_row(counts, t))


def average_incremental(counts: Counts, with_base: bool = True) -> float:
    """AIA = 1/(T+1) sum_{t=0..T} A_t; without the base phase 1/T sum_{t=1..T} A_t, which is NaN for T = 0."""
    _check(counts)
    return _mean([_pooled(row) for row in counts[0 if with_base else 1 :]])


def last(counts: Counts) -> float:
    """A_T."""
    return accuracy(counts, len(counts) - 1)


def task_mean(counts: Counts, t: int) -> float:
    """1/(t+1) sum_{j<=t} a_tj: every task weighs the same, as ABD reports. A_t only if all are equally large.

    Raises ValueError unless 0 <= t <= T.
    """
    return _mean([_percent(pair) for pair in _row(counts, t)])


def forgetting(counts: Counts) -> float:
    """F = 1/T sum_{j<T} (max_{j<=l<T} a_lj - a_Tj): from the best before the last phase. 0 for T = 0."""
    _check(counts)
    final = len(counts) - 1
    drops = [
        max(_percent(counts[phase][task]) for phase in range(task, final)) - _percent(counts[final][task])
        for task in range(final)
    ]
    return _mean(drops) if drops else 0.0


def initial_forgetting(counts: Counts) -> float:
    """F0 = 1/T sum_{j<T} (a_jj - a_Tj): from the accuracy when the task was new. 0 for T = 0."""
    _check(counts)
    final = len(counts) - 1
    drops = [_percent(counts[task][task]) - _percent(counts[final][task]) for task in range(final)]
    return _mean(drops) if drops else 0.0


def backward_transfer(counts: Counts) -> float:
    """BWT = -F0."""
    return 0.0 - initial_forgetting(counts)  # a minus sign alone would print -0.0


def old_and_new(counts: Counts, t: int) -> tuple[float | None, float]:
    """A_t split: accuracy on the images of the tasks before t (None for t = 0), and on those of task t.

    Raises ValueError unless 0 <= t <= T.
    """
    row = _row(counts, t)
    return (_pooled(row[:t]) if t else None), _percent(row[t])


def summary(counts: Counts) -> dict[str, float]:
    """The numbers of a run, taken after its last phase T unless they are about several.

    aia, aia_without_base, last (A_T), task_mean (after T), forgetting (F), initial_forgetting (F0), bwt,
    old_top1 and new_top1 (A_T split), base_top1 (A_0, after the base phase). Of a run without increments
    (T = 0) aia_without_base and old_top1 are NaN.
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
    """Row t of counts that are checked first."""
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
