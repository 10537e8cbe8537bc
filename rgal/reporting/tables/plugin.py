"""The table of RGAL as a plug-in: each method beside itself with RGAL, the gain and what it costs in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rgal.methods.names import host_of
from rgal.reporting.results import Row, finished, heading, marked, method_rows, numbers, require_one_group
from rgal.reporting.statistics import by_seed, difference_columns, paired_difference
from rgal.reporting.tables.increments import REAL_IMAGES, measures_increments
from rgal.reporting.tables.notes import REAL_DATA, interval_notes
from rgal.reporting.tables.render import CASE, Column, count, difference_column, mean_and_std, ratio
from rgal.reporting.tables.rows import as_table, row_start, spread, titled

SECONDS = ("synthesis_seconds", "student_seconds")


@dataclass(frozen=True)
class Metric:
    """Something measured with and without RGAL: what it is called in the table, in the results, and in print."""

    name: str
    column: str
    title: str

    @property
    def difference(self) -> str:
        return f"{self.name}_difference"


ACCURACY = (Metric("top1", "last", "top-1"),)
INCREMENTS = (Metric("aia", "aia", "AIA"), Metric("last", "last", "last"))


def metrics(results: pd.DataFrame) -> tuple[Metric, ...]:
    """What these results are compared by, the primary number first."""
    return INCREMENTS if measures_increments(results) else ACCURACY


def plugin_columns(results: pd.DataFrame) -> tuple[Column, ...]:
    """The printed columns of `plugin_table`."""
    found = metrics(results)
    seeds = difference_columns(found[0].difference)[-1]
    return (
        CASE,
        Column("Host", lambda row: marked(row.host, row.data_free), text=True),
        Column("With RGAL", lambda row: row.method, text=True),
        *(column for metric in found for column in _metric_columns(metric)),
        Column("Shared seeds", lambda row: count(getattr(row, seeds)), short="Seeds"),
        Column("Time (×)", lambda row: ratio(row.time_ratio), needs="time_ratio"),
    )


def _metric_columns(metric: Metric) -> tuple[Column, ...]:
    title = metric.title[0].upper() + metric.title[1:]
    group = f"{title} (%)"
    return (
        Column(f"Host {metric.title} (%)", _spread_of(f"host_{metric.name}"), group, "host"),
        Column(f"{title} with RGAL (%)", _spread_of(f"rgal_{metric.name}"), group, "with RGAL"),
        difference_column(f"{title} difference (points)", metric.difference, group, "difference"),
    )


def _spread_of(name: str) -> Callable[[Any], str]:
    mean, std = f"{name}_mean_percent", f"{name}_std_points"
    return lambda row: mean_and_std(getattr(row, mean), getattr(row, std))


def plugin_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row a (case, host, host with RGAL) of which both have finished trials; empty where there is no such pair.

    Trials of one (task, setting, budget), else ValueError. Means are over a method's own finished trials, differences
    (with RGAL minus host) and the ratio of total seconds over the seeds of both. `attrs` as in `accuracy_table`.
    """
    require_one_group(results)
    results = results.reset_index(drop=True)
    rows, found = method_rows(results), metrics(results)
    entries = [_row(row, host, rows, found) for row, host in _pairs(rows).items()]
    table = as_table(entries, _raw_columns(found))
    caption = ", ".join(part for part in (heading(results), "without and with RGAL") if part)
    dagger = REAL_IMAGES if found is INCREMENTS else REAL_DATA
    return titled(table, results, caption, _notes(table, found[0], dagger))


def _raw_columns(found: Sequence[Metric]) -> list[str]:
    columns = ["case", "host", "method", "data_free"]
    for metric in found:
        for who in ("host", "rgal"):
            columns += [f"{who}_{metric.name}_mean_percent", f"{who}_{metric.name}_std_points"]
        columns += difference_columns(metric.difference)
    return [*columns, "time_ratio"]


def _pairs(rows: dict[Row, pd.DataFrame]) -> dict[Row, str]:
    """(case, method with RGAL) -> its host in that case, of finished ones."""
    done = [row for row, trials in rows.items() if len(finished(trials))]
    pairs = {(case, name): host_of(name, [other for at, other in done if at == case]) for case, name in done}
    return {row: host for row, host in pairs.items() if host}


def _row(row: Row, host: str, rows: dict[Row, pd.DataFrame], found: Sequence[Metric]) -> dict[str, Any]:
    trials, base = rows[row], rows[row[0], host]
    entry = {**row_start(row, trials), "host": host, "time_ratio": _time_ratio(trials, base)}
    for metric in found:
        entry |= spread(f"host_{metric.name}", numbers(finished(base), metric.column))
        entry |= spread(f"rgal_{metric.name}", numbers(finished(trials), metric.column))
        difference = paired_difference(by_seed(trials, metric.column), by_seed(base, metric.column))
        entry |= difference.columns(metric.difference)
    return entry


def _time_ratio(trials: pd.DataFrame, base: pd.DataFrame) -> float:
    """Seconds of synthesis and training with RGAL over those without, both summed over the shared seeds."""
    one, other = by_seed(trials, *SECONDS), by_seed(base, *SECONDS)
    shared = sorted(one.keys() & other.keys())
    host = sum(other[seed] for seed in shared)
    return sum(one[seed] for seed in shared) / host if host > 0 else math.nan


def _notes(table: pd.DataFrame, primary: Metric, dagger: str) -> list[str]:
    notes = [
        "Mean ± sample standard deviation over the finished trials of each. Difference: with RGAL minus host, mean "
        "over the seeds that both have finished, with its 95 % bootstrap interval; bold where that excludes zero. "
        "Time: seconds of synthesis and training with RGAL over those of the host, same seeds.",
        *interval_notes(table[difference_columns(primary.difference)[-1]]),
    ]
    return notes if table["data_free"].all() else [*notes, dagger]
