"""The table of what the kept images are like: how far apart in a class, how close to other classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rgal.methods.names import host_of
from rgal.reporting.results import Row, finished, heading, known, method_rows, numbers, require_one_group
from rgal.reporting.tables.notes import row_names
from rgal.reporting.tables.render import CASE, METHOD, MINUS, PLUS_MINUS, Column
from rgal.reporting.tables.rows import as_table, row_start, titled
from rgal.suite.store.diversity import SUMMARY

COMPARED = ("same", "different")  # what is also given as difference to the host
RAW_COLUMNS = (
    "case",
    "method",
    "data_free",
    "measured",
    "same_mean",
    "same_std",
    "different_mean",
    "different_std",
    "in_band_percent",
    "fallback_percent",
    "student_same_mean",
    "student_different_mean",
    "last_same_mean",
    "last_different_mean",
    "host",
    "shared_seeds",
    "same_difference",
    "different_difference",
)


def _distance(value: float, sign: str = "") -> str:
    """Three decimals; blank when unknown."""
    return "" if pd.isna(value) else f"{value:{sign}.3f}".replace("-", MINUS)


def _spread(mean: float, std: float) -> str:
    return f"{_distance(mean)}{PLUS_MINUS}{_distance(std)}" if _distance(std) else _distance(mean)


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"


DIVERSITY_COLUMNS = (
    CASE,
    METHOD,
    Column("Same label", lambda row: _spread(row.same_mean, row.same_std), "Same label", "distance"),
    Column(
        "Same label − host", lambda row: _distance(row.same_difference, "+"), "Same label", "− host",
        needs="same_difference",
    ),
    Column(
        "Different label", lambda row: _spread(row.different_mean, row.different_std), "Different label",
        "distance",
    ),
    Column(
        "Different label − host", lambda row: _distance(row.different_difference, "+"), "Different label", "− host",
        needs="different_difference",
    ),
    Column("In band (%)", lambda row: _percent(row.in_band_percent), "Negatives (%)", "in band"),
    Column("Fallback (%)", lambda row: _percent(row.fallback_percent), "Negatives (%)", "fallback"),
    Column(
        "Same, student", lambda row: _distance(row.student_same_mean), "Student", "same",
        needs="student_same_mean",
    ),
    Column(
        "Different, student", lambda row: _distance(row.student_different_mean), "Student", "different",
        needs="student_different_mean",
    ),
    Column("n", lambda row: str(row.measured)),
)  # fmt: skip

MEANING = (
    "Distances in [0, 2] of unit vectors: the teacher's penultimate features, and those of the final student. Labels: "
    "the teacher's argmax. Mean over the pairs inside a round's batch, of all rounds after warm-up that are kept; "
    "± sample standard deviation over the n trials. Larger same-label distance: more diverse classes; smaller "
    "different-label distance: more confusable ones.",
    "In band: other-label pairs whose normalised teacher logits are 0.5 to 1.0 apart, the focal sampler's band. "
    "Fallback: anchors that form a same-label pair and have no negative in it.",
)


def diversity_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row a (case, method) whose finished trials measured their images; empty where none did.

    Trials of one (task, setting, budget), else ValueError. Distances in [0, 2], shares in percent. A difference to the
    host is the mean over the seeds that both have. `attrs` as in `accuracy_table`.
    """
    require_one_group(results)
    every = method_rows(results.reset_index(drop=True))
    rows = {row: found for row, trials in every.items() if len(found := _measured(trials))}
    table = as_table([_row(row, rows) for row in rows], RAW_COLUMNS)
    caption = ", ".join(
        part for part in (heading(results), "diversity and confusion of the kept images") if part
    )
    return titled(table, results, caption, _notes(table, rows))


def _measured(trials: pd.DataFrame) -> pd.DataFrame:
    """The finished trials with any number about their images."""
    done = finished(trials)
    found = pd.concat([numbers(done, name) for name in SUMMARY], axis=1)
    return done[found.notna().any(axis=1)]


def _row(row: Row, rows: Mapping[Row, pd.DataFrame]) -> dict[str, Any]:
    trials = rows[row]
    values = {name.removeprefix("diversity_"): numbers(trials, name) for name in SUMMARY}
    entry: dict[str, Any] = {**row_start(row, trials), "measured": len(trials)}
    for name in COMPARED:
        entry |= {f"{name}_mean": values[name].mean(), f"{name}_std": values[name].std(ddof=1)}
    for name in ("student_same", "student_different", "last_same", "last_different"):
        entry[f"{name}_mean"] = values[name].mean()
    for name in ("in_band", "fallback"):
        entry[f"{name}_percent"] = 100 * values[name].mean()
    host = host_of(row[1], [method for case, method in rows if case == row[0]])
    return entry | _against(trials, rows.get((row[0], host)), host)


def _against(trials: pd.DataFrame, hosts: pd.DataFrame | None, host: str) -> dict[str, Any]:
    """Mean differences to the host over the seeds that both have; NaN where there are none."""
    unknown = {f"{name}_difference": math.nan for name in COMPARED}
    if hosts is None or "seed" not in trials.columns:
        return {"host": "", "shared_seeds": 0, **unknown}
    ours, theirs = (frame.drop_duplicates("seed").set_index("seed").sort_index() for frame in (trials, hosts))
    found = {}
    for name in COMPARED:
        column = f"diversity_{name}"
        found[f"{name}_difference"] = (numbers(ours, column) - numbers(theirs, column)).dropna().mean()
    return {"host": host, "shared_seeds": len(ours.index.intersection(theirs.index)), **found}


def _notes(table: pd.DataFrame, rows: Mapping[Row, pd.DataFrame]) -> list[str]:
    notes = [*MEANING]
    if known(table, "same_difference"):
        pairs = {row: method for row, method in zip(rows, table["host"], strict=True) if method}
        hosts = "; ".join(
            f"{row_names([row for row in pairs if pairs[row] == host], rows)} minus {host}"
            for host in dict.fromkeys(pairs.values())
        )
        notes.append(f"− host: {hosts}, mean over the seeds that both have.")
    return notes
