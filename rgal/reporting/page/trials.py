"""Every trial of a store as data for the page: what it was asked for, where it ran, what it lost and made.

Columns are written once: a column of texts holds the distinct ones and for each trial the place of its own. What would
make the page heavy is bounded: curves and pictures of the first trials are inside it, those of the others beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rgal.reporting.page.charts import numbers_of_json
from rgal.reporting.page.pictures import png_picture
from rgal.reporting.results import MethodTrials, ResultGroup, case_label
from rgal.reporting.verdict import primary
from rgal.suite.store.folders import Metrics
from rgal.suite.store.records import Record, numbers_of, printable, read_json

MOST_NUMBERS = 60_000  # of all curves together
MOST_POINTS, LEAST_POINTS = 40, 6  # of a curve
USUAL_PARTS = 12  # curves of a trial
MOST_PICTURES = 3_000_000  # characters of all pictures together
SAMPLES = "samples.png"
COUNTERS = ("round", "images", "steps", "seconds")  # how the names of what is no part of a loss end
FILES = (
    "trial.json",
    "metrics.jsonl",
    "result.json",
    "export.json",
    "layers.json",
    "phases.json",
    "diversity.json",
    "error.txt",
    SAMPLES,
    "student.safetensors",
    "model.onnx",
)


def trials_data(
    records: Sequence[Record],
    groups: Mapping[str, pd.DataFrame],
    shown: frozenset[int],
    on_page: frozenset[str],
) -> dict[str, Any]:
    """Describe the trials of these groups.

    Args:
        records: of the store.
        groups: their rows of results by the anchors of the sections; the index is the place of the record.
        shown: the places of the trials that tables are made of.
        on_page: keys of the trials whose picture the page holds anyway.
    """
    places = [int(str(place)) for rows in groups.values() for place in rows.index]
    group_of = [number for number, rows in enumerate(groups.values()) for _ in rows.index]
    own = [records[place] for place in places]
    every = pd.concat(list(groups.values())) if groups else pd.DataFrame()
    settings = [
        dict(_flat((read_json(record.folder / "trial.json") or {}).get("settings"))) for record in own
    ]
    first = sorted(
        range(len(own)), key=lambda at: places[at] not in shown
    )  # what tables are made of comes first
    return {
        "groups": [{"id": anchor, "heading": ResultGroup(rows).heading} for anchor, rows in groups.items()],
        "group": group_of,
        "folder": [record.folder.name for record in own],
        "method": _column(every.get("method", ())),
        "case": _column(case_label(case or "") for case in every.get("case", ())),
        "seed": [record.settings["seed"] for record in own],
        "status": _column(record.status for record in own),
        "replaced": [at for at, place in enumerate(places) if place not in shown],
        "scores": " or ".join(dict.fromkeys(primary(ResultGroup(rows)).title for rows in groups.values())),
        "score": [value for rows in groups.values() for value in _scores(rows)],
        "images": numbers_of_json(record.result.get("images") for record in own),
        "seconds": numbers_of_json(map(_seconds, own)),
        "started": _column(record.environment.get("started", "") for record in own),
        "reason": _column(record.reason for record in own),
        "files": _column(" ".join(n for n in FILES if (record.folder / n).is_file()) for record in own),
        "settings": _table(settings),
        "environment": _table([dict(record.environment) for record in own], leave_out=("started", "pid")),
        "curves": _curves(own, first),
        "pictures": _pictures(own, first, on_page),
    }


def _column(values: Iterable[Any]) -> dict[str, Any]:
    """Write texts as the distinct ones and the place of each; of a column that is the same everywhere the one text."""
    texts = ["" if value is None else str(value) for value in values]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return {"v": list(places)} | ({"i": [places[text] for text in texts]} if len(places) > 1 else {})


def _table(rows: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in leave_out]
    return {name: _column(row.get(name) for row in rows) for name in names}


def _flat(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of nested settings: "schedule.rounds"; a list is one value."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner if isinstance(inner, str) else json.dumps(inner)


def _scores(rows: pd.DataFrame) -> list[float | None]:
    """Return the primary number of each row; None where it is not finished."""
    values = MethodTrials("", "", rows).measured(primary(ResultGroup(rows))).reindex(rows.index)
    return numbers_of_json(values)


def _seconds(record: Record) -> float:
    spent = [record.result.get(f"{part}_seconds") for part in ("synthesis", "student")]
    known = [float(part) for part in spent if part is not None]
    return math.fsum(known) if known else math.nan


def _curves(records: Sequence[Record], order: Sequence[int]) -> dict[str, Any]:
    """Return every number that trials recorded by round, by folder; until there are `MOST_NUMBERS`."""
    points = max(LEAST_POINTS, min(MOST_POINTS, MOST_NUMBERS // (USUAL_PARTS * max(1, len(records)))))
    curves, count = {}, 0
    for at in order:
        if count > MOST_NUMBERS:
            break
        if own := _curves_of(records[at].folder / "metrics.jsonl", points):
            curves[records[at].folder.name] = own
            count += sum(len(values) for part in own.values() for values in part.values())
    return curves


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


def _pictures(records: Sequence[Record], order: Sequence[int], on_page: frozenset[str]) -> dict[str, str]:
    """Return the grids of images by folder, until they have `MOST_PICTURES` characters."""
    pictures, count = {}, 0
    for at in order:
        record = records[at]
        if count > MOST_PICTURES:
            break
        if record.key not in on_page and (picture := png_picture(record.folder / SAMPLES)):
            pictures[record.folder.name] = picture.uri
            count += len(picture.uri)
    return pictures
