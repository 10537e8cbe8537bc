"""The store as tables: what reporting is a function of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rgal.reporting.figures.diversity_data import Diversity, diversity_frames, summary_columns
from rgal.suite.plan.initial_pool import row_name
from rgal.suite.store.folders import Metrics, Store
from rgal.suite.store.records import (
    ODD,
    SETTINGS,
    Record,
    is_whole,
    key_of,
    measured_problem,
    numbers_of,
    read_json,
    read_record,
)

RESULT_COLUMNS = [
    "key",
    "task",
    "setting",
    "budget",
    "dataset",
    "teacher",
    "student",
    "case",
    "case_order",
    "case_title",
    "method",
    "order",
    "seed",
    "started",
    "status",
    "reason",
    "data_free",
    "last",
    "best",
    "teacher_top1",
    "images",
    "synthesis_steps",
    "student_steps",
    "synthesis_seconds",
    "student_seconds",
]
CURVE_COLUMNS = [
    "key",
    "case",
    "method",
    "setting",
    "budget",
    "seed",
    "round",
    "seconds",
    "images",
    "student_steps",
    "top1",
]


# What the records of a trial's layers or phases repeat of it.
TRIAL_COLUMNS = ["key", "task", "setting", "budget", "method", "case", "seed"]
PHASE_COLUMNS = [*TRIAL_COLUMNS, "phase", "classes", "top1", "old_top1", "new_top1"]

SAME_TRIAL = ("task", "setting", "budget", "case", "method", "seed")


def load_frames(store: Store, keys: set[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, curves) of the trials with these keys, or of all.

    Odd records (see `Record`) appear with their status and reason. Those whose settings cannot be told have none:
    `identified` leaves them out.
    """
    return make_frames([record for record in load_records(store) if keys is None or record.key in keys])


def make_frames(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, curves) of these records."""
    rows = [_result(record) for record in records]
    curves = [
        point for record, row in zip(records, rows, strict=True) for point in _curve(record.folder, row)
    ]
    return (
        pd.DataFrame(rows).reindex(columns=_with(RESULT_COLUMNS, rows)),
        pd.DataFrame(curves).reindex(columns=CURVE_COLUMNS),
    )


def load_records(store: Store) -> list[Record]:
    """The record of every folder below trials/, in the order of their names."""
    return [read_record(folder) for folder in store.trial_folders()]


def identified(results: pd.DataFrame) -> pd.DataFrame:
    """The trials whose settings are known: what tables and plots can hold."""
    return results[results["method"].notna()].astype({"seed": "int64"})  # beside unknown ones it was a float


def _result(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"key": record.key, "status": record.status, "reason": record.reason}
    row.update({name: record.settings.get(name) for name in SETTINGS})
    pool = row.pop("init_pool_key")
    if record.settings:
        row["method"] = row_name(row["method"], pool or "")
        row["setting"] = row["setting"] or f"{row['dataset']} {row['teacher']} -> {row['student']}"
    row["started"] = record.environment.get("started", "")
    diversity = summary_columns(read_json(record.folder / "diversity.json"))
    return row | _exported(record.folder) | diversity | dict(record.result)


def _exported(folder: Path) -> dict[str, Any]:
    """What was measured of an exported student; nothing where that is missing or malformed."""
    measured = (read_json(folder / "export.json") or {}).get("measured")
    if not isinstance(measured, dict) or measured_problem(measured):
        return {}
    return numbers_of(measured)


def newest(results: pd.DataFrame) -> pd.DataFrame:
    """One trial a method, case and seed of a budget: the one that was started last, an odd one only if it is alone.

    A budget that is edited under its old name makes new trials beside the old ones; they must not be averaged.
    """
    ordered = results.assign(sound=~results["status"].isin(ODD)).sort_values(
        ["sound", "started"], kind="stable"
    )
    unknown = ordered["method"].isna()
    kept = ordered[unknown | ~ordered.duplicated([*SAME_TRIAL], keep="last")]
    return results[results.index.isin(kept.index)]


def _with(columns: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """The known columns first, then whatever else a task measures."""
    extra = sorted({name for row in rows for name in row} - set(columns))
    return [*columns, *extra]


def _curve(folder: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations of one trial; malformed events are left out."""
    common = {name: row[name] for name in ("key", "case", "method", "setting", "budget", "seed")}
    events = Metrics(folder / "metrics.jsonl").rows() if common["method"] is not None else []
    return [
        common
        | {name: event.get(name) for name in ("round", "images", "student_steps", "top1")}
        | {"seconds": event.get("synthesis_seconds", 0.0) + event.get("student_seconds", 0.0)}
        for event in events
        if is_evaluation(event)
    ]


def is_evaluation(event: Any) -> bool:
    """Whether this row of metrics.jsonl is a point of a curve."""
    if not isinstance(event, dict) or event.get("kind") != "evaluation" or event.get("top1") is None:
        return False
    counts = [event.get(name, 0.0) for name in ("synthesis_seconds", "student_seconds")]
    if None in counts or not is_whole(event.get("round")):
        return False
    numbers = {"synthesis_seconds": counts[0], "student_seconds": counts[1], "last": event["top1"]}
    return not measured_problem(numbers | {name: event.get(name) for name in ("images", "student_steps")})


def load_layers(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """One row a layer of every finished trial that recorded its layers (layers.json)."""
    found = _entries(store, results, "layers")
    return pd.DataFrame([numbers_of(layer) | about for about, layer in found if is_layer(layer)])


def is_layer(entry: dict[str, Any]) -> bool:
    """Whether this record of layers.json names a quantizer."""
    if not isinstance(entry.get("layer"), str) or not is_whole(entry.get("index")):
        return False
    return entry.get("kind") in ("weight", "activation")


def load_phases(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """One row a phase of every finished trial that recorded its phases (phases.json).

    top1, old_top1 and new_top1: percent of the test images of all classes seen so far, of those of earlier phases
    (NaN in phase 0) and of the phase's own. A phase with malformed counts is left out; a later record of a phase
    replaces an earlier one.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for about, entry in _entries(store, results, "phases"):
        measured = accuracies(entry)
        if measured is not None:
            phase, classes = entry["phase"], entry["classes"]
            rows[about["key"], phase] = about | {"phase": phase, "classes": classes} | measured
    return pd.DataFrame(list(rows.values()), columns=PHASE_COLUMNS)


def load_diversity(store: Store, results: pd.DataFrame) -> Diversity:
    """What the finished trials recorded of their kept images (diversity.json). What is malformed is left out."""
    return diversity_frames(
        (about["key"], content) for about, content in _contents(store, results, "diversity")
    )


def _contents(
    store: Store, results: pd.DataFrame, name: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(trial, content) of the finished trials' NAME.json; empty content where there is none."""
    finished = results[results["status"] == "finished"]
    folders = {key_of(folder): folder for folder in store.trial_folders()}
    for trial in finished[TRIAL_COLUMNS].to_dict("records"):
        content = read_json(folders[trial["key"]] / f"{name}.json") if trial["key"] in folders else None
        yield {str(column): value for column, value in trial.items()}, content or {}


def _entries(
    store: Store, results: pd.DataFrame, name: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(trial, record) for each mapping in the list `name` of the finished trials' NAME.json."""
    for about, content in _contents(store, results, name):
        yield from ((about, record) for record in _mappings(content.get(name)))


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def accuracies(entry: dict[str, Any]) -> dict[str, float] | None:
    """Percentages from a phase's counts, one [correct, total] for each phase up to it; None if they are malformed."""
    phase: Any = entry.get("phase")
    tasks = entry.get("tasks")
    if not is_whole(phase, 0) or not is_whole(entry.get("classes"), 1) or not isinstance(tasks, list):
        return None
    if len(tasks) != phase + 1 or not all(map(_is_share, tasks)):
        return None
    return {
        "top1": _percent(tasks),
        "old_top1": _percent(tasks[:-1]),
        "new_top1": _percent(tasks[-1:]),
    }


def _is_share(pair: Any) -> bool:
    """Whether this is [correct, total]."""
    if not isinstance(pair, list) or len(pair) != 2 or not all(is_whole(number, 0) for number in pair):
        return False
    return bool(0 < pair[1] >= pair[0])


def _percent(shares: list[list[int]]) -> float:
    """Image-weighted accuracy of some tasks; NaN of none."""
    total = sum(total for _, total in shares)
    return 100 * sum(correct for correct, _ in shares) / total if total else math.nan
