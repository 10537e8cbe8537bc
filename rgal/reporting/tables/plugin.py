"""The table of RGAL as a plug-in: each method beside itself with RGAL, the gain and what it costs in time."""

from __future__ import annotations

import math

from rgal.reporting import statistics
from rgal.reporting.results import CPU_SECONDS, MethodTrials, ResultGroup, Row, comparable_seconds
from rgal.reporting.statistics import Difference, by_seed, versus_hosts
from rgal.reporting.tables.column import (
    Column,
    case_column,
    difference_column,
    fixed,
    mark,
    spread_column,
)
from rgal.reporting.tables.notes import mark_notes, statistics_note
from rgal.reporting.tables.table import Table
from rgal.suite.measures import Measure


def plugin_table(group: ResultGroup) -> Table:
    """Make the table with one row per (case, host, host with RGAL) of which both have finished trials; empty where
    there is no such pair.

    Means are over a method's own finished trials, differences (with RGAL minus host) and the ratio of total seconds
    over the seeds of both.
    """
    hosts = statistics.hosts(group.rows)
    rows = [group.rows[row] for row in hosts]
    differences = {measure: versus_hosts(group.rows, measure) for measure in group.in_table("plugin")}
    seeds = {row: difference.seeds for row, difference in next(iter(differences.values()), {}).items()}
    spent = comparable_seconds([*rows, *hosts.values()])
    time, of = ("CPU time", "processor, all threads") if spent == CPU_SECONDS else ("Time", "clock")
    columns = [
        case_column(group),
        Column(
            "Host", ("host", "data_free", "host_fingerprints"),
            lambda row: (hosts[row.row].method, row.data_free, group.mixed(hosts[row.row])), mark, text=True,
        ),
        Column(
            "With RGAL", ("method", "fingerprints"), lambda row: (row.method, group.mixed(row)),
            lambda method, fingerprints: mark(method, True, fingerprints), text=True,
        ),
        *(column for measure in differences for column in _columns(measure, hosts, differences[measure])),
        Column("Shared seeds", ("shared_seeds",), lambda row: (seeds[row.row],), short="Seeds"),
        Column(
            f"{time} (×)", ("time_ratio",), lambda row: (_time_ratio(row, hosts[row.row], spent),), fixed, optional=True
        ),
    ]  # fmt: skip
    notes = [
        "Mean ± sample standard deviation over the finished trials of each. Difference: with RGAL minus host, mean "
        f"over the seeds that both have finished. {statistics_note(len(rows))}",
        f"{time}: seconds of the {of}, of synthesis and training with RGAL over those of the host, same seeds.",
        *mark_notes(group, [*rows, *hosts.values()]),
    ]
    return Table(group.caption("without and with RGAL"), rows, columns, notes, "_plugin")


def _columns(
    measure: Measure, hosts: dict[Row, MethodTrials], differences: dict[Row, Difference]
) -> tuple[Column, ...]:
    title = measure.word[0].upper() + measure.word[1:]
    unit = f" ({measure.unit})" if measure.unit else ""
    points = "points" if measure.unit == "%" else measure.unit
    group, start = f"{title}{unit}", measure.start
    return (
        spread_column(measure, f"Host {measure.word}{unit}", "host_", group, "host", hosts),
        spread_column(measure, f"{title} with RGAL{unit}", "rgal_", group, "with RGAL"),
        difference_column(
            f"{title} difference ({points})", f"{start}_difference", measure, differences, group, "difference"
        ),
    )


def _time_ratio(row: MethodTrials, host: MethodTrials, seconds: tuple[str, str]) -> float:
    """Divide seconds of synthesis and training with RGAL by those without, both summed over the shared seeds."""
    one, other = (
        by_seed(trials, trials.numbers(seconds[0]) + trials.numbers(seconds[1])) for trials in (row, host)
    )
    shared = [seed for seed in one if seed in other]
    whole = sum(other[seed] for seed in shared)
    return sum(one[seed] for seed in shared) / whole if whole > 0 else math.nan
