"""The table of results: one row a (case, method), what its task measures, and what it cost.

The primary number is the task's first measure. Numbers from publications stand in columns of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rgal.reporting.published import TEACHER, Published, Reference
from rgal.reporting.results import ResultGroup, Row, only
from rgal.reporting.statistics import comparisons, versus_best
from rgal.reporting.tables.column import (
    Column,
    case_column,
    fixed,
    mean_column,
    method_column,
    spread_column,
    trials_column,
    versus_columns,
)
from rgal.reporting.tables.notes import measure_notes, published_notes, row_notes, versus_notes
from rgal.reporting.tables.table import Table
from rgal.reporting.verdict import verdict_lines
from rgal.suite.measures import Measure


def accuracy_table(group: ResultGroup, reference: Reference | None = None) -> Table:
    """Make the table with one row per (case, method) of one (task, setting, budget).

    Cases come in their order; in each, methods that train on real data first, then the order of the suite. Spreads
    are the sample's (n - 1), NaN for one trial.
    """
    placed = {place: [m for m in group.measures if m.place == place] for place in ("front", "back", "csv")}
    primary = placed["front"][0]
    compared = versus_best(group.rows, primary)
    published = _published_columns(group, placed["front"], reference)
    columns = [
        case_column(group),
        method_column(group),
        *(spread_column(m) if m.spread else mean_column(m) for m in placed["front"]),
        trials_column(),
        *versus_columns(
            primary, compared, primary.heading if sum(m.spread for m in placed["front"]) > 1 else ""
        ),
        *map(mean_column, [*placed["back"], *placed["csv"]]),
        *published,
    ]
    rows = list(group.rows.values())
    notes = [
        *measure_notes(group),
        *versus_notes(compared, primary, comparisons(group.rows)),
        *row_notes(group),
        *published_notes(group, published, *_on_published(group, reference)),
    ]
    return Table(group.heading or "Results", rows, columns, notes, verdict=verdict_lines(group))


def _published_columns(
    group: ResultGroup, measures: Sequence[Measure], reference: Reference | None
) -> list[Column]:
    """Return columns of the published numbers of the measures that have any, each with its source in the CSV."""
    measures = [measure for measure in measures if measure.published]
    columns = []
    for measure in measures:
        first, several = measure is measures[0], len(measures) > 1
        names = "published" if first else f"published_{measure.start}"
        columns.append(
            Column(
                "Published (%)" if first else f"Published {measure.word} (%)",
                (f"{names}_percent", f"{names}_source"),
                lambda row, measure=measure: _look_up(group, reference, measure, row.row) or (math.nan, ""),  # type: ignore[misc]
                lambda percent, source: fixed(percent),
                group="Published (%)" if several else "",
                short=measure.word if several else "",
                optional=True,
            )
        )
    return columns


def _look_up(group: ResultGroup, reference: Reference | None, measure: Measure, row: Row) -> Published | None:
    """Look up what was published of this row, by its networks (which may come from torchvision) or its protocol."""
    if reference is None:
        return None
    results = group.results
    trials = group.rows[row].trials if row in group.rows else results
    teacher, student = (only(trials, net).removeprefix("torchvision:") for net in ("teacher", "student"))
    by_protocol = measure.published == "protocol"
    pair = (measure.key, only(results, "protocol")) if by_protocol else (teacher, student)
    network = student if by_protocol else ""  # the one that learns
    return reference.published(
        only(results, "task"), only(results, "dataset"), *pair, row[1], row[0], network
    )


def _on_published(group: ResultGroup, reference: Reference | None) -> tuple[str, str]:
    """Return what this task's published numbers are, and what the published teacher reaches."""
    if reference is None:
        return "", ""
    primary = group.measures[0]
    teacher = _look_up(group, reference, primary, ("", TEACHER)) if primary.published == "networks" else None
    remark = reference.about.get(only(group.results, "task"), "")
    return remark, f"Published teacher: {teacher[0]:.2f} %." if teacher else ""
