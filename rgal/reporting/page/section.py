"""What the HTML report says of one group of results: who won, its tables, charts and grids of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rgal.reporting.page.charts import Chart, Frames, charts_of_group
from rgal.reporting.page.leaderboard import boards
from rgal.reporting.page.model import Drawing, Figure, Link, Section, Sheet, href, sheet
from rgal.reporting.page.pictures import png_picture
from rgal.reporting.results import ResultGroup, case_label, heading
from rgal.reporting.tables.table import FORMATS, Table
from rgal.suite.store.index import Entry


@dataclass(frozen=True)
class Sample:
    """The grid of one method's images below plots/."""

    path: Path
    method: str
    case: str
    seed: int
    key: str


@dataclass(frozen=True)
class Contents:
    """What is shown of a group. stem: of its files; entries: its trials; trials: one row each, its index the entry's
    place; shown: the places of those that tables and plots are made of; frames: what is drawn beside the results."""

    stem: str
    entries: Sequence[Entry]
    trials: pd.DataFrame
    shown: frozenset[int]
    tables: Sequence[Table]
    samples: Sequence[Sample]
    frames: Frames


def group_section(contents: Contents) -> tuple[Section, list[Chart]]:
    """Return the section of a group, yet without its plots, and its charts, which drawings name by their places."""
    stem, rows = contents.stem, contents.trials
    title, anchor = heading(rows) or stem, f"group-{stem}"
    results = rows[rows.index.isin(contents.shown)]
    records = {entry.record.key: entry.record for entry in contents.entries}
    drawings, charts = [], list[Chart]()
    for chart, names in charts_of_group(results, contents.frames.of(results)):
        method = str(chart.get("only", ""))
        drawings.append(Drawing(len(charts), chart["title"], names, method, chart["kind"] == "map"))
        charts.append(chart)
    section = Section(
        anchor,
        title,
        boards(ResultGroup(results), anchor, records),
        [sheet_of(table, stem) for table in contents.tables],
        drawings,
        samples=[figure for sample in contents.samples if (figure := _grid(sample, title))],
    )
    return section, charts


def sheet_of(table: Table, stem: str) -> Sheet:
    """Return a table of a group with links to its files."""
    files = [Path("tables", f"{stem}{table.suffix}.{fmt}") for fmt in FORMATS]
    return sheet(table, [Link(path.suffix[1:].upper(), href(path, 2)) for path in files])


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
