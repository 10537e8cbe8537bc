"""Who won: the methods of each case in the order of their means, with what the verdict allows to be said of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from rgal.reporting.page.model import Bar, Board, Link, Standing, href
from rgal.reporting.results import MethodTrials, ResultGroup, case_label
from rgal.reporting.statistics import (
    LEAST_BOLD,
    Difference,
    by_seed,
    hosts,
    is_significant,
    paired_difference,
)
from rgal.reporting.tables.column import cost_column, count, difference, fixed, significant, spread
from rgal.reporting.verdict import Verdict, beside_hosts, judge, primary, sentence
from rgal.suite.measures import Measure
from rgal.suite.store.records import Record

MOST_ROOM = 2.5  # spans of the better half of the methods that an axis shows below it
WEIGHTS = "student.safetensors"


@dataclass(frozen=True)
class _Scores:
    """Where a method stands: its numbers by seed, their mean, and the mean's 95 % interval from three seeds on."""

    row: MethodTrials
    values: Sequence[float]
    interval: Difference

    @property
    def mean(self) -> float:
        return self.interval.mean

    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that is drawn of it."""
        every = [*self.values, self.interval.low, self.interval.high]
        known = [value for value in every if not math.isnan(value)]
        return min(known), max(known)


def boards(group: ResultGroup, anchor: str, records: Mapping[str, Record]) -> list[Board]:
    """Rank the methods of every case that has a finished trial.

    Args:
        group: the results of one (task, setting, budget).
        anchor: of its section on the page.
        records: by the keys of the trials.
    """
    measure, judged = primary(group), judge(group)
    compared, host_of_row = beside_hosts(group), hosts(group.rows)
    made: list[Board] = []
    for case in dict.fromkeys(case for case, _ in group.rows):
        scores = [_scores(row, measure) for (at, _), row in group.rows.items() if at == case]
        known = [score for score in scores if score.values]
        if not known:
            continue
        verdict = judged.get(case, Verdict(0))
        beside = {
            method: _beside(host_of_row[at, method].method, found, measure)
            for (at, method), found in compared.items()
            if at == case
        }
        text = sentence(group, case, verdict) if case in judged else "One data-free method: nothing to rank."
        heading = ", ".join(filter(None, (group.heading, case_label(case))))
        ranked = _order([score for score in known if score.row.data_free], verdict, measure)
        axis = _axis(ranked or known)
        made.append(
            Board(
                f"{anchor}-board-{len(made) + 1}",
                heading,
                text,
                measure.title,
                [
                    _standing(score, rank, _word(score, verdict), verdict, beside, axis, records)
                    for score, rank in zip(ranked, _ranks(ranked, verdict), strict=True)
                ],
                [
                    _standing(score, "", ("on real data", "quiet"), verdict, {}, axis, records)
                    for score in known
                    if not score.row.data_free
                ],
                (_end(axis[0], axis), _end(axis[1], axis)),
                any(beside.values()),
            )
        )
    return made


def _scores(row: MethodTrials, measure: Measure) -> _Scores:
    values = by_seed(row, row.measured(measure))
    return _Scores(row, list(values.values()), paired_difference(values, dict.fromkeys(values, 0.0)))


def _order(scores: Sequence[_Scores], verdict: Verdict, measure: Measure) -> list[_Scores]:
    """Sort by the mean, the best first; the best of the verdict, which may have more seeds than others, leads."""
    sign = 1 if measure.better == "lower" else -1
    return sorted(scores, key=lambda score: (score.row.method != verdict.best, sign * score.mean))


def _ranks(scores: Sequence[_Scores], verdict: Verdict) -> list[str]:
    """Number the methods: those that cannot be told from the best share its place. Too few seeds give no numbers."""
    if verdict.seeds < LEAST_BOLD or not verdict.best:
        return [""] * len(scores)
    tied = {verdict.best, *verdict.level}
    shared = f"1–{len(tied)}" if len(tied) > 1 else "1"
    ranks, place = [], len(tied)
    for score in scores:
        if score.row.method in tied:
            ranks.append(shared)
        elif score.row.method in verdict.below:
            place += 1
            ranks.append(str(place))
        else:
            ranks.append("")
    return ranks


def _word(score: _Scores, verdict: Verdict) -> tuple[str, str]:
    """What the verdict allows to be said of a method, and its tone."""
    method = score.row.method
    if not verdict.best or method in verdict.unranked:
        return ("not compared" if not verdict.best else "too few shared seeds", "quiet")
    if verdict.seeds < LEAST_BOLD:
        return ("best mean; too few seeds" if method == verdict.best else "cannot be told", "quiet")
    if method == verdict.best:
        return ("best", "good") if verdict.below and not verdict.level else ("best mean", "good")
    return ("worse", "bad") if method in verdict.below else ("ties with the best", "")


def _beside(host: str, found: Difference, measure: Measure) -> str:
    if math.isnan(found.mean):
        return ""
    text = f"{difference(found.mean, found.low, found.high, found.seeds)} to {host}"
    if not found.seeds >= LEAST_BOLD:
        return text
    if not is_significant(found.seeds, found.p):
        return f"{text}: not distinguishable"
    gained = (found.mean > 0) == (measure.better != "lower")
    return f"{text}: {'better' if gained else 'worse'}"


def _standing(
    score: _Scores,
    rank: str,
    word: tuple[str, str],
    verdict: Verdict,
    beside: Mapping[str, str],
    axis: tuple[float, float],
    records: Mapping[str, Record],
) -> Standing:
    row, values = score.row, score.values
    other = verdict.others.get(row.method)
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Standing(
        rank,
        row.method,
        spread(score.mean, deviation),
        *word,
        difference(other.mean, other.low, other.high, other.seeds) if other else "",
        beside.get(row.method, ""),
        str(len(values)),
        significant(cost_column().values(row)[0]),
        count(row.numbers("images").mean()),
        _bar(score, axis),
        _weights(row, records),
    )


def _weights(row: MethodTrials, records: Mapping[str, Record]) -> Link | None:
    """Return the weights of the method's first finished seed, if they were kept."""
    folders = [records[key].folder for key in row.keys if key in records]
    kept = next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)
    return Link("weights", href(kept / WEIGHTS, 3)) if kept else None


def _axis(scores: Sequence[_Scores]) -> tuple[float, float]:
    """Return the ends of the axis: all that is drawn, but far failures of the worse half do not flatten the rest."""
    lows, highs = zip(*(score.ends() for score in scores), strict=True)
    top = max(highs)
    better = sorted(lows, reverse=True)[: (len(lows) + 1) // 2]
    low = max(min(lows), better[-1] - MOST_ROOM * max(top - better[-1], 0.5))
    margin = 0.04 * (top - low) or 0.5
    return low - margin, top + margin


def _end(value: float, axis: tuple[float, float]) -> str:
    return fixed(value, 1 if axis[1] - axis[0] > 1 else 2)


def _bar(score: _Scores, axis: tuple[float, float]) -> Bar:
    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - axis[0]) / (axis[1] - axis[0]))), 1)

    low, high = score.interval.low, score.interval.high
    ends = None if math.isnan(low) else (at(low), at(high))
    outside = "left" if score.mean < axis[0] else "right" if score.mean > axis[1] else ""
    return Bar(at(score.mean), ends, [at(value) for value in score.values], outside)
