"""Accuracy tables: one row a method, or a (case, method), its mean and spread over finished trials and its costs.

The primary number is the *last* evaluation. Numbers from publications stand in a column of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rgal.files import write_atomically
from rgal.reporting.export_table import EXPORT_COLUMNS, export_table
from rgal.reporting.frames import (
    Row,
    case_title,
    finished,
    groups,
    heading,
    known,
    method_rows,
    numbers,
    only,
    require_one_group,
    uses_real_data,
)
from rgal.reporting.notes import accuracy_notes
from rgal.reporting.reference import TEACHER, Reference
from rgal.reporting.render import COLUMNS as PRINTED
from rgal.reporting.render import FORMATS, Column, Format, render

__all__ = ["accuracy_table", "export_table", "group_tables", "render", "write_tables"]

# Columns of the result, in order. Accuracies in percent, differences in points, durations in seconds.
COLUMNS = (
    "case",
    "method",
    "data_free",
    "top1_mean_percent",
    "top1_std_points",
    "finished",
    "planned",
    "drop_points",
    "images",
    "synthesis_steps",
    "student_steps",
    "synthesis_seconds",
    "student_seconds",
    "model_mb",
    "float_mb",
    "latency_ratio",
    "published_percent",
    "published_source",
)
MEANS = (
    "images",
    "synthesis_steps",
    "student_steps",
    "synthesis_seconds",
    "student_seconds",
    "model_mb",
    "float_mb",
)
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
    table = pd.DataFrame(
        [_row(row, trials, reference) for row, trials in rows.items()], columns=list(COLUMNS)
    )
    table = table.drop(columns=[name for name in OPTIONAL if not known(table, name)])
    about = reference.about.get(only(results, "task"), "") if reference else ""
    teacher = _published(results, ("", TEACHER), reference)
    table.attrs["caption"] = heading(results) or "Results"
    table.attrs["case_title"] = case_title(results)
    table.attrs["notes"] = accuracy_notes(table, rows, about, teacher[0] if teacher else None)
    return table


def group_tables(results: pd.DataFrame, reference: Reference | None = None) -> list[Table]:
    """The tables of one (task, setting, budget): accuracy, and where a trial was exported the exported models."""
    tables = [Table("", accuracy_table(results, reference), PRINTED)]
    exported = export_table(results)
    return [*tables, Table("_export", exported, EXPORT_COLUMNS)] if len(exported) else tables


def write_tables(results: pd.DataFrame, folder: str | Path, reference: Reference | None = None) -> list[Path]:
    """Write <task>_<setting>_<budget>.{md,csv,tex} for every such group, and ..._export.{md,csv,tex} where a
    trial was exported; nothing without any trials.
    """
    paths = []
    for stem, group in groups(results).items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        for table in group_tables(group, reference):
            for fmt in FORMATS:
                path = Path(folder) / f"{stem}{table.suffix}.{fmt}"
                paths.append(write_atomically(path, table.text(fmt).encode("utf-8")))
    return paths


def _row(row: Row, trials: pd.DataFrame, reference: Reference | None) -> dict[str, Any]:
    done = finished(trials)
    last = numbers(done, "last")
    published = _published(trials, row, reference) or (float("nan"), "")
    latency = numbers(done, "latency_ms_64") / numbers(done, "float_latency_ms_64").where(lambda ms: ms > 0)
    return {
        "case": row[0],
        "method": row[1],
        "data_free": not uses_real_data(trials),
        "top1_mean_percent": last.mean(),
        "top1_std_points": last.std(ddof=1),
        "finished": len(done),
        "planned": len(trials),
        "drop_points": (numbers(done, "teacher_top1") - last).mean(),
        **{column: numbers(done, column).mean() for column in MEANS},
        "latency_ratio": latency.mean(),
        "published_percent": published[0],
        "published_source": published[1],
    }


def _published(trials: pd.DataFrame, row: Row, reference: Reference | None) -> tuple[float, str] | None:
    if reference is None:
        return None
    task, dataset, teacher, student = (
        only(trials, name) for name in ("task", "dataset", "teacher", "student")
    )
    return reference.published(task, dataset, teacher, student, row[1], row[0])
