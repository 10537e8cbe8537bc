"""What the rows of every table hold, and what stands around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rgal.reporting.published import Published, Reference
from rgal.reporting.results import Row, case_title, finished, known, numbers, only, uses_real_data

# What a trial cost: counts, then durations in seconds.
COSTS = ("images", "synthesis_steps", "student_steps", "synthesis_seconds", "student_seconds")
UNPUBLISHED: Published = (math.nan, "")


def row_start(row: Row, trials: pd.DataFrame) -> dict[str, Any]:
    return {"case": row[0], "method": row[1], "data_free": not uses_real_data(trials)}


def trial_counts(trials: pd.DataFrame) -> dict[str, Any]:
    return {"finished": len(finished(trials)), "planned": len(trials)}


def spread(name: str, values: pd.Series[float], unit: str = "percent") -> dict[str, Any]:
    """Mean in `unit` and the sample's standard deviation (n - 1; NaN for one value), in points."""
    return {f"{name}_mean_{unit}": values.mean(), f"{name}_std_points": values.std(ddof=1)}


def means(trials: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, Any]:
    """Name in the table -> mean of this column of the results."""
    return {name: numbers(trials, column).mean() for name, column in columns.items()}


def look_up(
    reference: Reference | None, results: pd.DataFrame, pair: tuple[str, str], row: Row
) -> Published | None:
    """What was published of this row. `pair` is a column of the reference's tables, its parts apart."""
    if reference is None:
        return None
    return reference.published(only(results, "task"), only(results, "dataset"), *pair, row[1], row[0])


def about_published(reference: Reference | None, results: pd.DataFrame) -> str:
    """The line on what this task's published numbers are."""
    return reference.about.get(only(results, "task"), "") if reference else ""


def as_table(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], optional: Sequence[str] = ("case",)
) -> pd.DataFrame:
    """The rows with exactly these columns, but without the optional ones of which nothing is known."""
    table = pd.DataFrame(list(rows), columns=list(columns))
    return table.drop(columns=[name for name in optional if not known(table, name)])


def titled(table: pd.DataFrame, results: pd.DataFrame, caption: str, notes: Sequence[str]) -> pd.DataFrame:
    """The same table with what stands around it in `attrs`: caption, notes, and the heading of its cases."""
    table.attrs.update(caption=caption, case_title=case_title(results), notes=list(notes))
    return table
