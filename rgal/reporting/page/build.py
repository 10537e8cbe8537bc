"""What the HTML report says of a store: every trial, what it ran on, what failed, and what could not be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import pandas as pd

from rgal.reporting.figures.diversity import CLASS_COLOURS
from rgal.reporting.figures.style import line_styles
from rgal.reporting.page.charts import Chart, Frames, charts_of_group
from rgal.reporting.page.leaderboard import boards
from rgal.reporting.page.model import (
    Cell,
    Drawing,
    Figure,
    Heading,
    Link,
    Report,
    Section,
    Sheet,
    TaskPart,
    href,
    sheet,
)
from rgal.reporting.page.pictures import plot_picture, png_picture
from rgal.reporting.page.trials import FILES, trials_data
from rgal.reporting.results import ResultGroup, case_label, groups, heading, only
from rgal.reporting.tables.overview import overviews
from rgal.reporting.tables.table import FORMATS, Table
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
    key: str


@dataclass(frozen=True)
class Contents:
    """All that a report shows. trials: one row a record with known settings, its index the record's place; shown: the
    places of those that tables and plots are made of; tables: of each group, by its stem; titles: of the tasks; frames:
    what is drawn beside the results."""

    records: Sequence[Record]
    trials: pd.DataFrame
    shown: frozenset[int]
    tables: Mapping[str, Sequence[Table]]
    plots: Sequence[Path]
    samples: Sequence[Sample]
    titles: Mapping[str, str]
    frames: Frames


def make_report(contents: Contents) -> Report:
    """Return the page's data. Nothing in it depends on where or when it is made."""
    trials, charts = groups(contents.trials), list[Chart]()
    stem_of = _stems_of_plots(contents.plots, list(trials))
    sections: dict[str, list[Section]] = {}
    for stem, rows in trials.items():
        plots = [path for path in contents.plots if stem_of.get(path) == stem]
        sections.setdefault(only(rows, "task"), []).append(_section(contents, stem, rows, plots, charts))
    shown = contents.trials[contents.trials.index.isin(contents.shown)]
    for stem, rows in overviews(shown).items():
        sheets = [_sheet_of(table, stem) for table in contents.tables.get(stem, ())]
        title = f"{only(rows, 'dataset')}, all settings, budget {only(rows, 'budget')}"
        sections[only(rows, "task")].append(Section(f"group-{stem}", title, sheets=sheets))
    parts = [
        TaskPart(
            f"task-{number}", f"{task}: {contents.titles[task]}" if task in contents.titles else task, own
        )
        for number, (task, own) in enumerate(sections.items())
    ]
    anchored = {f"group-{stem}": rows for stem, rows in trials.items()}
    on_page = frozenset(figure.trial for own in sections.values() for part in own for figure in part.samples)
    return Report(
        f"Results: {', '.join(sections) or 'no trial that can be read'}",
        _facts(contents),
        _environments(contents.records),
        parts,
        _failures(contents.records),
        _damaged(contents.records),
        len(contents.trials),
        {
            "charts": charts,
            "looks": {name: look.on_page() for name, look in line_styles(contents.trials).items()},
            "classes": CLASS_COLOURS,
            "trials": trials_data(contents.records, anchored, contents.shown, on_page),
        },
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


def _section(
    contents: Contents, stem: str, rows: pd.DataFrame, plots: Sequence[Path], charts: list[Chart]
) -> Section:
    """Make the section of a group, and add its charts to those of the page."""
    title, anchor = heading(rows) or stem, f"group-{stem}"
    results = rows[rows.index.isin(contents.shown)]
    records = {record.key: record for record in contents.records}
    links = {path.stem.removeprefix(f"{stem}_"): path for path in plots}
    drawings = []
    for chart, names in charts_of_group(results, contents.frames.of(results)):
        files = [links.pop(name) for name in names if name in links]
        method = str(chart.get("only", ""))
        drawings.append(
            Drawing(len(charts), chart["title"], _plot_links(files), method, chart["kind"] == "map")
        )
        charts.append(chart)
    return Section(
        anchor,
        title,
        boards(ResultGroup(results), anchor, records),
        [_sheet_of(table, stem) for table in contents.tables.get(stem, ())],
        drawings,
        [figure for path in links.values() if (figure := _plot(path, stem, title))],
        [figure for sample in contents.samples if sample.stem == stem and (figure := _grid(sample, title))],
    )


def _sheet_of(table: Table, stem: str) -> Sheet:
    files = [Path("tables", f"{stem}{table.suffix}.{fmt}") for fmt in FORMATS]
    return sheet(table, [Link(path.suffix[1:].upper(), href(path, 2)) for path in files])


def _plot_links(drawings: Sequence[Path]) -> list[Link]:
    """Return links to the files for papers, named by what they are against where there are several."""
    return [
        Link(
            " ".join(filter(None, (path.stem.rpartition("_")[2] if len(drawings) > 1 else "", kind.upper()))),
            href(path.with_suffix(f".{kind}"), 2),
        )
        for path in drawings
        for kind in ("png", "svg")
    ]


def _plot(path: Path, stem: str, title: str) -> Figure | None:
    """Show a drawing that no chart stands for."""
    picture = plot_picture(path)
    if picture is None:
        return None
    caption = path.stem.removeprefix(f"{stem}_").replace("_", " ")
    return Figure(caption, f"{caption}: {title}", picture, _plot_links([path]))


def _grid(sample: Sample, title: str) -> Figure | None:
    picture = png_picture(sample.path)
    if picture is None:
        return None
    parts = (sample.method, case_label(sample.case), f"seed {sample.seed}")
    caption = ", ".join(part for part in parts if part)
    return Figure(
        caption,
        f"Synthesised images of {caption}: {title}",
        picture,
        [Link("PNG", href(sample.path, 2))],
        sample.method,
        sample.key,
    )


def _sheet(caption: str, columns: Sequence[PageColumn[T]], items: Sequence[T], *notes: str) -> Sheet:
    """Make a table with a row for each item; each column is a heading and the cell of an item."""
    rows = [[cell(item) for _, cell in columns] for item in items]
    return Sheet(caption, [heading for heading, _ in columns], rows, notes)


def _links(folder: Path) -> list[Link]:
    return [Link(name, href(folder / name, 3)) for name in FILES if (folder / name).is_file()]


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
