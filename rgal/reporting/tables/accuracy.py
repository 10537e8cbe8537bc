"""The table of results: one row a (case, method), what its task measures, and what it cost.

The primary number is the task's first measure. Numbers from publications stand in columns of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rgal.reporting.published import NO_REFERENCE, Entry, Reference
from rgal.reporting.results import MethodTrials, ResultGroup, case_label, only
from rgal.reporting.statistics import comparisons, versus_best
from rgal.reporting.tables.column import (
    Column,
    case_column,
    cost_column,
    fixed,
    mean_column,
    method_column,
    signed,
    spread_column,
    trials_column,
    versus_columns,
)
from rgal.reporting.tables.notes import measure_notes, published_notes, row_notes, versus_notes
from rgal.reporting.tables.table import Table
from rgal.reporting.verdict import verdict_lines, winners
from rgal.suite.measures import Measure


def accuracy_table(group: ResultGroup, reference: Reference = NO_REFERENCE) -> Table:
    """Make the table with one row per (case, method) of one (task, setting, budget).

    Cases come in their order; in each, methods that train on real data first, then the order of the suite. Spreads
    are the sample's (n - 1), NaN for one trial.
    """
    placed = {place: [m for m in group.measures if m.place == place] for place in ("front", "back", "csv")}
    primary = placed["front"][0]
    compared = versus_best(group.rows, primary)
    published = _published_columns(group, placed["front"], reference)
    named = [case_column(group), method_column(group)]
    front = [spread_column(m) if m.spread else mean_column(m) for m in placed["front"]]
    several = sum(m.spread for m in placed["front"]) > 1
    versus = versus_columns(primary, compared, primary.heading if several else "")
    columns = [
        *named,
        *front,
        trials_column(),
        *versus,
        *map(mean_column, [*placed["back"], *placed["csv"]]),
        *published,
        _teacher_column(group, reference),
    ]
    rows = list(group.rows.values())
    notes = [
        *measure_notes(group),
        *versus_notes(compared, primary, comparisons(group.rows)),
        *(remarks := row_notes(group)),
        *published_notes(group, published, reference, _reproduced(group, reference)),
    ]
    return Table(
        group.heading or "Results",
        rows,
        columns,
        notes,
        verdict=verdict_lines(group),
        brief=[*named, front[0], trials_column(), cost_column(), versus[0], *front[1:]],
        remarks=remarks,
        narrow=[*named, front[0], trials_column(), versus[0]],
        winners=winners(group),
    )


def _published_columns(group: ResultGroup, measures: Sequence[Measure], reference: Reference) -> list[Column]:
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
                lambda row, measure=measure: (  # type: ignore[misc]
                    reference.published(*_entry(group, measure, row)) or (math.nan, "")
                ),
                lambda percent, source: fixed(percent),
                group="Published (%)" if several else "",
                short=measure.word if several else "",
                optional=True,
            )
        )
    return columns


def _teacher_column(group: ResultGroup, reference: Reference) -> Column:
    """Return the teacher behind each published number, and how far ours is from it."""

    def of(row: MethodTrials) -> tuple[float, float]:
        top1 = reference.published_teacher(*_entry(group, group.measures[0], row))
        return (math.nan, math.nan) if top1 is None else (top1, row.numbers("teacher_top1").mean() - top1)

    return Column(
        "Its teacher (%)",
        ("published_teacher_percent", "published_teacher_difference_points"),
        of,
        lambda top1, ours: fixed(top1) + (f" (ours {signed(ours)})" if signed(ours) else ""),
        optional=True,
        csv_optional=True,
    )


def _entry(group: ResultGroup, measure: Measure, row: MethodTrials) -> Entry:
    """Return where a row's published number belongs: to its networks (torchvision's too) or to its protocol."""
    teacher, student = (
        only(row.trials, network).removeprefix("torchvision:") for network in ("teacher", "student")
    )
    by_protocol = measure.published == "protocol"
    pair = (measure.key, only(group.results, "protocol")) if by_protocol else (teacher, student)
    task, dataset = only(group.results, "task"), only(group.results, "dataset")
    return Entry(task, dataset, *pair, row.method, row.case, student if by_protocol else "")


def _reproduced(group: ResultGroup, reference: Reference) -> str:
    """Return what others got with the table's methods, where a published number stands beside it."""
    texts = []
    for row in group.rows.values():
        entry = _entry(group, group.measures[0], row)
        if reference.published(*entry):
            name = " ".join(filter(None, [row.method, case_label(row.case)]))
            texts += [f"{name} {fixed(top1)} ({source})" for top1, source in reference.reproductions(*entry)]
    return f"Reproduced by others: {'; '.join(texts)}." if texts else ""
