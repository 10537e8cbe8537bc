"""Paired differences, their t intervals and Holm's correction against loops, and names that say what to compare."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgal.methods.names import host_of, uses_rgal
from rgal.reporting.results import MethodTrials, ResultGroup
from rgal.reporting.statistics import (
    LEAST_BOLD,
    LEAST_INTERVAL,
    Difference,
    by_seed,
    comparisons,
    holm,
    is_significant,
    paired_difference,
    strongest_baselines,
    versus_best,
)
from rgal.suite.measures import TOP1, Measure
from tests.helpers import naive_statistics as naive
from tests.helpers.reporting_builders import accuracy_of, case_trial, plugins_of, some_results, trial

NAN = math.nan


def zeros(n: int) -> dict[float, float]:
    return dict.fromkeys(map(float, range(n)), 0.0)


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_and_p_values_are_those_of_the_paired_t_test(n: int, seed: int) -> None:
    values = np.random.RandomState(seed).normal(0.5, 2, n).round(2).tolist()
    difference = paired_difference(dict(enumerate(values)), zeros(n))
    assert difference.p == pytest.approx(naive.p_value(values), abs=1e-6)
    half = (difference.high - difference.low) / 2
    assert difference.mean == pytest.approx((difference.low + difference.high) / 2)
    assert naive.tail(half / naive.standard_error(values), n - 1) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("n", [3, 4, 7, 10])
def test_intervals_and_p_values_are_scipys_to_the_last_bit(n: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(n)
    for spread in (1e-3, 1.0, 50.0):
        values = (rng.normal(size=n) * spread + rng.normal()).round(6)
        found, test = (
            paired_difference(dict(enumerate(values.tolist())), zeros(n)),
            stats.ttest_1samp(values, 0.0),
        )
        assert (found.low, found.high) == tuple(test.confidence_interval(0.95))
        assert found.p == test.pvalue


@pytest.mark.parametrize("n", [0, 1, 2])
def test_two_seeds_and_fewer_have_no_interval_and_no_p_value(n: int) -> None:
    difference = paired_difference({seed: 1.0 + seed for seed in range(n)}, zeros(n))
    assert difference.seeds == n < LEAST_INTERVAL and math.isnan(difference.mean) == (n == 0)
    assert all(map(math.isnan, (difference.low, difference.high, difference.p)))


def test_equal_differences_have_an_interval_without_width() -> None:
    assert paired_difference(dict.fromkeys(range(5), 0.1), zeros(5)) == Difference(0.1, 0.1, 0.1, 5, 0.0)
    assert paired_difference(zeros(5), zeros(5)) == Difference(0.0, 0.0, 0.0, 5, 1.0)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_exchanging_the_methods_mirrors_the_difference(n: int) -> None:
    random = np.random.RandomState(n)
    one, other = (dict(enumerate(random.normal(90, 1, n).tolist())) for _ in range(2))
    here, there = paired_difference(one, other), paired_difference(other, one)
    assert here.mean == -there.mean and here.p == pytest.approx(there.p)
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 5))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_holm_is_the_step_down_procedure(p_values: list[float], more: int) -> None:
    every = len(p_values) + more
    adjusted = holm([*p_values, NAN], every)
    assert [p < 0.05 for p in adjusted[:-1]] == naive.holm(p_values, every) and math.isnan(adjusted[-1])
    assert all(p <= after <= 1 for p, after in zip(p_values, adjusted, strict=False))


def drawn(methods: list[str], n: int, random: np.random.RandomState) -> pd.DataFrame:
    """Methods that are equally good: what a seed gives all of them, and noise of each."""
    shared, noise = random.normal(80, 2, n), random.normal(0, 1, (len(methods), n))
    return pd.DataFrame(
        [
            trial(name, order, seed, shared[seed] + noise[order, seed])
            for order, name in enumerate(methods)
            for seed in range(n)
        ]
    )


def bound(draws: int) -> float:
    """5 % and what chance may add to it in so many draws."""
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("draws", [400, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_of_two_equal_methods_five_percent_are_bold(n: int, draws: int) -> None:
    random = np.random.RandomState(n)
    differences = [paired_difference(dict(enumerate(random.normal(0, 1, n))), zeros(n)) for _ in range(draws)]
    assert (
        sum(is_significant(difference.seeds, difference.p) for difference in differences)
        <= bound(draws) * draws
    )
    assert sum(difference.p < 0.05 for difference in differences) <= bound(draws) * draws


@pytest.mark.parametrize("draws", [20, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [3, LEAST_BOLD, 10])
def test_equal_methods_are_bold_in_five_percent_of_tables_at_most(n: int, draws: int) -> None:
    """The strongest of six equal baselines seems better than the others; the correction allows for that choice."""
    random = np.random.RandomState(n)
    methods = [*(f"method{number}" for number in range(6)), "rgal"]
    bold = 0
    for _ in range(draws):
        rows = ResultGroup(drawn(methods, n, random)).rows
        differences = [comparison.difference for comparison in versus_best(rows, TOP1).values()]
        bold += any(is_significant(difference.seeds, difference.p) for difference in differences)
    assert bold <= bound(draws) * draws and not (n < LEAST_BOLD and bold)


def test_a_true_difference_is_bold() -> None:
    frame = drawn(["cmi", "zskt", "rgal"], 6, np.random.RandomState(0))
    frame.loc[frame["method"] == "rgal", "last"] += 12
    bold = accuracy_of(frame).bold().set_axis(list(accuracy_of(frame).numbers["method"]))
    assert bold["vs best baseline (points)"].to_dict() == {"cmi": False, "zskt": False, "rgal": True}


@pytest.mark.parametrize("n", [1, 2])
def test_no_cell_has_an_interval_below_three_seeds(n: int) -> None:
    frame = drawn(["plain", "cmi", "rgal", "cmi+rgal"], n, np.random.RandomState(0))
    for table in (accuracy_of(frame), plugins_of(frame)):
        text = table.text("md").split("\n- ")[0]
        assert f"(n = {n})" in text and "[" not in text and not table.bold().any(axis=None)


def test_every_pair_that_could_have_been_printed_counts() -> None:
    """cmi and deepinversion are baselines; cmi+rgal is compared with either. scratch and dafl are in no pair."""
    assert comparisons(ResultGroup(some_results()).rows) == 1 + 2


def test_where_less_is_better_the_lowest_is_the_strongest() -> None:
    measure = Measure("last", "Error", "%", better="lower")
    frame = pd.DataFrame([trial("cmi", 0, 0, 9.0), trial("zskt", 1, 0, 8.0), trial("rgal", 2, 0, 7.0)])
    assert strongest_baselines(ResultGroup(frame).rows, measure) == {"": "zskt"}


def test_only_shared_seeds_count() -> None:
    one, other = {0: 90.0, 1: 92.0, 3: 99.0, 4: 91.0}, {4: 90.0, 1: 90.5, 0: 90.5, 2: 10.0}
    expected = naive.differences(one, other)
    assert expected == [-0.5, 1.5, 1.0]
    difference = paired_difference(one, other)
    assert (difference.mean, difference.seeds) == (pytest.approx(2 / 3), 3)


def test_rounding_does_not_make_a_difference() -> None:
    """0.1 + 0.2 - 0.3 is 6e-17, which is above zero."""
    difference = paired_difference(dict.fromkeys(range(5), 0.1 + 0.2), dict.fromkeys(range(5), 0.3))
    assert (difference.mean, difference.p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("n", "p", "significant"), [(5, 0.049, True), (5, 0.05, False), (4, 0.001, False), (NAN, NAN, False)]
)
def test_a_difference_is_significant_or_not(n: float, p: float, significant: bool) -> None:
    assert is_significant(n, p) is significant


def of_last(frame: pd.DataFrame) -> dict[float, float]:
    trials = MethodTrials("", "cmi", frame)
    return by_seed(trials, trials.numbers("last"))


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
    assert of_last(frame) == {0: 92.0, 1: 92.0}
    assert of_last(frame.drop(columns="seed")) == of_last(pd.DataFrame()) == {}


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
    rows = ResultGroup(some_results()).rows
    scores = {name: list(row.numbers("last")) for (_, name), row in rows.items()}
    free = {name: row.data_free for (_, name), row in rows.items()}
    assert strongest_baselines(rows, TOP1) == {"": naive.strongest(scores, free)} == {"": "cmi"}


def test_of_equal_baselines_the_first_of_the_suite_is_taken() -> None:
    frame = pd.DataFrame([trial("zskt", 0, 0, 90.0), trial("cmi", 1, 0, 90.0), trial("dafl", 2, 0, 89.0)])
    assert strongest_baselines(ResultGroup(frame).rows, TOP1) == {"": "zskt"}


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
    rows = ResultGroup(frame).rows
    assert strongest_baselines(rows, TOP1) == {"w8a8": "zeroq", "w4a4": "gdfq"}
    compared = versus_best(rows, TOP1)
    assert compared["w8a8", "gdfq"].difference.mean == -1.0
    assert compared["w4a4", "gdfq"].baseline == "gdfq"
    assert math.isnan(compared["w4a4", "gdfq"].difference.mean)
    assert (compared["w4a4", "zeroq"].difference.seeds, compared["w4a4", "zeroq"].baseline) == (0, "gdfq")
    assert compared["w2a2", "rgal"].baseline == ""
    assert set(compared) == set(rows)
