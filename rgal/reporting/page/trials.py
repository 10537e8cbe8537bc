"""The trials of a group as data for the page: what each was asked for, where it ran, what it lost and made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rgal.reporting.figures.style import line_styles
from rgal.reporting.page.charts import numbers_of_json
from rgal.reporting.page.joined import (
    FILES,
    MOST_NUMBERS,
    MOST_PICTURES,
    SAMPLES,
    column_of,
    numbers_in,
    within,
)
from rgal.reporting.page.pictures import png_picture
from rgal.reporting.results import MethodTrials, ResultGroup, case_label
from rgal.reporting.verdict import primary
from rgal.suite.store.folders import Metrics
from rgal.suite.store.records import Record, numbers_of, printable, read_json

MOST_POINTS, LEAST_POINTS = 40, 6  # of a curve
USUAL_PARTS = 12  # curves of a trial
COUNTERS = ("round", "images", "steps", "seconds")  # how the names of what is no part of a loss end


def described(
    records: Sequence[Record], rows: pd.DataFrame, shown: frozenset[int], on_page: frozenset[str]
) -> dict[str, Any]:
    """Describe the trials of one group, for `rgal.reporting.page.joined`.

    Args:
        records: any, with those of the group.
        rows: of its results; the index is the place of the record.
        shown: the places of the trials that tables are made of.
        on_page: keys of the trials whose picture the page holds anyway.
    """
    places = [int(str(place)) for place in rows.index]
    own = [records[place] for place in places]
    settings = [
        dict(_flat((read_json(record.folder / "trial.json") or {}).get("settings"))) for record in own
    ]
    # what tables are made of comes first
    ordered = [own[at] for at in sorted(range(len(own)), key=lambda at: places[at] not in shown)]
    group = ResultGroup(rows)
    return {
        "heading": group.heading,
        "looks": {name: look.on_page() for name, look in line_styles(rows).items()},
        "folder": [record.folder.name for record in own],
        "method": column_of(rows["method"]),
        "case": column_of(case_label(case or "") for case in rows.get("case", [""] * len(own))),
        "seed": [record.settings["seed"] for record in own],
        "status": column_of(record.status for record in own),
        "replaced": [at for at, place in enumerate(places) if place not in shown],
        "scores": primary(group).title,
        "score": _scores(rows, group),
        "images": numbers_of_json(record.result.get("images") for record in own),
        "seconds": numbers_of_json(map(_seconds, own)),
        "started": column_of(record.environment.get("started", "") for record in own),
        "reason": column_of(record.reason for record in own),
        "files": column_of(" ".join(n for n in FILES if (record.folder / n).is_file()) for record in own),
        "settings": _table(settings),
        "environment": _table([dict(record.environment) for record in own], leave_out=("started", "pid")),
        "curves": within(_curves(ordered), numbers_in, MOST_NUMBERS),
        "pictures": within(_pictures(ordered, on_page), len, MOST_PICTURES),
    }


def _table(rows: Sequence[dict[str, Any]], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in leave_out]
    return {name: column_of(row.get(name) for row in rows) for name in names}


def _flat(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of nested settings: "schedule.rounds"; a list is one value."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner if isinstance(inner, str) else json.dumps(inner)


def _scores(rows: pd.DataFrame, group: ResultGroup) -> list[float | None]:
    """Return the primary number of each row; None where it is not finished."""
    values = MethodTrials("", "", rows).measured(primary(group)).reindex(rows.index)
    return numbers_of_json(values)


def _seconds(record: Record) -> float:
    spent = [record.result.get(f"{part}_seconds") for part in ("synthesis", "student")]
    known = [float(part) for part in spent if part is not None]
    return math.fsum(known) if known else math.nan


def _curves(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Yield every number that trials recorded by round, by folder."""
    points = max(LEAST_POINTS, min(MOST_POINTS, MOST_NUMBERS // (USUAL_PARTS * max(1, len(records)))))
    for record in records:
        if own := _curves_of(record.folder / "metrics.jsonl", points):
            yield {record.folder.name: own}


def _curves_of(path: Path, points: int) -> dict[str, dict[str, list[float | None]]]:
    """Return kind of event -> name -> values, "x" being the rounds."""
    events: dict[str, list[dict[str, Any]]] = {}
    for row in Metrics(path).rows():
        if isinstance(row, dict) and isinstance(row.get("kind"), str) and isinstance(row.get("round"), int):
            events.setdefault(printable(row["kind"]), []).append(numbers_of(row) | {"round": row["round"]})
    parts = {}
    for kind, every in events.items():
        last = len(every) - 1
        kept = every if last < points else [every[at * last // (points - 1)] for at in range(points)]
        names = dict.fromkeys(name for row in kept for name in row if not name.endswith(COUNTERS))
        own = {name: numbers_of_json(map(_number, (row.get(name) for row in kept))) for name in names}
        if own := {name: values for name, values in own.items() if any(v is not None for v in values)}:
            parts[kind] = {**own, "x": numbers_of_json(row["round"] for row in kept)}
    return parts


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _pictures(records: Sequence[Record], on_page: frozenset[str]) -> Iterator[dict[str, str]]:
    """Yield the grids of images by folder."""
    for record in records:
        if record.key not in on_page and (picture := png_picture(record.folder / SAMPLES)):
            yield {record.folder.name: picture.uri}
