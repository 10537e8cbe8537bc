"""The table of RGAL as a plug-in: each method beside itself with RGAL, the gain and what it costs in time."""

from __future__ import annotations

import math
from dataclasses import replace

from rgal.methods.names import host_of
from rgal.reporting.results import MethodTrials, ResultGroup, Row
from rgal.reporting.statistics import Difference, by_seed, holm, paired_difference
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
    hosts = _hosts(group)
    rows = [group.rows[row] for row in hosts]
    differences = {measure: _differences(rows, hosts, measure) for measure in group.in_table("plugin")}
    seeds = {row: difference.seeds for row, difference in next(iter(differences.values()), {}).items()}
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
        Column("Time (×)", ("time_ratio",), lambda row: (_time_ratio(row, hosts[row.row]),), fixed, optional=True),
    ]  # fmt: skip
    notes = [
        "Mean ± sample standard deviation over the finished trials of each. Difference: with RGAL minus host, mean "
        f"over the seeds that both have finished. {statistics_note(len(rows))}",
        "Time: seconds of synthesis and training with RGAL over those of the host, same seeds.",
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


def _hosts(group: ResultGroup) -> dict[Row, MethodTrials]:
    """Map each (case, method with RGAL) to its host in that case, of finished ones."""
    done = [row for row, trials in group.rows.items() if len(trials.finished)]
    names = {(case, name): host_of(name, [other for at, other in done if at == case]) for case, name in done}
    return {row: group.rows[row[0], host] for row, host in names.items() if host}


def _differences(
    rows: list[MethodTrials], hosts: dict[Row, MethodTrials], measure: Measure
) -> dict[Row, Difference]:
    """Subtract the hosts from the methods with RGAL, with p-values that are adjusted for the rows of the table."""
    pairs = {row.row: (row, hosts[row.row]) for row in rows}
    raw = {
        key: paired_difference(*(by_seed(one, one.measured(measure)) for one in pair))
        for key, pair in pairs.items()
    }
    adjusted = holm([difference.p for difference in raw.values()])
    return {key: replace(difference, p=p) for (key, difference), p in zip(raw.items(), adjusted, strict=True)}


def _time_ratio(row: MethodTrials, host: MethodTrials) -> float:
    """Divide seconds of synthesis and training with RGAL by those without, both summed over the shared seeds."""
    one, other = (
        by_seed(trials, trials.numbers("synthesis_seconds") + trials.numbers("student_seconds"))
        for trials in (row, host)
    )
    shared = sorted(one.keys() & other.keys())
    seconds = sum(other[seed] for seed in shared)
    return sum(one[seed] for seed in shared) / seconds if seconds > 0 else math.nan
