"""The table of what the kept images are like: how far apart in a class, how close to other classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from rgal.methods.names import host_of
from rgal.reporting.results import MethodTrials, ResultGroup, Row
from rgal.reporting.statistics import by_seed
from rgal.reporting.tables.column import Column, case_column, fixed, mean_column, method_column, spread_column
from rgal.reporting.tables.notes import mark_notes, row_names
from rgal.reporting.tables.table import Table
from rgal.suite.measures import Measure
from rgal.suite.store.diversity import SUMMARY

SAME = Measure("diversity_same", "Same label", decimals=3, name="same", group="Same label", short="distance")
DIFFERENT = Measure(
    "diversity_different",
    "Different label",
    decimals=3,
    name="different",
    group="Different label",
    short="distance",
)
MEASURES = (
    Measure("diversity_in_band", "In band", "%", 1, name="in_band", scale=100, group="Negatives (%)", short="in band"),
    Measure(
        "diversity_fallback", "Fallback", "%", 1, name="fallback", scale=100, group="Negatives (%)", short="fallback"
    ),
    Measure(
        "diversity_student_same", "Same, student", decimals=3, name="student_same_mean", group="Student", short="same",
        optional=True,
    ),
    Measure(
        "diversity_student_different", "Different, student", decimals=3, name="student_different_mean",
        group="Student", short="different", optional=True,
    ),
    Measure("diversity_last_same", "", decimals=3, name="last_same_mean"),
    Measure("diversity_last_different", "", decimals=3, name="last_different_mean"),
)  # fmt: skip
MEANING = (
    "Distances in [0, 2] of unit vectors: the teacher's penultimate features, and those of the final student. Labels: "
    "the teacher's argmax. Mean over the pairs inside a round's batch, of all rounds after warm-up that are kept; "
    "± sample standard deviation over the n trials. Larger same-label distance: more diverse classes; smaller "
    "different-label distance: more confusable ones.",
    "In band: other-label pairs whose normalised teacher logits are 0.5 to 1.0 apart, the focal sampler's band. "
    "Fallback: anchors that form a same-label pair and have no negative in it.",
)
Hosts = Mapping[Row, MethodTrials]


def diversity_table(group: ResultGroup) -> Table:
    """Make the table with one row per (case, method) whose finished trials measured their images; empty where none
    did.

    Distances in [0, 2], shares in percent. A difference to the host is the mean over the seeds that both have.
    """
    measured = {row: trials.with_any(SUMMARY) for row, trials in group.rows.items()}
    rows = {row: trials for row, trials in measured.items() if trials is not None}
    names = {(case, name): host_of(name, [n for at, n in rows if at == case]) for case, name in rows}
    hosts = {row: rows[row[0], host] for row, host in names.items() if host}
    columns = [
        case_column(group),
        method_column(group),
        *(column for measure in (SAME, DIFFERENT) for column in _columns(measure, hosts)),
        *map(mean_column, MEASURES),
        Column("n", ("measured",), lambda row: (len(row.trials),)),
        Column("", ("host",), lambda row: (names[row.row],)),
        Column("", ("shared_seeds",), lambda row: (len(_shared(row, hosts.get(row.row))),)),
    ]
    notes = [*MEANING]
    pairs = {row: host.method for row, host in hosts.items()}
    if pairs:
        texts = (
            f"{row_names([row for row in pairs if pairs[row] == host], rows)} minus {host}"
            for host in dict.fromkeys(pairs.values())
        )
        notes.append(f"− host: {'; '.join(texts)}, mean over the seeds that both have.")
    notes += mark_notes(group, rows.values())
    caption = group.caption("diversity and confusion of the kept images")
    return Table(caption, list(rows.values()), columns, notes, "_diversity")


def _columns(measure: Measure, hosts: Hosts) -> tuple[Column, ...]:
    """Return columns of a distance, and of its mean difference to that of the host."""
    name = measure.start

    def against(row: MethodTrials) -> tuple[float]:
        host = hosts.get(row.row)
        if host is None:
            return (math.nan,)
        one, other = (by_seed(trials, trials.measured(measure)) for trials in (row, host))
        differences = [one[seed] - other[seed] for seed in one if seed in other]
        return (math.fsum(differences) / len(differences) if differences else math.nan,)

    return (
        spread_column(measure),
        Column(
            f"{measure.heading} − host", (f"{name}_difference",), against, partial(fixed, decimals=3, sign="+"),
            group=measure.heading, short="− host", optional=True,
        ),
    )  # fmt: skip


def _shared(row: MethodTrials, host: MethodTrials | None) -> set[float]:
    return set() if host is None else {*row.numbers("seed").dropna()} & {*host.numbers("seed").dropna()}
