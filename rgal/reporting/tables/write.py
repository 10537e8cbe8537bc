"""Accuracy tables: one row a method, or a (case, method), its mean and spread over finished trials and its costs.

The primary number is the *last* evaluation. Numbers from publications stand in a column of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rgal.core.files import write_atomically
from rgal.reporting.published import TEACHER, Reference
from rgal.reporting.results import (
    Row,
    finished,
    groups,
    heading,
    method_rows,
    numbers,
    only,
    require_one_group,
)
from rgal.reporting.statistics import VERSUS_BEST_COLUMNS, versus_best
from rgal.reporting.tables.diversity import DIVERSITY_COLUMNS, diversity_table
from rgal.reporting.tables.export import EXPORT_COLUMNS, export_table
from rgal.reporting.tables.increments import INCREMENT_COLUMNS, increment_table, measures_increments
from rgal.reporting.tables.notes import accuracy_notes
from rgal.reporting.tables.overview import overview_columns, overview_table, overviews
from rgal.reporting.tables.plugin import plugin_columns, plugin_table
from rgal.reporting.tables.render import COLUMNS as PRINTED
from rgal.reporting.tables.render import FORMATS, Column, Format, bold_cells, cells, render
from rgal.reporting.tables.rows import (
    COSTS,
    UNPUBLISHED,
    about_published,
    as_table,
    look_up,
    means,
    row_start,
    spread,
    titled,
    trial_counts,
)

__all__ = [
    "accuracy_table",
    "export_table",
    "group_tables",
    "increment_table",
    "plugin_table",
    "render",
    "write_tables",
]

# Columns of the result, in order. Accuracies in percent, differences in points, durations in seconds.
COLUMNS = (
    "case",
    "method",
    "data_free",
    "top1_mean_percent",
    "top1_std_points",
    "finished",
    "planned",
    *VERSUS_BEST_COLUMNS,
    "drop_points",
    *COSTS,
    "model_mb",
    "float_mb",
    "latency_ratio",
    "published_percent",
    "published_source",
)
MEANS = {name: name for name in (*COSTS, "model_mb", "float_mb")}
# What only some tasks have: a table of which nothing is known here has no such column.
OPTIONAL = ("case", "model_mb", "float_mb", "latency_ratio")


@dataclass(frozen=True)
class Table:
    """One table of a group: what its file is called behind the group's stem, its numbers, its printed columns."""

    suffix: str
    numbers: pd.DataFrame
    columns: Sequence[Column]

    def text(self, fmt: Format) -> str:
        return render(self.numbers, fmt, self.columns)

    def cells(self) -> pd.DataFrame:
        """The printed texts, under their titles."""
        return cells(self.numbers, self.columns)

    def bold(self) -> pd.DataFrame:
        """Which of `cells` are bold."""
        return bold_cells(self.numbers, self.columns)


def accuracy_table(results: pd.DataFrame, reference: Reference | None = None) -> pd.DataFrame:
    """One row a (case, method) of one (task, setting, budget); ValueError when there are several of these.

    Numbers are raw (`render` formats them); unknown ones are NaN. Cases come in their order; in each, methods
    that train on real data first, then the order of the suite. The standard deviation is the sample's (n - 1),
    NaN for one trial. `attrs["caption"]` is a line, `attrs["notes"]` a list of lines that belong under the
    table, `attrs["case_title"]` the heading of the cases.
    """
    require_one_group(results)
    results = results.reset_index(drop=True)
    rows = method_rows(results)
    versus = versus_best(rows, "last")
    entries = [_row(row, trials, reference) | versus[row] for row, trials in rows.items()]
    table = as_table(entries, COLUMNS, OPTIONAL)
    teacher = _published(results, ("", TEACHER), reference)
    about = about_published(reference, results)
    notes = accuracy_notes(table, rows, about, teacher[0] if teacher else None)
    return titled(table, results, heading(results) or "Results", notes)


def group_tables(results: pd.DataFrame, reference: Reference | None = None) -> list[Table]:
    """The tables of one (task, setting, budget): accuracy; and where there are any, pairs of a method without and
    with RGAL, exported models, the diversity of kept images.

    Where classes came in phases, the accuracy table is the one of these.
    """
    if measures_increments(results):
        first = Table("", increment_table(results, reference), INCREMENT_COLUMNS)
    else:
        first = Table("", accuracy_table(results, reference), PRINTED)
    more = [
        Table("_plugin", plugin_table(results), plugin_columns(results)),
        Table("_export", export_table(results), EXPORT_COLUMNS),
        Table("_diversity", diversity_table(results), DIVERSITY_COLUMNS),
    ]
    return [first, *(table for table in more if len(table.numbers))]


def all_tables(results: pd.DataFrame, reference: Reference | None = None) -> dict[str, list[Table]]:
    """File stem -> the tables of each (task, setting, budget), and where one data set has several settings, the table
    across them."""
    own = {stem: group_tables(group, reference) for stem, group in groups(results).items()}
    across = {
        stem: [Table("", overview_table(rows), overview_columns(rows))]
        for stem, rows in overviews(results).items()
    }
    return own | across


def write_tables(results: pd.DataFrame, folder: str | Path, reference: Reference | None = None) -> list[Path]:
    """Write <task>_<setting>_<budget><suffix>.{md,csv,tex} for every such group and each of its `group_tables`, and
    overview_<task>_<dataset>_<budget>.*; nothing without any trials.
    """
    return save_tables(all_tables(results, reference), folder)


def save_tables(tables: Mapping[str, Sequence[Table]], folder: str | Path) -> list[Path]:
    """Write each table as <stem><suffix>.{md,csv,tex}; `tables` has those of each group by its stem."""
    paths = []
    for stem, group in tables.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        for table in group:
            for fmt in FORMATS:
                path = Path(folder) / f"{stem}{table.suffix}.{fmt}"
                paths.append(write_atomically(path, table.text(fmt).encode("utf-8")))
    return paths


def _row(row: Row, trials: pd.DataFrame, reference: Reference | None) -> dict[str, Any]:
    done = finished(trials)
    last = numbers(done, "last")
    published = _published(trials, row, reference) or UNPUBLISHED
    latency = numbers(done, "latency_ms_64") / numbers(done, "float_latency_ms_64").where(lambda ms: ms > 0)
    return {
        **row_start(row, trials),
        **spread("top1", last),
        **trial_counts(trials),
        "drop_points": (numbers(done, "teacher_top1") - last).mean(),
        **means(done, MEANS),
        "latency_ratio": latency.mean(),
        "published_percent": published[0],
        "published_source": published[1],
    }


def _published(trials: pd.DataFrame, row: Row, reference: Reference | None) -> tuple[float, str] | None:
    """What was published of this row, whose networks may come from torchvision."""
    teacher, student = (only(trials, net).removeprefix("torchvision:") for net in ("teacher", "student"))
    return look_up(reference, trials, (teacher, student), row)
