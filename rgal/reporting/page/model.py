"""The report: one HTML file that needs nothing else. Data in, text out; the same data gives the same bytes.

Every text is escaped by the template or written by the script as text. A content security policy allows this page's
own style and scripts by their hashes, images that are inside the file, and those of trials beside it where they are too
many for it; nothing can be fetched from elsewhere. The drawing library and the data are compressed: the script unpacks
them, which is faster than reading them as they are.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from rgal.core.files import write_atomically

if TYPE_CHECKING:
    from rgal.reporting.tables.table import Table

BASELINE = "baseline"  # what the script sorts as a difference of zero
SCRIPTS = ("tables.js", "charts.js", "trials.js", "report.js")
PACKING = 6  # the strongest takes three times as long for 1 % less
LIBRARY = "plotly-basic.min.js"  # with its own licence beside it


@dataclass(frozen=True)
class Picture:
    """uri: the file's content; width and height: the size to show it at, in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Link:
    """A file beside the report. href: relative and percent-encoded."""

    text: str
    href: str


@dataclass(frozen=True)
class Cell:
    """One cell. tone: "good", "bad" or "quiet", for words that a reader looks for."""

    text: str = ""
    bold: bool = False
    tone: str = ""
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Heading:
    """The head of a column. name: its cells say what their row is about. "long" texts may take several lines."""

    title: str
    kind: Literal["text", "long", "number"] = "text"
    name: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table on the page; the same number of cells in each row as there are headings. verdict: lines above them;
    links: the same table as files."""

    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    verdict: Sequence[str] = ()
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Bar:
    """A method's numbers on an axis of 0 to 100. outside: "left" or "right" where the mean lies beyond its end."""

    mean: float
    interval: tuple[float, float] | None
    seeds: Sequence[float]
    outside: str = ""


@dataclass(frozen=True)
class Standing:
    """A row of a leaderboard. rank: "" where the verdict gives none; word: what it says of the method."""

    rank: str
    method: str
    mean: str
    word: str
    tone: str
    difference: str
    beside: str
    seeds: str
    seconds: str
    images: str
    bar: Bar
    weights: Link | None = None


@dataclass(frozen=True)
class Board:
    """Who won in one case. measure: what is ranked, with its unit; axis: what the ends of the bars stand for; hosted:
    whether any method stands beside its host."""

    anchor: str
    heading: str
    verdict: str
    measure: str
    rows: Sequence[Standing]
    references: Sequence[Standing]
    axis: tuple[str, str]
    hosted: bool


@dataclass(frozen=True)
class Figure:
    """A picture with the line under it and the files it was made from. method, trial: the one whose images it shows,
    and the key of their trial."""

    caption: str
    alt: str
    picture: Picture
    links: Sequence[Link] = ()
    method: str = ""
    trial: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that the script draws from the chart of this number. plots: names of the files below plots/ that show
    the same; links: to those that are there."""

    number: int
    caption: str
    plots: Sequence[str] = ()
    method: str = ""
    small: bool = False
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Section:
    """One (task, setting, budget). anchor: unique on the page, letters that need no escape."""

    anchor: str
    heading: str
    boards: Sequence[Board] = ()
    sheets: Sequence[Sheet] = ()
    drawings: Sequence[Drawing] = ()
    plots: Sequence[Figure] = ()
    samples: Sequence[Figure] = ()


@dataclass(frozen=True)
class TaskPart:
    """All sections of a task."""

    anchor: str
    heading: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Report:
    """The whole page. facts: (label, text) pairs of what was run and when; trials: how many the data hold; data: what
    the script reads: charts, looks of methods, trials."""

    title: str
    facts: Sequence[tuple[str, str]]
    environments: Sheet
    parts: Sequence[TaskPart] = ()
    failures: Sheet | None = None
    problems: Sheet | None = None
    trials: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def boards(self) -> list[Board]:
        return [board for part in self.parts for section in part.sections for board in section.boards]


def sheet(table: Table, links: Sequence[Link] = ()) -> Sheet:
    """Return a table of results as a sheet: the cells that Markdown prints, with its caption and notes.

    The strongest baseline, which others are compared with, says so in its own cell, blank elsewhere.
    """
    import pandas as pd  # here: a store in which nothing has changed needs none of it

    names = [index for index, column in enumerate(table.printed) if column.text]
    headings = [
        Heading(column.heading, "text" if column.text else "number", name=index in names[-1:])
        for index, column in enumerate(table.printed)
    ]
    baselines = table.numbers.get("vs_best_baseline", pd.Series("", index=range(len(table.rows))))
    rows = [
        [
            Cell(
                BASELINE
                if column.names[0].startswith("vs_best_mean") and row.method == baseline
                else " ".join(text.split()),
                bool(strong),
            )
            for column, text, strong in zip(table.printed, texts, bold, strict=True)
        ]
        for row, baseline, texts, bold in zip(
            table.rows, baselines, table.cells().to_numpy(), table.bold().to_numpy(), strict=True
        )
    ]
    return Sheet(table.caption, headings, rows, table.notes, table.verdict, links)


def href(path: Path, parts: int) -> str:
    """Return the last parts of a path as a link from the results directory, whatever bytes its names are made of."""
    return "/".join(quote(os.fsencode(part)) for part in path.parts[-parts:])


def render_html(report: Report) -> str:
    """Return the page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("rgal.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _own("report.css"), "\n".join(map(_own, SCRIPTS))
    # The library adds an empty style sheet, and fills it by rules; a picture that is not inside lies beside the page.
    policy = (
        f"default-src 'none'; img-src data: file: 'self'; style-src {_hash(style)} {_hash('')}; "
        f"script-src {_hash(_own(LIBRARY))} {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("report.html.j2")
    data = json.dumps(report.data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    parts = {"style": style, "script": script, "library": _library(), "data": packed(data)}
    text = template.render(
        report=report, policy=policy, **{name: Markup(part) for name, part in parts.items()}
    )
    return text.rstrip("\n") + "\n"


def write_report(path: Path, report: Report) -> Path:
    """Write the page, whole or not at all."""
    return write_atomically(path, render_html(report).encode("utf-8"))


def packed(text: str) -> str:
    """Return a text as base64 of its gzip, the same for the same text: it may stand inside any element."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), PACKING, mtime=0)).decode("ascii")


@cache
def _library() -> str:
    return packed(_own(LIBRARY))


@cache
def _own(name: str) -> str:
    """Return a file that is written into the page as it is."""
    return (files("rgal.reporting.page") / "templates" / name).read_text(encoding="utf-8")


@cache
def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
