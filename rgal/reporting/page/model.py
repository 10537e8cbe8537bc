"""The report: one HTML file that needs nothing else. Data in, text out; the same data gives the same bytes.

Every text is escaped by the template. A content security policy allows this page's own style and script by their
hashes, and images that are inside the file; nothing can be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rgal.core.files import write_atomically
from rgal.reporting.page.pictures import Picture
from rgal.reporting.tables.table import Table


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
    """A table on the page; the same number of cells in each row as there are headings. verdict: lines above them."""

    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    verdict: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """A picture with the line under it and the files it was made from."""

    caption: str
    alt: str
    picture: Picture
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Section:
    """One (task, setting, budget). anchor: unique on the page, letters that need no escape."""

    anchor: str
    heading: str
    sheets: Sequence[Sheet] = ()
    plots: Sequence[Figure] = ()
    samples: Sequence[Figure] = ()
    trials: Sheet | None = None


@dataclass(frozen=True)
class TaskPart:
    """All sections of a task."""

    anchor: str
    heading: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Report:
    """The whole page. facts: (label, text) pairs of what was run and when."""

    title: str
    facts: Sequence[tuple[str, str]]
    environments: Sheet
    parts: Sequence[TaskPart] = ()
    failures: Sheet | None = None
    problems: Sheet | None = None


def sheet(table: Table) -> Sheet:
    """Return a table of results as a sheet: the cells that Markdown prints, with its caption and notes."""
    names = [index for index, column in enumerate(table.printed) if column.text]
    headings = [
        Heading(column.heading, "text" if column.text else "number", name=index in names[-1:])
        for index, column in enumerate(table.printed)
    ]
    rows = [
        [Cell(" ".join(text.split()), bool(strong)) for text, strong in zip(texts, bold, strict=True)]
        for texts, bold in zip(table.cells().to_numpy(), table.bold().to_numpy(), strict=True)
    ]
    return Sheet(table.caption, headings, rows, table.notes, table.verdict)


def render_html(report: Report) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=PackageLoader("rgal.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _own("report.css"), _own("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("report.html.j2")
    text = template.render(report=report, policy=policy, style=Markup(style), script=Markup(script))
    return text.rstrip("\n") + "\n"


def write_report(path: Path, report: Report) -> Path:
    """Write the page, whole or not at all."""
    return write_atomically(path, render_html(report).encode("utf-8"))


def _own(name: str) -> str:
    """Return a file of ours that is written into the page as it is."""
    return (files("rgal.reporting.page") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
