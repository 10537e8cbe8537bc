"""Puts what was described of each group's trials together: what the script reads of all.

A column of texts holds the distinct ones, and for each trial the place of its own. What would make the page heavy is
bounded: curves and pictures of the first trials are inside it, those of the others beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_NUMBERS = 60_000  # of all curves together
MOST_PICTURES = 3_000_000  # characters of all pictures together
SAMPLES = "samples.png"
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
TEXTS = ("method", "case", "status", "started", "reason", "files")
LISTS = ("folder", "seed", "score", "images", "seconds")
TABLES = ("settings", "environment")
Described = Mapping[str, Any]  # what `rgal.reporting.page.trials.described` returns of a group
Column = dict[str, Any]


def joined(groups: Mapping[str, Described]) -> dict[str, Any]:
    """Describe the trials of all groups.

    Args:
        groups: what each is described as, by the anchors of their sections.
    """
    parts = list(groups.values())
    sizes = [len(part["folder"]) for part in parts]
    starts = [sum(sizes[:place]) for place in range(len(parts))]
    return {
        "groups": [{"id": anchor, "heading": part["heading"]} for anchor, part in groups.items()],
        "group": [place for place, size in enumerate(sizes) for _ in range(size)],
        "replaced": [
            start + at for part, start in zip(parts, starts, strict=True) for at in part["replaced"]
        ],
        "scores": " or ".join(dict.fromkeys(part["scores"] for part in parts)),
        **{name: [value for part in parts for value in part[name]] for name in LISTS},
        **{name: _column([part[name] for part in parts], sizes) for name in TEXTS},
        **{name: _table([part[name] for part in parts], sizes) for name in TABLES},
        "curves": within((part["curves"] for part in parts), numbers_in, MOST_NUMBERS),
        "pictures": within((part["pictures"] for part in parts), len, MOST_PICTURES),
    }


def column_of(values: Iterable[Any]) -> Column:
    """Write texts as the distinct ones and the place of each; of a column that is the same everywhere the one text."""
    texts = ["" if value is None else str(value) for value in values]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return {"v": list(places)} | ({"i": [places[text] for text in texts]} if len(places) > 1 else {})


def within(parts: Iterable[Mapping[str, Any]], size: Any, most: int) -> dict[str, Any]:
    """Take what is there, in order, until the sizes of what was taken are more than `most` together."""
    taken: dict[str, Any] = {}
    count = 0
    for name, value in (item for part in parts for item in part.items()):
        if count > most:
            break
        taken[name] = value
        count += size(value)
    return taken


def numbers_in(curves: Mapping[str, Mapping[str, Sequence[Any]]]) -> int:
    """Count the numbers of a trial's curves."""
    return sum(len(values) for part in curves.values() for values in part.values())


def _column(columns: Sequence[Column | None], sizes: Sequence[int]) -> Column:
    """Join columns of so many rows each; None is one of blank texts."""
    places: dict[str, int] = {}
    rows: list[int] = []
    for column, size in zip(columns, sizes, strict=True):
        column = column or {"v": [""]}
        own = [places.setdefault(text, len(places)) for text in column["v"]] if size else []
        rows += [own[at] for at in column["i"]] if "i" in column else own[:1] * size
    return {"v": list(places)} | ({"i": rows} if len(places) > 1 else {})


def _table(tables: Sequence[Mapping[str, Column]], sizes: Sequence[int]) -> dict[str, Column]:
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: _column([table.get(name) for table in tables], sizes) for name in names}
