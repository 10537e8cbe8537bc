"""What trials recorded of their kept images (diversity.json, see results/README.md) as frames.

Records are files that anyone may have edited: what is malformed in one is left out, and the rest of it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from rgal.suite.store.records import Count, Number, Part, valid

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
QUANTITIES = ("same", "different", "in_band", "fallback", "student_same", "student_different")
# Column of the results -> (part of the record, its quantity). Distances in [0,2], shares in [0,1].
SUMMARY = {
    **{f"diversity_{name}": ("after_warmup", name) for name in QUANTITIES},
    **{f"diversity_last_{name}": ("last", name) for name in ("same", "different")},
}
KINDS = ("same", "different", "negatives")
BIN_COLUMNS = ["key", "kind", "low", "high", "count", "band_low", "band_high"]
POINT_COLUMNS = ["key", "x", "y", "label", "synthetic"]


def _number(value: Any) -> float:
    """Return a finite number as float; NaN for anything else."""
    checked = valid(OneNumber, {"value": value})
    return math.nan if checked is None else checked.value


class OneNumber(Part):
    value: Number


Known = Annotated[float, BeforeValidator(_number)]


class Distances(Part):
    """Mean distances and shares of some images; NaN for what is unknown."""

    same: Known = math.nan
    different: Known = math.nan
    in_band: Known = math.nan
    fallback: Known = math.nan
    student_same: Known = math.nan
    student_different: Known = math.nan


class Round(Distances):
    """The distances of one round's kept images."""

    round: Annotated[Count, Field(ge=1)]
    images: Count


ROUND_COLUMNS = ["key", "round", "images", *QUANTITIES]


class Bins(Part):
    """Equal bins of a histogram."""

    low: Number
    high: Number
    count: Annotated[Count, Field(ge=1, le=10_000)]

    def edges(self) -> list[float]:
        return [self.low + (self.high - self.low) * place / self.count for place in range(self.count + 1)]


class Histogram(Part):
    counts: list[Count]


class Embedding(Part):
    """Points of a map, of synthesised images and of real ones."""

    x: Annotated[list[Number], Field(min_length=1)]
    y: list[Number]
    label: list[Count]
    synthetic: list[StrictBool]

    @model_validator(mode="after")
    def _same_length(self) -> Embedding:
        if not len(self.x) == len(self.y) == len(self.label) == len(self.synthetic):
            raise ValueError("lists of different lengths")
        return self


@dataclass(frozen=True)
class Diversity:
    """Of every trial, named by its key: rounds, one row each; bins, one row a kind of distance and bin, of all rounds
    after warm-up; points, one row an image of the embedding."""

    rounds: pd.DataFrame
    bins: pd.DataFrame
    points: pd.DataFrame


def diversity_frames(
    records: Iterable[tuple[str, Any]], alike: Mapping[str, tuple[Any, ...]] | None = None
) -> Diversity:
    """Return the frames of (key, record) pairs; empty ones of none.

    Args:
        records: of trials.
        alike: by keys, what trials have in common of which only the first embedding is kept; default: all are.
    """
    import pandas as pd

    rounds: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    points: dict[str, list[Any]] = {column: [] for column in POINT_COLUMNS}
    mapped: set[tuple[Any, ...]] = set()
    for key, record in records:
        if _is_record(record):
            rounds += [{"key": key, **entry} for entry in _rounds(record)]
            bins += [{"key": key, **entry} for entry in _bins(record)]
            group = alike.get(key, (key,)) if alike else (key,)
            if group not in mapped and (embedding := valid(Embedding, record.get("embedding"))):
                mapped.add(group)
                points["key"] += [key] * len(embedding.x)
                for column in POINT_COLUMNS[1:]:
                    points[column] += getattr(embedding, column)
    return Diversity(
        pd.DataFrame(rounds, columns=ROUND_COLUMNS),
        pd.DataFrame(bins, columns=BIN_COLUMNS),
        pd.DataFrame(points, columns=POINT_COLUMNS),
    )


def summary_columns(record: Any) -> dict[str, float]:
    """Return the columns that a trial's row of results gets: what is known of `SUMMARY`."""
    if not _is_record(record):
        return {}
    parts = {part: valid(Distances, record.get(part)) or Distances() for part, _ in SUMMARY.values()}
    values = {column: getattr(parts[part], name) for column, (part, name) in SUMMARY.items()}
    return {column: value for column, value in values.items() if not math.isnan(value)}


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and type(record.get("schema")) is int and record["schema"] == SCHEMA


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rounds(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sound rounds; a later entry of a round replaces an earlier one."""
    entries = filter(None, (valid(Round, entry) for entry in _list(record.get("rounds"))))
    return list({entry.round: entry.model_dump() for entry in entries}.values())


def _bins(record: dict[str, Any]) -> list[dict[str, Any]]:
    bins, histograms = valid(Bins, record.get("bins")), record.get("histograms")
    if bins is None or not bins.low < bins.high or not isinstance(histograms, dict):
        return []
    band = [*_list(record.get("band")), None, None]
    limits = {"band_low": _number(band[0]), "band_high": _number(band[1])}
    edges = bins.edges()
    return [
        {"kind": kind, "low": low, "high": high, "count": count, **limits}
        for kind in KINDS
        if (histogram := valid(Histogram, {"counts": histograms.get(kind)}))
        and len(histogram.counts) == bins.count
        for low, high, count in zip(edges[:-1], edges[1:], histogram.counts, strict=True)
    ]
