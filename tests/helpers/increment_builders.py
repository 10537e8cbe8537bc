"""The results and phases of class-incremental learning that the tests of rgal.reporting report."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from rgal.suite.store.folders import SCHEMA, Store, write_json
from tests.helpers.reporting_builders import trial

STEM = "necil_cifar100-50-5x10-resnet18_small"
CLASSES = (50, 60, 70)  # of the phases that are reported; three are enough
SETTINGS = ("task", "setting", "budget", "dataset", "method", "order", "seed")


def increment_trial(method: str, order: int, seed: int, aia: float, **other: object) -> dict[str, object]:
    """One row of `results` of a trial that learned classes in phases; its `last` is ten points below its AIA."""
    columns: dict[str, object] = {
        "task": "necil",
        "setting": "cifar100 50+5x10 resnet18",
        "dataset": "cifar100",
        "teacher": "",
        "student": "resnet18",
        "teacher_top1": math.nan,
        "protocol": "50+5x10",
        "aia": aia,
        "aia_without_base": aia - 2,
        "forgetting": 8.0 + seed,
        "initial_forgetting": 9.0 + seed,
        "bwt": -9.0 - seed,
        "task_mean": aia - 11,
        "old_top1": aia - 20,
        "new_top1": aia + 5,
        "memory_mb": 0.25,
        "base_top1": 80.0,
    }
    row = trial(method, order, seed, aia - 10, **{**columns, **other})
    return {**row, "best": row["last"]}


def some_increments() -> pd.DataFrame:
    """abd 60, 62, 64 (mean 62, std 2); abd+rgal once, 66.456; fetril 1 of 2; pass fails; joint is real."""
    gone = dict.fromkeys(("protocol", "forgetting", "images", "memory_mb"), math.nan)
    failed = {"status": "failed", "reason": "out of memory", **gone}
    nothing = {"images": 0, "synthesis_steps": 0, "synthesis_seconds": 0.0}
    return pd.DataFrame(
        [
            increment_trial("abd", 3, 0, 60.0),
            increment_trial("abd", 3, 1, 62.0, images=51201),
            increment_trial("abd", 3, 2, 64.0),
            increment_trial("abd+rgal", 4, 0, 66.456),
            increment_trial("fetril", 2, 0, 58.0, **nothing),
            increment_trial("fetril", 2, 1, math.nan, status="interrupted", protocol=math.nan),
            increment_trial("pass", 1, 0, math.nan, **failed),
            increment_trial("pass", 1, 1, math.nan, **failed),
            increment_trial("joint", 9, 0, 85.5, data_free=False, memory_mb=120.0, **nothing),
        ]
    )


def some_phases(results: pd.DataFrame) -> pd.DataFrame:
    """Three phases a finished trial: top-1 is its AIA + 10, AIA, AIA - 10; old 20 below, new 5 above the AIA."""
    rows = [
        {
            "key": row.key,
            "method": row.method,
            "seed": row.seed,
            "phase": phase,
            "classes": classes,
            "top1": row.aia + 10 - 10 * phase,
            "old_top1": math.nan if phase == 0 else row.aia - 20,
            "new_top1": row.aia + 5,
        }
        for row in results.itertuples()
        for phase, classes in enumerate(CLASSES)
        if row.status == "finished"
    ]
    return pd.DataFrame(rows)


# Counts of two phases: 30 of 40; then 24 of 40 and 9 of 20, together 33 of 60.
COUNTS: list[dict[str, object]] = [
    {"phase": 0, "classes": 4, "tasks": [[30, 40]]},
    {"phase": 1, "classes": 6, "tasks": [[24, 40], [9, 20]]},
]


def stored_trial(root: Path, row: dict[str, object], phases: str | list[dict[str, object]] | None) -> Path:
    """A finished trial in the store below `root`, with phases.json of these phases or of this text, or without."""
    folder = Store(root).trial_folder(str(row["method"]), str(row["key"]).replace("-", "_"))
    folder.mkdir(parents=True)
    settings = {name: row[name] for name in (*SETTINGS, "teacher", "student")}
    write_json(folder / "trial.json", {"settings": settings, "environment": {"started": str(row["seed"])}})
    measured = {
        name: value
        for name, value in row.items()
        if name not in (*SETTINGS, "key", "teacher", "student")
        and not (isinstance(value, float) and math.isnan(value))
    }
    write_json(folder / "result.json", {"schema": SCHEMA, **measured})
    if isinstance(phases, str):
        (folder / "phases.json").write_text(phases)
    elif phases is not None:
        write_json(folder / "phases.json", {"phases": phases})
    return folder
