"""Records of kept images and the trials they are of, for the tests of their report."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from rgal.suite.store.diversity import Diversity, diversity_frames, summary_columns
from tests.helpers.reporting_builders import trial


def numbers(same: float, different: float | None, **other: float | None) -> dict[str, Any]:
    return {"same": same, "different": different, "in_band": 0.25, "fallback": 0.1} | other


def record(same: float = 0.5, different: float | None = 1.0, **other: Any) -> dict[str, Any]:
    """Two rounds; four bins; two kept images and two real ones."""
    return {
        "schema": 1,
        "bins": {"low": 0.0, "high": 2.0, "count": 4},
        "band": [0.5, 1.0],
        "warmup": 0,
        "rounds": [
            {"round": 1, "images": 8, **numbers(same - 0.1, different)},
            {"round": 2, "images": 8, **numbers(same + 0.1, different)},
        ],
        "after_warmup": numbers(same, different, student_same=0.3, student_different=0.9),
        "last": numbers(same + 0.1, different),
        "histograms": {"same": [3, 1, 0, 0], "different": [0, 2, 2, 0], "negatives": [0, 0, 1, 3]},
        "embedding": {
            "perplexity": 1.0,
            "x": [0.0, 1.0, 2.0, -1.5],
            "y": [0.0, 1.0, 0.0, 3],
            "label": [0, 1, 0, 11],
            "synthetic": [True, True, False, False],
        },
    } | other


# plain and rgal share seed 1 only; deepinversion has one label in its batches; scratch is on real data; cmi failed
RECORDS = {
    "plain-0": record(0.5, 1.0),
    "plain-1": record(0.6, 1.1),
    "rgal-1": record(0.75, 1.0),
    "rgal-2": record(0.85, 0.9),
    "deepinversion-0": record(0.2, None),
}


def some_trials() -> pd.DataFrame:
    rows = [
        trial("plain", 0, 0, 80.0),
        trial("plain", 0, 1, 82.0),
        trial("rgal", 1, 1, 84.0),
        trial("rgal", 1, 2, 85.0),
        trial("deepinversion", 2, 0, 70.0),
        trial("cmi", 3, 0, math.nan, status="failed"),
        trial("scratch", 9, 0, 90.0, data_free=False),
    ]
    return pd.DataFrame([row | summary_columns(RECORDS.get(str(row["key"]))) for row in rows])


def some_diversity() -> Diversity:
    return diversity_frames(RECORDS.items())
