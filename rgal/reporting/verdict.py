"""What the results of a setting allow to be said of its methods, in words: a pure function of the records.

The best data-free method is chosen by the same seeds on which it is then compared with the others. That choice is part
of the test: its p-values are corrected (Holm 1979) for every pair of methods that could have been compared. Those of
RGAL beside its own hosts are corrected for as many, so that 5 % bounds the chance of anything wrong in a verdict: of a
method that is called worse than the best, or better or worse than its host, and is as good.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rgal.reporting.results import MethodTrials, ResultGroup, Row, case_label
from rgal.reporting.statistics import (
    DECIMALS,
    LEAST_BOLD,
    LEAST_INTERVAL,
    Difference,
    Seed,
    by_seed,
    holm,
    hosts,
    is_significant,
    paired_difference,
    versus_hosts,
)
from rgal.reporting.tables.column import count, difference, fixed
from rgal.suite.measures import TOP1, Measure

LISTED = 4  # differences in a line
Scores = Mapping[str, Mapping[Seed, float]]  # method -> pair of trials -> its number


@dataclass(frozen=True)
class Verdict:
    """What the trials of one case say of its data-free methods.

    Attributes:
        seeds: the fewest shared seeds that stand behind a comparison with the best; the most that two methods have
            where these are too few for one.
        best: the method with the best mean; "" where there is nothing to rank.
        mean: of the best method.
        others: the difference of each other method to it, the nearest first; p-values allow for the choice of the best.
        unranked: methods with too few seeds in common with the best.
    """

    seeds: int
    best: str = ""
    mean: float = math.nan
    others: Mapping[str, Difference] = field(default_factory=dict)
    unranked: tuple[str, ...] = ()

    @property
    def below(self) -> list[str]:
        """The methods that are worse than the best one."""
        return [name for name, other in self.others.items() if is_significant(other.seeds, other.p)]

    @property
    def level(self) -> list[str]:
        """Those that cannot be told from it."""
        return [name for name in self.others if name not in self.below]


def verdicts(cases: Mapping[str, Scores], lower_is_better: bool = False) -> dict[str, Verdict]:
    """Judge the methods of every case; cases in which there are not two methods have no verdict.

    Args:
        cases: the numbers of all methods, by case, method and seed; a method without a number is left out.
        lower_is_better: whether the least mean is the best.
    """
    sign = -1 if lower_is_better else 1
    every = {case: {name: part for name, part in scores.items() if part} for case, scores in cases.items()}
    pairs = _pairs(map(len, every.values()))
    raw = {case: _compared(scores, sign) for case, scores in every.items() if len(scores) > 1}
    adjusted = iter(holm([other.p for verdict in raw.values() for other in verdict.others.values()], pairs))
    return {
        case: replace(verdict, others={n: replace(d, p=next(adjusted)) for n, d in verdict.others.items()})
        for case, verdict in raw.items()
    }


def _pairs(methods: Iterable[int]) -> int:
    """How many pairs of methods the cases have, given the number of methods of each."""
    return sum(count * (count - 1) // 2 for count in methods)


def _compared(scores: Scores, sign: int) -> Verdict:
    """Choose the best of the methods with enough seeds, and compare the others with it."""
    most = sorted(map(len, scores.values()))[-2]  # a comparison takes two
    enough = next(
        (n for n in (LEAST_BOLD, LEAST_INTERVAL) if sum(len(part) >= n for part in scores.values()) > 1), 0
    )
    if not enough:
        return Verdict(most, unranked=tuple(scores))
    means = {
        name: round(math.fsum(part.values()) / len(part), DECIMALS)
        for name, part in scores.items()
        if len(part) >= enough
    }
    best = max(means, key=lambda name: sign * means[name])
    every = {name: paired_difference(part, scores[best]) for name, part in scores.items() if name != best}
    ranked = {name: other for name, other in every.items() if other.seeds >= enough}
    nearest = sorted(ranked, key=lambda name: -sign * ranked[name].mean)
    if not ranked:
        return Verdict(0, unranked=tuple(scores))
    return Verdict(
        seeds=int(min(other.seeds for other in ranked.values())),
        best=best,
        mean=means[best],
        others={name: ranked[name] for name in nearest},
        unranked=tuple(name for name in every if name not in ranked),
    )


# In words ------------------------------------------------------------------------------------------------------------


def verdict_lines(group: ResultGroup) -> list[str]:
    """Say what the primary numbers of a group allow to be said: a line a case, and one on RGAL beside its hosts.

    Nothing where no two data-free methods have a finished trial.
    """
    judged = judge(group)
    lines = [
        f"{case_label(case)}: {text}" if case else text
        for case, verdict in judged.items()
        for text in [sentence(group, case, verdict)]
    ]
    return [*lines, *_hosts_in_words(group)]


def primary(group: ResultGroup) -> Measure:
    """Return the measure that a group is judged by."""
    return next(measure for measure in group.measures if measure.place == "front")


def data_free_rows(group: ResultGroup) -> dict[Row, MethodTrials]:
    """Return the rows that are judged: data-free ones with a finished trial."""
    return {key: row for key, row in group.rows.items() if row.data_free and len(row.finished)}


def judge(group: ResultGroup) -> dict[str, Verdict]:
    """Judge the primary numbers of a group, by case."""
    measure = primary(group)
    cases: dict[str, dict[str, Mapping[Seed, float]]] = {}
    for (case, method), row in data_free_rows(group).items():
        cases.setdefault(case, {})[method] = by_seed(row, row.measured(measure))
    return verdicts(cases, measure.better == "lower")


def beside_hosts(group: ResultGroup) -> dict[Row, Difference]:
    """Compare the data-free methods with RGAL with their own hosts, corrected as the rest of the verdict."""
    rows = data_free_rows(group)
    return versus_hosts(rows, primary(group), _pairs(Counter(case for case, _ in rows).values()))


def winners(group: ResultGroup) -> frozenset[Row]:
    """Return the best row of each case and those that cannot be told from it; none where no method is worse."""
    return frozenset(
        (case, method)
        for case, verdict in judge(group).items()
        if verdict.below
        for method in (verdict.best, *verdict.level)
    )


def sentence(group: ResultGroup, case: str, verdict: Verdict) -> str:
    """Say a verdict of `judge` in words."""
    rows = [row for (at, _), row in data_free_rows(group).items() if at == case]
    return _in_words(verdict, primary(group), rows)


def _in_words(verdict: Verdict, measure: Measure, rows: Sequence[MethodTrials]) -> str:
    behind = f"n = {verdict.seeds}{_behind(verdict, measure, rows)}"
    beside = f" Too few shared seeds: {', '.join(verdict.unranked)}." if verdict.unranked else ""
    if not verdict.best:
        return f"No ranking: {behind}."
    best = f"{verdict.best} {fixed(verdict.mean)}{f' {measure.unit}' if measure.unit else ''}"
    if verdict.seeds < LEAST_BOLD:
        listed = [
            f"{name} {difference(d.mean, d.low, d.high, d.seeds)}" for name, d in verdict.others.items()
        ]
        more = f", and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        return (
            f"No ranking: {behind}. Best mean {measure.word}: {best}; differences to it: "
            f"{', '.join(listed[:LISTED])}{more}.{beside}"
        )
    below, level = (", ".join(names) for names in (verdict.below, verdict.level))
    if not below:
        return (
            f"No data-free method is worse than the best mean {measure.word}, {best}, beyond chance ({behind}): "
            f"{level}.{beside}"
        )
    tied = f"; not distinguishable from {level}" if level else ""
    return f"Best data-free {measure.word}: {best} ({behind}), better than {below}{tied}.{beside}"


def _behind(verdict: Verdict, measure: Measure, rows: Sequence[MethodTrials]) -> str:
    """What stands behind n: how many teachers, and what the choice of test images leaves open."""
    teachers = len(teachers_of(rows))
    counted = f", {teachers} teacher{'s'[: teachers != 1]}" if teachers else ""
    images = images_tested(rows)
    if not images or measure.key != TOP1.key or math.isnan(verdict.mean):
        return counted
    return f"{counted}, test set ±{fixed(binomial_error(verdict.mean, images))} points"


def _hosts_in_words(group: ResultGroup) -> list[str]:
    host_of_row, texts = hosts(data_free_rows(group)), []
    sign = -1 if primary(group).better == "lower" else 1
    for (case, method), found in beside_hosts(group).items():
        if not found.seeds >= LEAST_INTERVAL:
            continue
        host = host_of_row[case, method].method
        text = f"{method} − {host} {difference(found.mean, found.low, found.high, found.seeds)}"
        if found.seeds >= LEAST_BOLD:
            better = "better" if sign * found.mean > 0 else "worse"
            text += f" ({better if is_significant(found.seeds, found.p) else 'not distinguishable'})"
        else:
            text += f" (n = {count(found.seeds)})"
        texts.append(f"{case_label(case)} {text}".strip())
    return [f"RGAL beside its own host: {'; '.join(texts)}."] if texts else []


# What stands behind the numbers --------------------------------------------------------------------------------------


def teachers_of(rows: Sequence[MethodTrials]) -> dict[str, float]:
    """Key of each teacher that finished trials distil from -> its top-1 in percent, in the order of the keys."""
    accuracies: dict[str, float] = {}
    for row in rows:
        if "teacher_key" in row.finished.columns:
            keys, top1 = row.finished["teacher_key"], row.numbers("teacher_top1")
            accuracies |= {
                str(k): a for k, a in zip(keys, top1, strict=True) if isinstance(k, str) and a == a
            }
    return dict(sorted(accuracies.items()))


def images_tested(rows: Sequence[MethodTrials]) -> int:
    """How many images the accuracies are measured on; 0 where that is unknown or not the same for all."""
    counts = {value for row in rows for value in row.numbers("test_images")}
    return int(next(iter(counts))) if len(counts) == 1 and min(counts) > 0 else 0


def binomial_error(percent: float, images: int) -> float:
    """Standard error in points of an accuracy that is a share of so many images."""
    share = percent / 100
    return 100 * math.sqrt(max(0.0, share * (1 - share)) / images)
