"""The results and curves that the tests of rgal.reporting report."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

REFERENCE = Path(__file__).parents[1] / "benchmarks" / "reference"
CMI_README = "README of github.com/zju-vipa/CMI"


def trial(method: str, order: int, seed: int, last: float, **other: object) -> dict[str, object]:
    """One row of `results`, finished unless `other` says something else."""
    return {
        "key": f"{method}-{seed}",
        "task": "kd",
        "setting": "cifar10 wrn40_2 -> wrn16_1",
        "budget": "small",
        "dataset": "cifar10",
        "teacher": "wrn40_2",
        "student": "wrn16_1",
        "method": method,
        "order": order,
        "seed": seed,
        "status": "finished",
        "reason": "",
        "data_free": True,
        "last": last,
        "best": last + 5,
        "teacher_top1": 95.0,
        "images": 51200,
        "synthesis_steps": 80000,
        "student_steps": 40000,
        "synthesis_seconds": 1234.4,
        "student_seconds": 12.345,
        "image_note": "",
        **other,
    }


def some_results() -> pd.DataFrame:
    """cmi 90, 92, 94 (mean 92, std 2); cmi+rgal once; deepinversion 1 of 2; dafl fails; scratch is real."""
    failed = {"status": "failed", "reason": "out of memory", "images": 0}
    return pd.DataFrame(
        [
            trial("cmi", 2, 0, 90.0),
            trial("cmi", 2, 1, 92.0, images=51201, synthesis_seconds=1235.4),
            trial("cmi", 2, 2, 94.0),
            trial("cmi+rgal", 3, 0, 93.456),
            trial("deepinversion", 1, 0, 80.0),
            trial("deepinversion", 1, 1, 10.0, status="interrupted"),
            trial("dafl", 0, 0, math.nan, **failed),
            trial("dafl", 0, 1, math.nan, **failed),
            trial("scratch", 9, 0, 91.5, data_free=False, images=0, synthesis_steps=0, synthesis_seconds=0.0),
        ]
    )


def some_curves(results: pd.DataFrame) -> pd.DataFrame:
    """Four rounds a trial, ten seconds and 100 images each; cmi-2 lacks the third round."""
    rows = [
        {
            "key": row.key,
            "round": r,
            "seconds": 10.0 * r + row.seed,
            "images": 100 * r,
            "top1": row.last - 4 + r,
        }
        for row in results.itertuples()
        for r in (1, 2, 3, 4)
        if row.status == "finished" and not (row.key == "cmi-2" and r == 3)
    ]
    return pd.DataFrame(rows)


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("method")
