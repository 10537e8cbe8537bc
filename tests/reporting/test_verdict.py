"""What may be said of methods: nothing below three seeds, differences below five, and among equals hardly ever more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rgal.reporting.results import ResultGroup
from rgal.reporting.statistics import LEAST_BOLD, holm, is_significant, paired_difference
from rgal.reporting.verdict import Scores, beside_hosts, binomial_error, verdict_lines, verdicts
from tests.helpers.reporting_builders import accuracy_of, case_trial, trial

METHODS = ("plain", "rgal", "cmi", "cmi+rgal", "dafl", "zskt")


def equals(n: int, random: np.random.RandomState) -> Scores:
    """Methods that are equally good: a teacher and a seed shift all of them, and each has noise of its own."""
    shared = random.normal(95, 1, n) + random.normal(0, 0.7, n)
    of_method = random.uniform(0.3, 2, len(METHODS))
    noise = random.normal(0, 1, (len(METHODS), n)) * of_method[:, None]
    return {name: dict(enumerate((shared + row).tolist())) for name, row in zip(METHODS, noise, strict=True)}


def frame(scores: Scores, **other: object) -> pd.DataFrame:
    """A store's results; seed s distils from teacher s."""
    return pd.DataFrame(
        [
            trial(
                name, order, int(seed), value, teacher_key=f"t{seed}", teacher_top1=98.0 + seed / 10, **other
            )
            for order, (name, values) in enumerate(scores.items())
            for seed, value in values.items()  # type: ignore[misc]
        ]
    )


def lines(scores: Scores, **other: object) -> list[str]:
    return verdict_lines(ResultGroup(frame(scores, **other)))


HOSTS = {"rgal": "plain", "cmi+rgal": "cmi"}


def tells_apart(scores: Scores) -> bool:
    """Whether a verdict says of any method that it is worse than the best, or better or worse than its host."""
    pairs = len(scores) * (len(scores) - 1) // 2
    found = [paired_difference(scores[name], scores[host]) for name, host in HOSTS.items()]
    adjusted = holm([difference.p for difference in found], pairs)
    apart = any(is_significant(each.seeds, p) for each, p in zip(found, adjusted, strict=True))
    return apart or bool(verdicts({"": scores})[""].below)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_among_equals_five_percent_of_verdicts_are_wrong_at_most(n: int) -> None:
    """Of whole verdicts: one that tells any two of these methods apart is wrong."""
    random, draws = np.random.RandomState(n), 400
    wrong = sum(tells_apart(equals(n, random)) for _ in range(draws))
    assert wrong <= 0.05 * draws and not (n < LEAST_BOLD and wrong)


@pytest.mark.parametrize("draws", [8, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_words_on_a_store_of_equals_are_wrong_as_seldom(n: int, draws: int) -> None:
    random, wrong = np.random.RandomState(n), 0
    for _ in range(draws):
        scores = equals(n, random)
        group = ResultGroup(frame(scores))
        assert set(beside_hosts(group)) == {("", name) for name in HOSTS}
        words = " ".join(verdict_lines(group))
        assert ("better" in words or "worse)" in words) == tells_apart(scores)
        wrong += tells_apart(scores)
    assert (draws < 400 or wrong <= 0.05 * draws) and not (n < LEAST_BOLD and wrong)


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_seeds_nothing_is_ranked(n: int) -> None:
    (line,) = lines(equals(n, np.random.RandomState(0)))
    assert line == f"No ranking: n = {n}, {n} teacher{'s'[: n != 1]}."


def steps(n: int, **means: float) -> Scores:
    """Methods of these means, whose differences vary by a tenth of a point."""
    random = np.random.RandomState(0)
    shared = random.normal(0, 1, n)
    return {
        name: dict(enumerate((mean + shared + random.normal(0, 0.05, n)).tolist()))
        for name, mean in means.items()
    }


@pytest.mark.parametrize("n", [3, 4])
def test_below_five_seeds_there_are_differences_alone(n: int) -> None:
    best, hosts = lines(steps(n, plain=80.0, rgal=95.0))
    assert best.startswith(f"No ranking: n = {n}, {n} teachers. Best mean top-1: rgal 9")
    assert "differences to it: plain −1" in best and "[−1" in best
    for text in (best, hosts):
        assert not any(word in text for word in ("better", "worse", "distinguish"))
    assert hosts.startswith("RGAL beside its own host: rgal − plain +1") and f"(n = {n})" in hosts


def test_from_five_seeds_on_methods_are_ranked() -> None:
    scores = steps(6, plain=80.0, rgal=95.0, cmi=95.0, dafl=70.0)
    best, tied = ("rgal", "cmi") if verdicts({"": scores})[""].best == "rgal" else ("cmi", "rgal")
    ranking, hosts = lines(scores, test_images=500)
    assert ranking.startswith(f"Best data-free top-1: {best} ")
    assert "% (n = 6, 6 teachers, test set ±" in ranking
    assert ranking.endswith(f"better than plain, dafl; not distinguishable from {tied}.")
    assert hosts.endswith("] (better).")


def test_equal_methods_are_said_to_be_so() -> None:
    (line, hosts) = lines(equals(6, np.random.RandomState(2)))[:2]
    assert line.startswith("No data-free method is worse than the best mean top-1, ") and "(n = 6," in line
    assert "(not distinguishable)" in hosts


def test_methods_with_too_few_seeds_are_named() -> None:
    scores = {**steps(6, plain=80.0, cmi=95.0), "late": {0: 99.9}}
    assert verdicts({"": scores})[""].best == "cmi"
    assert lines(scores)[0].endswith("better than plain. Too few shared seeds: late.")


def test_pairs_with_other_teachers_are_no_pairs() -> None:
    results = frame(steps(6, plain=80.0, cmi=95.0))
    results.loc[results["method"] == "plain", "teacher_key"] = "another"
    assert verdict_lines(ResultGroup(results)) == ["No ranking: n = 0, 7 teachers."]


def test_references_and_single_methods_are_not_ranked() -> None:
    assert not lines(steps(6, cmi=95.0))
    assert not lines(steps(6, cmi=95.0, scratch=99.0), data_free=False)


def test_where_less_is_better_the_least_is_the_best() -> None:
    verdict = verdicts({"": steps(6, a=5.0, b=50.0)}, lower_is_better=True)[""]
    assert verdict.best == "a" and verdict.below == ["b"]


def test_each_case_has_its_verdict() -> None:
    rows = [
        case_trial(case, name, order, seed, base + 10 * order + seed * 0.1 * (order + 1))
        for case, base in (("w4a4", 60.0), ("w8a8", 80.0))
        for order, name in enumerate(("gdfq", "zeroq"))
        for seed in range(5)
    ]
    said = verdict_lines(ResultGroup(pd.DataFrame(rows)))
    assert [line.split(": ")[0] for line in said] == ["W8A8", "W4A4"]
    assert all("zeroq" in line and "better than gdfq" in line for line in said)


def test_the_binomial_error_of_the_test_set() -> None:
    assert binomial_error(96.0, 500) == pytest.approx(0.876, abs=1e-3)
    assert binomial_error(100.0, 500) == 0.0


def test_tables_print_the_verdict_and_what_stands_behind_it() -> None:
    table = accuracy_of(frame(steps(5, plain=80.0, rgal=95.0), test_images=500))
    text = table.text("md")
    assert text.split("\n\n")[1:3] == [line.replace("*", "\\*") for line in table.verdict]
    assert any(note.startswith("5 teachers: 98.20 ± 0.16 % top-1.") for note in table.notes)
    assert any(note.startswith("Test set: 500 images") for note in table.notes)
    assert not any(note.startswith("Teacher:") for note in table.notes)
    alone = accuracy_of(frame(steps(5, plain=80.0, rgal=95.0)).assign(teacher_key="t", teacher_top1=98.0))
    assert any(note.startswith("1 teacher: 98.00 % top-1.") for note in alone.notes)
