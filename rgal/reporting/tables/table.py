"""A table: its rows, columns, caption and notes; as Markdown, CSV and LaTeX. The same input gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import pandas as pd
from tabulate import tabulate

from rgal.reporting.results import MethodTrials, Row, known
from rgal.reporting.tables.brief import Brief
from rgal.reporting.tables.column import Column
from rgal.reporting.tables.latex import Separator, latex_compact, latex_document

Format = Literal["md", "csv", "tex"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, eq=False)
class Table:
    """One table of results.

    Attributes:
        caption: a line above it.
        rows: what each row is about.
        columns: in the order of print and of the CSV.
        notes: lines below it.
        verdict: lines below the caption on what it allows to be said; LaTeX, whose text is the author's, has none.
        suffix: what its files are called behind the stem of their group.
        brief: what a terminal shows of it, the most important first; nothing of a table without any.
        remarks: those of the notes that a terminal shows too.
        narrow: the columns of a table for one column of a paper; none without.
        winners: the rows that the verdict calls best: their method is bold there.
    """

    caption: str
    rows: Sequence[MethodTrials]
    columns: Sequence[Column]
    notes: Sequence[str] = ()
    suffix: str = ""
    verdict: Sequence[str] = ()
    brief: Sequence[Column] = ()
    remarks: Sequence[str] = ()
    narrow: Sequence[Column] = ()
    winners: frozenset[Row] = frozenset()

    @cached_property
    def _all(self) -> pd.DataFrame:
        """The raw numbers of every column, each row computed once."""
        names = [name for column in self.columns for name in column.names]
        values = [[value for column in self.columns for value in column.values(row)] for row in self.rows]
        return pd.DataFrame(values, columns=names)

    @property
    def numbers(self) -> pd.DataFrame:
        """The raw numbers, one quantity a column; unknown ones are NaN. Without optional columns that are unknown."""
        optional = [name for column in self.columns if column.csv_optional for name in column.names]
        names = [
            name
            for name in self._all.columns
            if known(self._all, name) or not (name in optional or name.endswith("fingerprints"))
        ]
        return self._all[names]

    @cached_property
    def printed(self) -> list[Column]:
        """The columns that have something to print."""
        return [
            column
            for column in self.columns
            if column.heading and not (column.optional and not known(self._all, column.names[0]))
        ]

    def cells(self) -> pd.DataFrame:
        """Return the printed texts, under headings that hold the units."""
        return self._of_cells(lambda column, values: column.show(*values))

    def bold(self) -> pd.DataFrame:
        """Tell which of `cells` are bold: True or False in the same places."""
        return self._of_cells(lambda column, values: bool(column.bold(*values)))

    def text(self, fmt: Format) -> str:
        """Return the table as text that ends in a newline.

        "csv" holds the raw numbers; "md" and "tex" hold rounded text, the caption and the notes. "tex" is a document
        that compiles as it is, and that a paper can \\input with the standalone package.
        """
        if fmt == "csv":
            return str(self.numbers.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
        if fmt == "md":
            return self._markdown()
        if fmt == "tex":
            return latex_document(
                self.caption, self.cells(), self.bold(), self.printed, self._separators(), self.notes
            )
        raise ValueError(f"unknown table format {fmt!r}, valid: {', '.join(FORMATS)}")

    def in_brief(self) -> Brief:
        """Return what a terminal shows: the caption, the verdict and the columns `brief`, under short headings."""
        columns = [
            (column.short or column.heading, column.text, self._texts(column)) for column in self.brief
        ]
        return Brief(self.caption, self.verdict, columns, self.remarks)

    def compact(self) -> str:
        """Return the columns `narrow` as LaTeX for one column of a paper; "" for a table without rows or any.

        What is bold there are the methods and numbers of the winners: the best of the verdict and what ties with it.
        """
        printed = [(column, texts) for column in self.narrow if any(texts := self._texts(column))]
        if not printed:
            return ""
        shown = [column for column, _ in printed]
        heads = [column.short or column.heading for column in shown]
        cells = pd.DataFrame({head: texts for head, (_, texts) in zip(heads, printed, strict=True)})
        won = [row.row in self.winners for row in self.rows]
        named = sum(column.text for column in shown)  # cells that name a row; the compared number follows
        bold = pd.DataFrame(
            {head: won if place <= named else [False] * len(won) for place, head in enumerate(heads)}
        )
        plain = [
            replace(column, heading=head, short="", group="")
            for column, head in zip(shown, heads, strict=True)
        ]
        return latex_compact(self.caption, cells, bold, plain, self._separators())

    def _texts(self, column: Column) -> list[str]:
        """Return what a column prints in each row."""
        return [column.show(*column.values(row)) for row in self.rows]

    def _of_cells(self, function: Callable[[Column, Sequence[Any]], Any]) -> pd.DataFrame:
        cells = {
            column.heading: [
                function(column, values)
                for values in zip(*(self._all[name] for name in column.names), strict=True)
            ]
            for column in self.printed
        }
        return pd.DataFrame(cells, columns=[column.heading for column in self.printed])

    def _separators(self) -> list[Separator]:
        """Return what stands above each row in LaTeX: cases stay apart, and in each the references from the data-free
        rows.
        """
        kinds = [(row.case, row.data_free) for row in self.rows]
        pairs = zip([None, *kinds], kinds, strict=False)
        return ["" if a is None or a == b else "method" if a[0] == b[0] else "case" for a, b in pairs]

    def _markdown(self) -> str:
        parts = [f"**{markdown_text(self.caption)}**", *(markdown_text(line) for line in self.verdict)]
        if self.rows:
            cells = self.cells().map(markdown_text)
            body = cells.mask(self.bold(), "**" + cells + "**").to_numpy().tolist()
            align = ["left" if column.text else "right" for column in self.printed]
            parts.append(
                tabulate(body, list(cells.columns), tablefmt="pipe", colalign=align, disable_numparse=True)
            )
        parts.append("\n".join(f"- {markdown_text(note)}" for note in self.notes))
        return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape what Markdown would read as markup. An underscore inside a word and a bracket alone are none."""
    text = " ".join(text.replace("->", "→").split())
    return re.sub(
        r"[\\`*|<~]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda markup: f"\\{markup[0]}", text
    )
