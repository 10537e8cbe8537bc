"""What the HTML report says of a store: every trial, what it ran on, what failed, and what could not be read."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import pandas as pd

from rgal.reporting.page.model import Cell, Figure, Heading, Link, Report, Section, Sheet, TaskPart, sheet
from rgal.reporting.page.pictures import plot_picture, png_picture
from rgal.reporting.results import ResultGroup, case_label, case_title, groups, heading, known, only
from rgal.reporting.tables.column import significant
from rgal.reporting.tables.overview import overviews
from rgal.reporting.tables.table import Table
from rgal.suite.measures import TOP1
from rgal.suite.store.damaged import DamagedRecord, damaged_records
from rgal.suite.store.records import Record, printable

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
FILES = (
    "trial.json",
    "metrics.jsonl",
    "result.json",
    "export.json",
    "layers.json",
    "phases.json",
    "error.txt",
)
TONES = {"finished": "good", "failed": "bad", "broken": "bad", "newer": "bad", "foreign": "bad"}
# How the file of a plot ends -> what it shows, with the primary measure in braces. Another plot is called by the end of
# its file's name.
PLOTS = {
    "time": "{} against time",
    "images": "{} against synthesised images",
    "layers": "Ranges and errors of the layers",
    "cases": "{} in every case",
    "efficiency": "{} against the number of synthesised images",
    "latency": "{} of exported models against their latency",
    "phases": "{} as classes are added",
    "old_new": "Old and new classes after the last phase",
    "distances": "Distances of the kept images",
    "distance_rounds": "Distances in every round",
    "negatives": "Distances of negatives",
    "embedding": "Embedding of kept and test images",
}


T = TypeVar("T")
PageColumn: TypeAlias = tuple[Heading, Callable[[T], Cell]]


@dataclass(frozen=True)
class Sample:
    """The grid of one method's images below plots/, and the group of tables that it belongs to."""

    path: Path
    stem: str
    method: str
    case: str
    seed: int


@dataclass(frozen=True)
class Contents:
    """All that a report shows. trials: one row a record with known settings, its index the record's place; shown: the
    places of those that tables and plots are made of; tables: of each group, by its stem; titles: of the tasks."""

    records: Sequence[Record]
    trials: pd.DataFrame
    shown: frozenset[int]
    tables: Mapping[str, Sequence[Table]]
    plots: Sequence[Path]
    samples: Sequence[Sample]
    titles: Mapping[str, str]


def make_report(contents: Contents) -> Report:
    """Return the page's data. Nothing in it depends on where or when it is made."""
    parts_of_results = groups(contents.trials)
    stem_of = _stems_of_plots(contents.plots, list(parts_of_results))
    sections: dict[str, list[Section]] = {}
    for stem, rows in parts_of_results.items():
        plots = [path for path in contents.plots if stem_of.get(path) == stem]
        sections.setdefault(only(rows, "task"), []).append(_section(contents, stem, rows, plots))
    shown = contents.trials[contents.trials.index.isin(contents.shown)]
    for stem, rows in overviews(shown).items():
        sheets = [sheet(table) for table in contents.tables.get(stem, ())]
        title = f"{only(rows, 'dataset')}, all settings, budget {only(rows, 'budget')}"
        sections[only(rows, "task")].insert(0, Section(f"group-{stem}", title, sheets))
    parts = [
        TaskPart(
            f"task-{number}", f"{task}: {contents.titles[task]}" if task in contents.titles else task, own
        )
        for number, (task, own) in enumerate(sections.items())
    ]
    return Report(
        f"Results: {', '.join(sections) or 'no trial that can be read'}",
        _facts(contents),
        _environments(contents.records),
        parts,
        _failures(contents.records),
        _damaged(contents.records),
    )


def _stems_of_plots(plots: Iterable[Path], stems: Sequence[str]) -> dict[Path, str]:
    """Find each drawing's group: the longest stem that its name starts with."""
    stem_of = {}
    for path in plots:
        if path.suffix == ".svg":
            starts = [stem for stem in stems if path.name.startswith(f"{stem}_")]
            if starts:
                stem_of[path] = max(starts, key=len)
    return stem_of


def _section(contents: Contents, stem: str, rows: pd.DataFrame, plots: Sequence[Path]) -> Section:
    title = heading(rows) or stem
    group = ResultGroup(rows)
    measured = group.measures[0].heading if group.untested else TOP1.heading
    return Section(
        f"group-{stem}",
        title,
        [sheet(table) for table in contents.tables.get(stem, ())],
        [figure for path in plots if (figure := _plot(path, stem, title, measured))],
        [figure for sample in contents.samples if sample.stem == stem and (figure := _grid(sample, title))],
        _trials(contents, rows, title),
    )


def _plot(path: Path, stem: str, title: str, measured: str) -> Figure | None:
    picture = plot_picture(path)
    if picture is None:
        return None
    name = path.stem.removeprefix(f"{stem}_")
    end = next((end for end in PLOTS if name == end or name.endswith(f"_{end}")), "")
    before = case_label(name.removesuffix(end).strip("_")) if end else ""
    shown = PLOTS.get(end, name.replace("_", " ")).format(measured)
    caption = ", ".join(part for part in (before, shown) if part)
    links = [Link(kind.upper(), _href(path.with_suffix(f".{kind}"), 2)) for kind in ("png", "svg")]
    return Figure(caption, f"{caption}: {title}", picture, links)


def _grid(sample: Sample, title: str) -> Figure | None:
    picture = png_picture(sample.path)
    if picture is None:
        return None
    parts = (sample.method, case_label(sample.case), f"seed {sample.seed}")
    caption = ", ".join(part for part in parts if part)
    return Figure(
        caption, f"Synthesised images of {caption}: {title}", picture, [Link("PNG", _href(sample.path, 2))]
    )


def _href(path: Path, parts: int) -> str:
    """Return the last parts of a path as a link from the results directory, whatever bytes its names are made of."""
    return "/".join(quote(os.fsencode(part)) for part in path.parts[-parts:])


def _trials(contents: Contents, rows: pd.DataFrame, title: str) -> Sheet:
    """List every trial of a group, those that a newer one replaces too."""
    order = rows.sort_values(["case_order", "order", "method", "seed", "started", "key"], kind="stable")
    trials = [(contents.records[place], place) for place in order.index]
    columns: list[PageColumn[tuple[Record, Any]]] = [
        (Heading("Method", name=True), lambda trial: Cell(str(rows.at[trial[1], "method"]))),
        (Heading("Seed", "number"), lambda trial: Cell(str(trial[0].settings["seed"]))),
        (Heading("Status"), lambda trial: _status(trial[0], replaced=trial[1] not in contents.shown)),
        (Heading("Seconds", "number"), lambda trial: Cell(_seconds(trial[0]))),
        (
            Heading("Started"),
            lambda trial: Cell(
                trial[0].environment.get("started", "").replace("T", " ", 1).replace("Z", " UTC")
            ),
        ),
        (Heading("Files"), lambda trial: Cell(links=_links(trial[0].folder))),
    ]
    if known(rows, "case"):
        case = Heading(case_title(rows))
        columns.insert(0, (case, lambda trial: Cell(case_label(trial[0].settings["case"] or ""))))
    return _sheet(f"Trials of {title}", columns, trials)


def _sheet(caption: str, columns: Sequence[PageColumn[T]], items: Sequence[T], *notes: str) -> Sheet:
    """Make a table with a row for each item; each column is a heading and the cell of an item."""
    rows = [[cell(item) for _, cell in columns] for item in items]
    return Sheet(caption, [heading for heading, _ in columns], rows, notes)


def _status(record: Record, replaced: bool) -> Cell:
    if replaced:
        return Cell(f"{record.status}, a newer one counts", tone="quiet")
    return Cell(record.status, tone=TONES.get(record.status, ""))


def _links(folder: Path) -> list[Link]:
    return [Link(name, _href(folder / name, 3)) for name in FILES if (folder / name).is_file()]


def _seconds(record: Record) -> str:
    spent = [record.result.get(f"{part}_seconds") for part in ("synthesis", "student")]
    counted = [float(part) for part in spent if part is not None]
    return significant(sum(counted)) if counted else ""


def _facts(contents: Contents) -> list[tuple[str, str]]:
    """Say what was run and when, in pairs of a label and a text."""
    own = [record for record in contents.records if record.settings]
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


def _damaged(records: Sequence[Record]) -> Sheet | None:
    columns: list[PageColumn[DamagedRecord]] = [
        (Heading("Folder", name=True), lambda record: Cell(printable(record.folder.name))),
        (Heading("Kind"), lambda record: Cell(record.kind, tone="bad")),
        (Heading("Reason", "long"), lambda record: Cell(record.reason)),
        (Heading("Files"), lambda record: Cell(links=_links(record.folder))),
    ]
    note = (
        "broken: unreadable, half-written or malformed; newer: written by a later version; foreign: no trial of ours. "
        "What cannot be used is in no table and no plot; it is as it was."
    )
    damaged = damaged_records(records)
    return _sheet("Records that are left out", columns, damaged, note) if damaged else None
