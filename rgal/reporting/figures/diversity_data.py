"""What trials recorded of their kept images (diversity.json, see results/README.md) as frames.

Records are files that anyone may have edited: what is malformed in one is left out, and the rest of it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

SCHEMA = 1
QUANTITIES = ("same", "different", "in_band", "fallback", "student_same", "student_different")
# Column of the results -> (part of the record, its quantity). Distances in [0,2], shares in [0,1].
SUMMARY = {
    **{f"diversity_{name}": ("after_warmup", name) for name in QUANTITIES},
    **{f"diversity_last_{name}": ("last", name) for name in ("same", "different")},
}
KINDS = ("same", "different", "negatives")
ROUND_COLUMNS = ["key", "round", "images", *QUANTITIES]
BIN_COLUMNS = ["key", "kind", "low", "high", "count", "band_low", "band_high"]
POINT_COLUMNS = ["key", "x", "y", "label", "synthetic"]
MOST_BINS = 10_000

Record = dict[str, Any]


@dataclass(frozen=True)
class Diversity:
    """Of every trial, named by its key: rounds, one row each; bins, one row a kind of distance and bin, of all rounds
    after warm-up; points, one row an image of the embedding."""

    rounds: pd.DataFrame
    bins: pd.DataFrame
    points: pd.DataFrame


def no_diversity() -> Diversity:
    return diversity_frames([])


def diversity_frames(records: Iterable[tuple[str, Any]]) -> Diversity:
    """The frames of (key, record) pairs."""
    rounds: list[Record] = []
    bins: list[Record] = []
    points: list[pd.DataFrame] = []
    for key, record in records:
        if _is_record(record):
            rounds += [{"key": key, **entry} for entry in _rounds(record)]
            bins += [{"key": key, **entry} for entry in _bins(record)]
            found = _points(record)
            points += [] if found is None else [found.assign(key=key)]
    return Diversity(
        pd.DataFrame(rounds, columns=ROUND_COLUMNS),
        pd.DataFrame(bins, columns=BIN_COLUMNS),
        pd.concat(points, ignore_index=True)[POINT_COLUMNS]
        if points
        else pd.DataFrame(columns=POINT_COLUMNS),
    )


def summary_columns(record: Any) -> dict[str, float]:
    """The columns that a trial's row of results gets: what is known of `SUMMARY`."""
    if not _is_record(record):
        return {}
    found = {
        column: _number(_mapping(record.get(part)).get(name)) for column, (part, name) in SUMMARY.items()
    }
    return {column: value for column, value in found.items() if not math.isnan(value)}


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and record.get("schema") == SCHEMA


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float:
    """A finite number as float; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        return math.nan
    return float(value)


def _is_count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _rounds(record: Record) -> list[Record]:
    """A later entry of a round replaces an earlier one."""
    found = {}
    for entry in _list(record.get("rounds")):
        if isinstance(entry, dict) and _is_count(entry.get("round"), 1) and _is_count(entry.get("images")):
            about = {"round": entry["round"], "images": entry["images"]}
            found[entry["round"]] = about | {name: _number(entry.get(name)) for name in QUANTITIES}
    return list(found.values())


def _bins(record: Record) -> list[Record]:
    bins, band = _mapping(record.get("bins")), [*_list(record.get("band")), None, None]
    low, high, count = _number(bins.get("low")), _number(bins.get("high")), bins.get("count", 0)
    if not low < high or not _is_count(count, 1) or count > MOST_BINS:
        return []
    edges = [low + (high - low) * place / count for place in range(count + 1)]
    limits = {"band_low": _number(band[0]), "band_high": _number(band[1])}
    rows: list[Record] = []
    for kind in KINDS:
        counts = _list(_mapping(record.get("histograms")).get(kind))
        if len(counts) == count and all(map(_is_count, counts)):
            ends = zip(edges[:-1], edges[1:], counts, strict=True)
            rows += [{"kind": kind, "low": a, "high": b, "count": n, **limits} for a, b, n in ends]
    return rows


def _points(record: Record) -> pd.DataFrame | None:
    about = _mapping(record.get("embedding"))
    x, y, label, synthetic = (_list(about.get(name)) for name in POINT_COLUMNS[1:])
    if not len(x) == len(y) == len(label) == len(synthetic) > 0:
        return None
    known = all(not math.isnan(_number(value)) for value in (*x, *y))
    if not known or not all(map(_is_count, label)) or not _all_bools(synthetic):
        return None
    return pd.DataFrame({"x": x, "y": y, "label": label, "synthetic": synthetic})


def _all_bools(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bool) for value in values)
