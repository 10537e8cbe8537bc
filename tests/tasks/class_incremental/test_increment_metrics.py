"""Class-incremental metrics: known values, loops over images, and counts that cannot be."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import pytest

from rgal.tasks.class_incremental import metrics as metrics
from tests.helpers import naive_increment as naive

Table = list[list[tuple[int, int]]]
KEYS = {
    "aia",
    "aia_without_base",
    "last",
    "task_mean",
    "forgetting",
    "initial_forgetting",
    "bwt",
    "old_top1",
    "new_top1",
    "base_top1",
}
FUNCTIONS: dict[str, Callable[[Table], object]] = {
    "accuracy": lambda counts: metrics.accuracy(counts, 0),
    "average_incremental": metrics.average_incremental,
    "average_without_base": lambda counts: metrics.average_incremental(counts, with_base=False),
    "last": metrics.last,
    "task_mean": lambda counts: metrics.task_mean(counts, 0),
    "forgetting": metrics.forgetting,
    "initial_forgetting": metrics.initial_forgetting,
    "backward_transfer": metrics.backward_transfer,
    "old_and_new": lambda counts: metrics.old_and_new(counts, 0),
    "summary": metrics.summary,
}


def table(shares: list[list[float]], sizes: list[int]) -> Table:
    """Counts from a_tj in 0..1 and the images of each task."""
    return [[(round(a * n), n) for a, n in zip(row, sizes, strict=False)] for row in shares]


def drawn(seed: int, phases: int) -> Table:
    """Random counts of `phases` rows."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 40) for _ in range(phases)]
    return [[(draw.randint(0, n), n) for n in sizes[: phase + 1]] for phase in range(phases)]


def test_equal_tasks() -> None:
    counts = table([[1], [0.5, 1], [0, 0.5, 1]], [10, 10, 10])
    assert [metrics.accuracy(counts, t) for t in range(3)] == [100, 75, 50]
    assert [metrics.task_mean(counts, t) for t in range(3)] == [100, 75, 50]
    assert metrics.average_incremental(counts) == 75
    assert metrics.average_incremental(counts, with_base=False) == 62.5
    assert metrics.last(counts) == 50
    # continuum 1.2.7 gives 50 and -33 here: it is off by one task.
    assert metrics.forgetting(counts) == 75
    assert metrics.initial_forgetting(counts) == 75
    assert metrics.backward_transfer(counts) == -75
    assert metrics.old_and_new(counts, 0) == (None, 100)
    assert metrics.old_and_new(counts, 1) == (50, 100)
    assert metrics.old_and_new(counts, 2) == (25, 100)
    assert metrics.summary(counts) == {
        "aia": 75,
        "aia_without_base": 62.5,
        "last": 50,
        "task_mean": 50,
        "forgetting": 75,
        "initial_forgetting": 75,
        "bwt": -75,
        "old_top1": 25,
        "new_top1": 100,
        "base_top1": 100,
    }


def test_two_tasks() -> None:
    counts = table([[1], [0.5, 1]], [10, 10])
    assert metrics.forgetting(counts) == 50  # continuum: 0
    assert metrics.backward_transfer(counts) == -50


def test_a_large_base_separates_images_from_tasks() -> None:
    counts = table([[0.8], [0.6, 1], [0.4, 0.5, 0.9]], [50, 10, 10])
    assert metrics.accuracy(counts, 1) == pytest.approx(100 * 40 / 60)
    assert metrics.task_mean(counts, 1) == pytest.approx(80)
    assert metrics.last(counts) == pytest.approx(100 * (20 + 5 + 9) / 70)  # 48.6
    assert metrics.task_mean(counts, 2) == pytest.approx(60)
    assert metrics.average_incremental(counts) == pytest.approx((80 + 100 * 40 / 60 + 100 * 34 / 70) / 3)
    old, new = metrics.old_and_new(counts, 2)
    assert old == pytest.approx(100 * 25 / 60)  # weighted by images, not the mean of 40 and 50
    assert new == pytest.approx(90)
    assert metrics.forgetting(counts) == pytest.approx((40 + 50) / 2)  # over tasks, as in its definition


def test_a_task_that_improves_later_separates_the_two_forgettings() -> None:
    counts = table([[0.5], [0.9, 1], [0.6, 1, 1]], [10, 10, 10])
    assert metrics.forgetting(counts) == pytest.approx((0.9 - 0.6) / 2 * 100)
    assert metrics.initial_forgetting(counts) == pytest.approx((0.5 - 0.6) / 2 * 100)
    assert metrics.backward_transfer(counts) == pytest.approx(5)


def test_the_last_phase_is_no_candidate_for_the_best() -> None:
    counts = table([[0.5], [0.5, 1], [0.8, 1, 1]], [10, 10, 10])
    assert metrics.forgetting(counts) == pytest.approx(-15)  # mammoth's maximum over all rows would give 0


def test_a_run_without_increments() -> None:
    counts = [[(3, 4)]]
    numbers = metrics.summary(counts)
    assert numbers.keys() == KEYS
    assert [numbers[key] for key in ("aia", "last", "task_mean", "new_top1", "base_top1")] == [75] * 5
    for key in ("forgetting", "initial_forgetting", "bwt"):
        assert str(numbers[key]) == "0.0"
    assert math.isnan(numbers["aia_without_base"])
    assert math.isnan(numbers["old_top1"])


def test_nothing_forgotten_is_no_negative_zero() -> None:
    assert str(metrics.backward_transfer(table([[1], [1, 1]], [4, 4]))) == "0.0"


@pytest.mark.parametrize("phases", [2, 3, 6, 11])
@pytest.mark.parametrize("seed", range(5))
def test_against_loops_over_images(seed: int, phases: int) -> None:
    counts = drawn(seed, phases)
    images = naive.images_of(counts)
    for phase in range(phases):
        assert metrics.accuracy(counts, phase) == pytest.approx(float(naive.accuracy(images, phase)))
        assert metrics.task_mean(counts, phase) == pytest.approx(float(naive.task_mean(images, phase)))
        old, new = metrics.old_and_new(counts, phase)
        assert new == pytest.approx(float(naive.new(images, phase)))
        if phase == 0:
            assert old is None
        else:
            assert old == pytest.approx(float(naive.old(images, phase)))
    last = phases - 1
    expected = {
        "aia": naive.average_incremental(images, True),
        "aia_without_base": naive.average_incremental(images, False),
        "last": naive.accuracy(images, last),
        "task_mean": naive.task_mean(images, last),
        "forgetting": naive.forgetting(images),
        "initial_forgetting": naive.initial_forgetting(images),
        "bwt": naive.backward_transfer(images),
        "old_top1": naive.old(images, last),
        "new_top1": naive.new(images, last),
        "base_top1": naive.accuracy(images, 0),
    }
    numbers = metrics.summary(counts)
    assert numbers.keys() == expected.keys() == KEYS
    for key, value in expected.items():
        assert numbers[key] == pytest.approx(float(value), abs=1e-9), key
        assert type(numbers[key]) is float
    assert metrics.average_incremental(counts) == numbers["aia"]
    assert metrics.average_incremental(counts, with_base=False) == numbers["aia_without_base"]
    assert metrics.last(counts) == numbers["last"]
    assert metrics.forgetting(counts) == numbers["forgetting"]
    assert metrics.initial_forgetting(counts) == numbers["initial_forgetting"]
    assert metrics.backward_transfer(counts) == numbers["bwt"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_changes_its_input(name: str) -> None:
    counts = drawn(0, 4)
    before = copy.deepcopy(counts)
    first = FUNCTIONS[name](counts)
    assert counts == before
    frozen = tuple(tuple(row) for row in counts)  # any sequence will do, one that cannot be changed as well
    assert FUNCTIONS[name](frozen) == first  # type: ignore[arg-type]
    assert FUNCTIONS[name]([[list(pair) for pair in row] for row in counts]) == first  # type: ignore[misc]


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [[]],
        [[(1, 2), (1, 2)]],
        [[(1, 2)], [(1, 2)]],
        [[(1, 2)], [(1, 2), (1, 2), (1, 2)]],
        [[(1, 2), (1, 2)], [(1, 2), (1, 2)]],
        [[(0, 0)]],
        [[(1, 2)], [(1, 2), (0, 0)]],
        [[(1, 2)], [(0, 0), (1, 2)]],
        [[(0, -1)]],
        [[(3, 2)]],
        [[(-1, 2)]],
    ],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_counts_that_cannot_be(name: str, counts: Table) -> None:
    with pytest.raises(ValueError, match="counts|images of task"):
        FUNCTIONS[name](counts)


@pytest.mark.parametrize("function", [metrics.accuracy, metrics.task_mean, metrics.old_and_new])
@pytest.mark.parametrize("t", [-1, 2])
def test_phases_that_are_not_there(function: Callable[[Table, int], object], t: int) -> None:
    with pytest.raises(ValueError, match="phases 0 to 1"):
        function(table([[1], [1, 1]], [2, 2]), t)
