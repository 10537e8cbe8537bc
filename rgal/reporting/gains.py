"""Whether RGAL helps: every pair of a method without and with it, of several runs, in one table with one correction.

A table of a single run corrects for the pairs it shows. Whoever reads ten tables and remembers the bold cells needs a
correction for all of them: here, p-values are adjusted (Holm 1979) over all pairs of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from tabulate import tabulate

from rgal.reporting.results import MethodTrials, ResultGroup, case_label, groups
from rgal.reporting.statistics import (
    LEAST_BOLD,
    Difference,
    by_seed,
    holm,
    hosts,
    is_significant,
    paired_difference,
)
from rgal.reporting.tables.column import difference, fixed
from rgal.reporting.tables.diversity import DIFFERENT, MEASURES, SAME
from rgal.reporting.tables.table import markdown_text
from rgal.suite.measures import Measure

FALLBACK = next(measure for measure in MEASURES if measure.name == "fallback")


@dataclass(frozen=True)
class Gain:
    """One method beside itself with RGAL, over the seeds that both have finished.

    Attributes:
        source: the run it is from.
        setting: data set, networks and case.
        measure: the primary number, in a word.
        host, method: without and with RGAL.
        difference: of the primary number, with RGAL minus host; as its task prints it.
        same, different: change of the distance of kept images of one label, and of two; NaN where not measured.
        fallback: share in percent of the anchors that find no negative in the band, with RGAL.
    """

    source: str
    setting: str
    measure: str
    host: str
    method: str
    difference: Difference
    same: float
    different: float
    fallback: float


def gains(results: Mapping[str, pd.DataFrame]) -> list[Gain]:
    """Compare each method with its host in every run, p-values adjusted over all of them.

    Args:
        results: one row a trial, by the name of the run.
    """
    rows = [
        gain
        for source, frame in results.items()
        for group in groups(frame).values()
        for gain in _of_group(source, ResultGroup(group))
    ]
    adjusted = holm([gain.difference.p for gain in rows])
    return [
        replace(gain, difference=replace(gain.difference, p=p))
        for gain, p in zip(rows, adjusted, strict=True)
    ]


def gains_table(rows: Sequence[Gain]) -> str:
    """Return the gains as a Markdown table, those that can be told from zero in bold."""
    heads = (
        "setting", "measure", "host", "with RGAL", "n", "gain (points)",
        "same label", "different label", "fallback (%)",
    )  # fmt: skip
    return tabulate([_cells(row) for row in rows], heads, tablefmt="pipe", disable_numparse=True)


def gains_verdict(rows: Sequence[Gain]) -> str:
    """Say in words how many gains can be told from zero, which, and how large the others can still be."""
    judged = [row for row in rows if row.difference.seeds >= LEAST_BOLD]
    if not judged:
        return f"No pair has {LEAST_BOLD} shared seeds: nothing can be said yet."
    certain = [row for row in judged if is_significant(row.difference.seeds, row.difference.p)]
    better, worse = ([row for row in certain if row.difference.mean * sign > 0] for sign in (1, -1))
    parts = [
        f"Of {len(judged)} pairs with at least {LEAST_BOLD} shared seeds, RGAL helps its host in {len(better)}"
    ]
    parts[0] += f" ({_named(better)})" if better else ""
    parts.append(f"harms it in {len(worse)}{f' ({_named(worse)})' if worse else ''}")
    level = [row for row in judged if row not in certain]
    text = f"{' and '.join(parts)}; the other {len(level)} cannot be told from no difference."
    if level:
        largest = max(level, key=lambda row: row.difference.high)
        least = min(level, key=lambda row: row.difference.low)
        text += (
            f" Their 95 % intervals reach from {fixed(least.difference.low, 2, '+')} ({_named([least])}) to "
            f"{fixed(largest.difference.high, 2, '+')} points ({_named([largest])})."
        )
    return text


def _of_group(source: str, group: ResultGroup) -> list[Gain]:
    measure = next(iter(group.in_table("plugin")), None)
    if measure is None:
        return []
    pairs = [(group.rows[row], host) for row, host in hosts(group.rows).items()]
    return [_gain(source, group, measure, row, host) for row, host in pairs]


def _gain(source: str, group: ResultGroup, measure: Measure, row: MethodTrials, host: MethodTrials) -> Gain:
    setting = ", ".join(filter(None, (group.heading, case_label(row.case))))
    return Gain(
        source, setting, measure.word, host.method, row.method, _paired(measure, row, host),
        _paired(SAME, row, host).mean, _paired(DIFFERENT, row, host).mean, float(row.measured(FALLBACK).mean()),
    )  # fmt: skip


def _paired(measure: Measure, row: MethodTrials, host: MethodTrials) -> Difference:
    return paired_difference(*(by_seed(one, one.measured(measure)) for one in (row, host)))


def _cells(row: Gain) -> list[str]:
    gain = difference(row.difference.mean, row.difference.low, row.difference.high, row.difference.seeds)
    bold = is_significant(row.difference.seeds, row.difference.p)
    seeds = "0" if math.isnan(row.difference.seeds) else fixed(row.difference.seeds, 0)
    return [
        f"[{markdown_text(row.setting)}]({row.source}.md)",
        *(markdown_text(text) for text in (row.measure, row.host, row.method)),
        seeds,
        f"**{gain}**" if bold else gain,
        fixed(row.same, 3, "+"),
        fixed(row.different, 3, "+"),
        fixed(row.fallback, 1),
    ]


def _named(rows: Sequence[Gain]) -> str:
    return ", ".join(f"{row.method} at {row.setting}" for row in rows)
