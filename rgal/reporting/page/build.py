"""What the HTML report says of a store: every trial, what it ran on, what failed, and what could not be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from rgal.reporting.figures.looks import CLASS_COLOURS
from rgal.reporting.kept import Kept
from rgal.reporting.page.joined import FILES, joined
from rgal.reporting.page.model import Cell, Heading, Link, Report, Section, Sheet, TaskPart, href
from rgal.suite.store.index import Entry
from rgal.suite.store.records import ODD, Record, printable
from rgal.suite.task import tasks

# What is shown of a machine -> its heading.
ENVIRONMENT = {
    "rgal": "rgal",
    "revision": "Revision",
    "python": "Python",
    "torch": "torch",
    "platform": "Platform",
    "processor": "Processor",
    "threads": "Threads",
    "slots": "Trials at a time",
    "gpu": "GPU",
}


T = TypeVar("T")
PageColumn: TypeAlias = tuple[Heading, Callable[[T], Cell]]


def make_report(entries: Sequence[Entry], kept: Mapping[str, Kept]) -> Report:
    """Return the page's data. Nothing in it depends on where or when it is made.

    Args:
        entries: all folders below trials/.
        kept: what was rendered of their groups, and then of overviews, by the stems of the files.
    """
    sections: dict[str, list[Section]] = {}
    charts: list[Mapping[str, object]] = []
    described: dict[str, Mapping[str, object]] = {}
    for one in kept.values():
        drawings = [replace(drawing, number=drawing.number + len(charts)) for drawing in one.section.drawings]
        sections.setdefault(one.task, []).append(replace(one.section, drawings=drawings))
        charts += one.charts
        if one.trials:
            described[one.section.anchor] = one.trials
    titles = {name: task.summary for name, task in tasks().items()}
    parts = [
        TaskPart(f"task-{number}", f"{task}: {titles[task]}" if task in titles else task, own)
        for number, (task, own) in enumerate(sections.items())
    ]
    records, trials = [entry.record for entry in entries], joined(described)
    return Report(
        f"Results: {', '.join(sections) or 'no trial that can be read'}",
        _facts(records),
        _environments(records),
        parts,
        _failures(records),
        _damaged(entries),
        len(trials["folder"]),
        {
            "charts": charts,
            "looks": {
                name: look
                for one in reversed(list(kept.values()))
                for name, look in one.trials.get("looks", {}).items()
            },
            "classes": CLASS_COLOURS,
            "trials": trials,
        },
    )


def _sheet(caption: str, columns: Sequence[PageColumn[T]], items: Sequence[T], *notes: str) -> Sheet:
    """Make a table with a row for each item; each column is a heading and the cell of an item."""
    rows = [[cell(item) for _, cell in columns] for item in items]
    return Sheet(caption, [heading for heading, _ in columns], rows, notes)


def _links(folder: Path) -> list[Link]:
    return [Link(name, href(folder / name, 3)) for name in FILES if (folder / name).is_file()]


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Say what was run and when, in pairs of a label and a text."""
    own = [record for record in records if record.settings]
    statuses = Counter(record.status for record in own)
    started = sorted(filter(None, (record.environment.get("started") for record in own)))
    spent = sum(_spent(record) for record in own)
    seeds = sorted({int(record.settings["seed"]) for record in own})
    facts = [
        ("Trials", f"{len(own)} ({', '.join(f'{n} {status}' for status, n in sorted(statuses.items()))})"),
        ("Data sets", _distinct(own, "dataset")),
        ("Budgets", _distinct(own, "budget")),
        ("Methods", _distinct(own, "method")),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Started", " to ".join(dict.fromkeys((started[0], started[-1]))) if started else ""),
        ("Time", f"{_duration(spent)} of synthesis and training in finished trials" if spent else ""),
    ]
    return [(label, text) for label, text in facts if text] if own else []


def _duration(spent: float) -> str:
    return f"{spent / 3600:,.1f} hours" if spent >= 7200 else f"{spent / 60:,.1f} minutes"


def _spent(record: Record) -> float:
    parts = [record.result.get(f"{part}_seconds") or 0.0 for part in ("synthesis", "student")]
    return math.fsum(0.0 if math.isnan(part) else part for part in parts)


def _distinct(records: Iterable[Record], name: str) -> str:
    return ", ".join(sorted({str(record.settings[name]) for record in records if record.settings[name]}))


def _environments(records: Sequence[Record]) -> Sheet:
    """List the distinct machines and versions, and how many trials ran on each."""
    machines = Counter(
        tuple(record.environment.get(name, "") for name in ENVIRONMENT)
        for record in records
        if record.settings
    )
    columns: list[PageColumn[tuple[tuple[str, ...], int]]] = [
        (Heading(title), lambda machine, place=place: Cell(machine[0][place]))  # type: ignore[misc]
        for place, title in enumerate(ENVIRONMENT.values())
    ]
    columns.append((Heading("Trials", "number"), lambda machine: Cell(str(machine[1]))))
    return _sheet("Environment", columns, sorted(machines.items()))


def _failures(records: Sequence[Record]) -> Sheet | None:
    columns: list[PageColumn[Record]] = [
        (Heading("Trial", name=True), lambda record: Cell(printable(record.folder.name))),
        (Heading("Reason", "long"), lambda record: Cell(record.reason or "unknown")),
        (Heading("Files"), lambda record: Cell(links=_links(record.folder))),
    ]
    failed = [record for record in records if record.status == "failed"]
    return _sheet("Trials that failed; the same command runs them again", columns, failed) if failed else None


def _damaged(entries: Sequence[Entry]) -> Sheet | None:
    columns: list[PageColumn[tuple[Record, str]]] = [
        (Heading("Folder", name=True), lambda odd: Cell(printable(odd[0].folder.name))),
        (Heading("Kind"), lambda odd: Cell(_kind(odd[0]), tone="bad")),
        (Heading("Reason", "long"), lambda odd: Cell(odd[1])),
        (Heading("Files"), lambda odd: Cell(links=_links(odd[0].folder))),
    ]
    note = (
        "broken: unreadable, half-written or malformed; newer: written by a later version; foreign: no trial of ours. "
        "What cannot be used is in no table and no plot; it is as it was."
    )
    damaged = [(entry.record, reason) for entry in entries for reason in entry.damage]
    return _sheet("Records that are left out", columns, damaged, note) if damaged else None


def _kind(record: Record) -> str:
    """Return what is odd about a folder; files beside a good record are broken."""
    return record.status if record.status in ODD else "broken"
