"""Paired differences and their bootstrap intervals against loops, and the names that say what is compared."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rgal.methods.names import host_of, uses_rgal
from rgal.reporting.results import method_rows
from rgal.reporting.statistics import (
    EXACT,
    Difference,
    bootstrap_interval,
    by_seed,
    excludes_zero,
    paired_difference,
    strongest_baselines,
    versus_best,
)
from rgal.reporting.tables.notes import FEW_SEEDS, interval_notes
from tests.helpers import naive_statistics as naive
from tests.helpers.reporting_builders import REFERENCE, case_trial, some_results, trial

NAN = math.nan


@pytest.mark.parametrize("n", range(2, EXACT + 1))
@pytest.mark.parametrize("seed", [0, 1])
def test_few_seeds_have_the_interval_of_all_their_resamples(n: int, seed: int) -> None:
    values = np.random.RandomState(seed).normal(0.5, 2, n).round(2)
    assert bootstrap_interval(values) == pytest.approx(naive.interval(naive.all_resamples(list(values))))


def test_two_and_three_seeds_have_their_range_as_interval() -> None:
    assert bootstrap_interval(np.array([2.0, -1.0])) == (-1.0, 2.0)
    assert bootstrap_interval(np.array([2.0, 5.0, 3.0])) == (2.0, 5.0)


def test_many_seeds_come_close_to_the_interval_of_all_their_resamples() -> None:
    """7 values: 823,543 resamples, of which 10,000 are drawn."""
    values = np.array([0.3, 1.2, -0.5, 2.2, 0.9, 1.7, 0.1])
    exact = naive.interval(naive.all_resamples(list(values)))
    drawn = bootstrap_interval(values)
    assert drawn != exact and drawn == pytest.approx(exact, abs=0.03)


def test_one_value_and_none_have_no_interval() -> None:
    for values in ([], [1.0]):
        assert all(math.isnan(end) for end in bootstrap_interval(np.array(values, dtype=float)))


@pytest.mark.parametrize("n", [2, 5, 12])
def test_equal_differences_have_an_interval_without_width(n: int) -> None:
    assert bootstrap_interval(np.full(n, 0.1)) == (0.1, 0.1)
    assert bootstrap_interval(np.zeros(n)) == (0.0, 0.0)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_exchanging_the_methods_mirrors_the_difference(n: int) -> None:
    random = np.random.RandomState(n)
    one, other = (dict(enumerate(random.normal(90, 1, n).tolist())) for _ in range(2))
    here, there = paired_difference(one, other), paired_difference(other, one)
    assert here.mean == -there.mean
    # beyond EXACT seeds both draw their own resamples
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low), abs=0 if n <= EXACT else 0.1)


def test_only_shared_seeds_count() -> None:
    one, other = {0: 90.0, 1: 92.0, 3: 99.0, 4: 91.0}, {4: 90.0, 1: 90.5, 0: 90.5, 2: 10.0}
    expected = naive.differences(one, other)
    assert expected == [-0.5, 1.5, 1.0]
    found = paired_difference(one, other)
    assert found == Difference(pytest.approx(2 / 3), -0.5, 1.5, 3)


def test_one_shared_seed_has_a_difference_alone_and_none_has_nothing() -> None:
    one = paired_difference({0: 90.0, 1: 92.0}, {1: 90.5})
    assert (one.mean, one.seeds) == (1.5, 1) and math.isnan(one.low) and math.isnan(one.high)
    for empty in ({}, {7: 1.0}):
        none = paired_difference({0: 90.0}, empty)
        assert none.seeds == 0 and math.isnan(none.mean)


def test_rounding_does_not_move_an_interval_off_zero() -> None:
    """0.1 + 0.2 - 0.3 is 6e-17, which is above zero."""
    found = paired_difference({0: 0.1 + 0.2, 1: 5.0}, {0: 0.3, 1: 1.0})
    assert found.low == 0.0 and not excludes_zero(found.low, found.high)


@pytest.mark.parametrize(
    ("low", "high", "excluded"),
    [(0.1, 2.0, True), (-2.0, -0.1, True), (-1.0, 1.0, False), (0.0, 1.0, False), (NAN, NAN, False)],
)
def test_an_interval_excludes_zero_or_not(low: float, high: float, excluded: bool) -> None:
    assert excludes_zero(low, high) is excluded


def test_trials_without_a_seed_or_a_number_have_no_partner() -> None:
    frame = pd.DataFrame(
        [
            trial("cmi", 0, 1, 92.0),
            trial("cmi", 0, 0, 90.0),
            trial("cmi", 0, 0, 94.0),  # ran twice
            trial("cmi", 0, 2, 80.0, status="failed"),
            trial("cmi", 0, 3, math.nan),
            trial("cmi", 0, 4, math.inf),
            {**trial("cmi", 0, 5, 90.0), "seed": None},
        ]
    )
    assert by_seed(frame, "last") == {0: 92.0, 1: 92.0}
    assert by_seed(frame.drop(columns="seed"), "last") == {}
    assert by_seed(pd.DataFrame(), "last") == {}


def test_several_columns_of_a_seed_are_added() -> None:
    frame = pd.DataFrame([trial("cmi", 0, seed, 90.0, student_seconds=seed + 1.0) for seed in (1, 0)])
    assert by_seed(frame, "synthesis_seconds", "student_seconds") == {0: 1235.4, 1: 1236.4}
    assert by_seed(frame, "synthesis_seconds", "absent") == {}


def test_another_process_and_another_order_draw_the_same_resamples() -> None:
    values = np.random.RandomState(0).normal(1, 3, 9).tolist()
    one, zero = dict(enumerate(values)), dict.fromkeys(range(9), 0.0)
    here = paired_difference(one, zero)
    assert paired_difference(dict(reversed(one.items())), zero) == here
    code = (
        "from rgal.reporting.statistics import paired_difference\n"
        f"print(repr(paired_difference({one!r}, {zero!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REFERENCE.parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == repr(here)


@pytest.mark.parametrize(("n", "share"), [(2, 1 / 2), (3, 1 / 4), (5, 1 / 6)])
def test_the_note_on_few_seeds_says_what_happens_to_equal_methods(n: int, share: float) -> None:
    random = np.random.RandomState(n)
    hits = [excludes_zero(*bootstrap_interval(random.normal(0, 1, n))) for _ in range(1500)]
    assert np.mean(hits) == pytest.approx(share, abs=0.035)
    assert interval_notes(pd.Series([n])) == [FEW_SEEDS]
    assert interval_notes(pd.Series([20.0, NAN, 0.0])) == []


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        ("rgal", True),
        ("rgal[follows=code]", True),
        ("cmi+rgal", True),
        ("fast[k=10]+rgal[spread=0.01]", True),
        ("abd[source=rgal]", True),  # trains on images that RGAL made
        ("cmi", False),
        ("abd[source=cmi]", False),
        ("rgal_like", False),
        ("gargal", False),
    ],
)
def test_a_name_says_whether_rgal_is_in_a_method(name: str, uses: bool) -> None:
    assert uses_rgal(name) is uses


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("cmi+rgal", "cmi"),
        ("fast[k=10]+rgal", "fast[k=10]"),
        ("abd[source=cmi]+rgal[spread=0.01]", "abd[source=cmi]"),
        ("abd[source=cmi+rgal]+rgal", "abd[source=cmi+rgal]"),  # the first one outside brackets
        ("abd[source=cmi+rgal]", ""),
        ("rgal", "plain"),
        ("rgal[follows=code]", "plain"),
        ("rgal[adv=0.5,follows=code]", "plain[adv=0.5]"),
        ("fast+rgal", ""),  # fast with another k is another host
        ("cmi+rgalx", ""),
        ("cmi", ""),
        ("plain", ""),
        ("", ""),
    ],
)
def test_a_name_says_what_rgal_was_added_to(name: str, host: str) -> None:
    present = ["cmi", "fast[k=10]", "abd[source=cmi]", "abd[source=cmi+rgal]", "plain", "plain[adv=0.5]"]
    assert host_of(name, present) == host
    assert host_of(name, []) == ""


def test_the_strongest_baseline_is_data_free_and_without_rgal() -> None:
    """cmi has the mean 92; scratch, on real data, and cmi+rgal are not asked."""
    rows = method_rows(some_results())
    scores = {
        name: list(trials.loc[trials["status"] == "finished", "last"]) for (_, name), trials in rows.items()
    }
    free = {name: bool(trials["data_free"].all()) for (_, name), trials in rows.items()}
    assert strongest_baselines(rows, "last") == {"": naive.strongest(scores, free)} == {"": "cmi"}


def test_of_equal_baselines_the_first_of_the_suite_is_taken() -> None:
    frame = pd.DataFrame([trial("zskt", 0, 0, 90.0), trial("cmi", 1, 0, 90.0), trial("dafl", 2, 0, 89.0)])
    assert strongest_baselines(method_rows(frame), "last") == {"": "zskt"}


def test_each_case_has_its_own_strongest_baseline() -> None:
    frame = pd.DataFrame(
        [
            case_trial("w8a8", "gdfq", 0, 0, 92.0),
            case_trial("w8a8", "zeroq", 1, 0, 93.0),
            case_trial("w4a4", "gdfq", 0, 0, 80.0),
            case_trial("w4a4", "zeroq", 1, 0, NAN, status="failed"),
            case_trial("w2a2", "rgal", 2, 0, 50.0),
        ]
    )
    rows = method_rows(frame)
    assert strongest_baselines(rows, "last") == {"w8a8": "zeroq", "w4a4": "gdfq"}
    found = versus_best(rows, "last")
    assert found["w8a8", "gdfq"]["vs_best_mean_points"] == -1.0
    assert found["w4a4", "gdfq"]["vs_best_baseline"] == "gdfq"
    assert math.isnan(found["w4a4", "gdfq"]["vs_best_mean_points"])
    assert (found["w4a4", "zeroq"]["vs_best_seeds"], found["w4a4", "zeroq"]["vs_best_baseline"]) == (
        0,
        "gdfq",
    )
    assert found["w2a2", "rgal"]["vs_best_baseline"] == ""
    assert set(found) == set(rows)
