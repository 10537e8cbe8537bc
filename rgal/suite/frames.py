"""The store as tables: what reporting is a function of."""

from __future__ import annotations

from typing import Any

import pandas as pd

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
        row["setting"] = row["setting"] or f"{row['dataset']} {row['teacher']} -> {row['student']}"
        environment = about.get("environment")
        row["started"] = str(environment.get("started", "")) if isinstance(environment, dict) else ""
        row.update((read_json(folder / "export.json") or {}).get("measured", {}))
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
    finished = results[results["status"] == "finished"]
    folders = {key_of(folder): folder for folder in store.trial_folders()}
    rows: list[dict[str, Any]] = []
    for trial in finished[["key", "task", "setting", "budget", "method", "case", "seed"]].to_dict("records"):
        record = read_json(folders[trial["key"]] / "layers.json") if trial["key"] in folders else None
        layers = (record or {}).get("layers")
        about = {str(name): value for name, value in trial.items()}
        rows += [about | layer for layer in layers or () if isinstance(layer, dict)]
    return pd.DataFrame(rows)
