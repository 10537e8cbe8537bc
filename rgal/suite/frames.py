"""The store as tables: what reporting is a function of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from rgal.reporting.diversity_data import Diversity, diversity_frames, summary_columns
from rgal.suite.initial_pool import row_name
from rgal.suite.store import Metrics, Store, key_of, read_json

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

SETTINGS = (
    *("task", "setting", "budget", "dataset", "teacher", "student"),
    *("case", "case_order", "case_title", "method", "order", "seed"),
)


SAME_TRIAL = ("task", "setting", "budget", "case", "method", "seed")


def load_frames(store: Store, keys: set[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, curves) of the trials with these keys, or of all. Broken records appear with status "broken"."""
    results: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for folder in store.trial_folders():
        about = read_json(folder / "trial.json") or {}
        settings = about.get("settings") if isinstance(about.get("settings"), dict) else {}
        key = str(about.get("key", key_of(folder)))
        if keys is not None and key not in keys:
            continue
        result = read_json(folder / "result.json") or {}
        row: dict[str, Any] = {"key": key, "status": store.status(folder), "reason": result.get("reason", "")}
        for name in SETTINGS:
            row[name] = settings.get(name)  # type: ignore[union-attr]
        if row["method"]:
            row["method"] = row_name(str(row["method"]), str(settings.get("init_pool_key") or ""))  # type: ignore[union-attr]
        row["setting"] = row["setting"] or f"{row['dataset']} {row['teacher']} -> {row['student']}"
        environment = about.get("environment")
        row["started"] = str(environment.get("started", "")) if isinstance(environment, dict) else ""
        row.update((read_json(folder / "export.json") or {}).get("measured", {}))
        row.update(summary_columns(read_json(folder / "diversity.json")))
        row.update({k: v for k, v in result.items() if k not in ("schema", "status", "reason")})
        results.append(row)
        curves += _curve(folder, row)
    return (
        pd.DataFrame(results).reindex(columns=_with(RESULT_COLUMNS, results)),
        pd.DataFrame(curves).reindex(columns=CURVE_COLUMNS),
    )


def newest(results: pd.DataFrame) -> pd.DataFrame:
    """One trial a method, case and seed of a budget: the one that was started last.

    A budget that is edited under its old name makes new trials beside the old ones; they must not be averaged.
    """
    ordered = results.sort_values("started", kind="stable")
    broken = ordered["method"].isna()
    kept = ordered[broken | ~ordered.duplicated([*SAME_TRIAL], keep="last")]
    return results[results.index.isin(kept.index)]


def _with(columns: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """The known columns first, then whatever else a task measures."""
    extra = sorted({name for row in rows for name in row} - set(columns))
    return [*columns, *extra]


def _curve(folder: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    common = {name: row[name] for name in ("key", "case", "method", "setting", "budget", "seed")}
    return [
        common
        | {
            "round": event.get("round"),
            "seconds": event.get("synthesis_seconds", 0.0) + event.get("student_seconds", 0.0),
            "images": event.get("images"),
            "student_steps": event.get("student_steps"),
            "top1": event["top1"],
        }
        for event in Metrics(folder / "metrics.jsonl").rows()
        if isinstance(event, dict) and event.get("kind") == "evaluation" and "top1" in event
    ]


def load_layers(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """One row a layer of every finished trial that recorded its layers (layers.json)."""
    return pd.DataFrame([about | layer for about, layer in _entries(store, results, "layers")])


def load_phases(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """One row a phase of every finished trial that recorded its phases (phases.json).

    top1, old_top1 and new_top1: percent of the test images of all classes seen so far, of those of earlier phases
    (NaN in phase 0) and of the phase's own. A phase with malformed counts is left out; a later record of a phase
    replaces an earlier one.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for about, entry in _entries(store, results, "phases"):
        accuracies = _accuracies(entry)
        if accuracies is not None:
            phase, classes = entry["phase"], entry["classes"]
            rows[about["key"], phase] = about | {"phase": phase, "classes": classes} | accuracies
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


def _accuracies(entry: dict[str, Any]) -> dict[str, float] | None:
    """Percentages from a phase's counts, one [correct, total] for each phase up to it; None if they are malformed."""
    phase: Any = entry.get("phase")
    tasks = entry.get("tasks")
    if not _is_count(phase) or not _is_count(entry.get("classes"), 1) or not isinstance(tasks, list):
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
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_count, pair)):
        return False
    return bool(0 < pair[1] >= pair[0])


def _is_count(value: Any, least: int = 0) -> bool:
    """Whether this is a whole number, not too big for a float either."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _percent(shares: list[list[int]]) -> float:
    """Image-weighted accuracy of some tasks; NaN of none."""
    total = sum(total for _, total in shares)
    return 100 * sum(correct for correct, _ in shares) / total if total else math.nan
