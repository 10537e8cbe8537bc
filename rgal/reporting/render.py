"""A table of raw numbers -> Markdown, CSV or LaTeX text. The same input gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd
from tabulate import tabulate

from rgal.reporting.frames import marked

Format = Literal["md", "csv", "tex"]
FORMATS: tuple[Format, ...] = get_args(Format)
MINUS = "−"
PLUS_MINUS = " ± "


@dataclass(frozen=True)
class Column:
    """One printed column: its title with the unit, its cells, and in LaTeX the heading it shares."""

    title: str
    cell: Callable[[Any], str]
    group: str = ""
    short: str = ""


def accuracy(value: float) -> str:
    """Two decimals, with a minus sign that is as wide as a digit; blank when unknown."""
    if pd.isna(value):
        return ""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", MINUS)


def count(value: float) -> str:
    """An integer with thousands separators; blank when unknown."""
    return "" if pd.isna(value) else f"{round(value):,}"


def seconds(value: float) -> str:
    """Three significant digits below a hundred, whole seconds above; blank when unknown."""
    if pd.isna(value):
        return ""
    if value >= 99.95:
        return f"{round(value):,}"
    if value == 0:
        return "0"
    decimals = 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:.{decimals}f}"


def _method(row: Any) -> str:
    return marked(row.method, row.data_free)


def _top1(row: Any) -> str:
    mean, std = accuracy(row.top1_mean_percent), accuracy(row.top1_std_points)
    return f"{mean}{PLUS_MINUS}{std}" if std else mean


def _trials(row: Any) -> str:
    return str(row.finished) if row.finished == row.planned else f"{row.finished} of {row.planned}"


COLUMNS = (
    Column("Method", _method),
    Column("Top-1 (%)", _top1),
    Column("n", _trials),
    Column("Drop (points)", lambda row: accuracy(row.drop_points)),
    Column("Images", lambda row: count(row.images)),
    Column("Synthesis steps", lambda row: count(row.synthesis_steps), "Steps", "synthesis"),
    Column("Student steps", lambda row: count(row.student_steps), "Steps", "student"),
    Column("Synthesis (s)", lambda row: seconds(row.synthesis_seconds), "Time (s)", "synthesis"),
    Column("Student (s)", lambda row: seconds(row.student_seconds), "Time (s)", "student"),
    Column("Published (%)", lambda row: accuracy(row.published_percent)),
)


def render(table: pd.DataFrame, fmt: Format) -> str:
    """`accuracy_table`'s result as text that ends in a newline.

    "csv" holds the raw numbers, one quantity a column; "md" and "tex" hold rounded text, the caption and the
    notes. The published column is printed only where a number is known. "tex" is a document that compiles as
    it is, and that a paper can \\input with the standalone package.
    """
    if fmt == "csv":
        return str(table.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    if fmt == "md":
        return _markdown(table)
    if fmt == "tex":
        return _latex(table)
    raise ValueError(f"unknown table format {fmt!r}, valid: {', '.join(FORMATS)}")


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """The printed cells as text, under titles that hold the units: for Markdown, LaTeX and web pages."""
    known = table["published_percent"].notna().any()
    columns = COLUMNS if known else COLUMNS[:-1]
    rows = [[column.cell(row) for column in columns] for row in table.itertuples(index=False)]
    return pd.DataFrame(rows, columns=[column.title for column in columns], dtype=object)


def _markdown(table: pd.DataFrame) -> str:
    shown = cells(table)
    parts = [f"**{markdown_text(table.attrs.get('caption', ''))}**"]
    if len(shown):
        body = [[markdown_text(cell) for cell in row] for row in shown.itertuples(index=False)]
        align = ["left", *["right"] * (len(shown.columns) - 1)]
        parts.append(
            tabulate(body, list(shown.columns), tablefmt="pipe", colalign=align, disable_numparse=True)
        )
    parts.append("\n".join(f"- {markdown_text(note)}" for note in table.attrs.get("notes", [])))
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape what Markdown would read as markup. An underscore inside a word and a bracket alone are none."""
    text = " ".join(text.replace("->", "→").split())
    return re.sub(
        r"[\\`*|<~]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda found: f"\\{found[0]}", text
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",  # after \\ or \midrule a bare [ would start an optional argument
    "]": "{]}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': "''",
    "±": r"\ensuremath{\pm}",
    "†": r"\ensuremath{^\dagger}",
    "→": r"\ensuremath{\rightarrow}",
    "←": r"\ensuremath{\leftarrow}",
    "−": r"\ensuremath{-}",
    "×": r"\ensuremath{\times}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}


def latex_text(text: str) -> str:
    """Text that pdflatex typesets. Accented Latin letters stay; what it has no glyph for becomes `?`."""
    text = " ".join(text.replace("->", "→").split())
    return "".join(
        LATEX.get(char) or (char if " " <= char <= "~" or "À" <= char <= "ſ" else "?") for char in text
    )


def _latex(table: pd.DataFrame) -> str:
    shown = cells(table)
    notes = [latex_text(note) for note in table.attrs.get("notes", [])]
    lines = [
        r"% Compiles as it is. In a paper: \usepackage{booktabs,standalone}, then \input this file.",
        r"\documentclass{article}",
        r"\usepackage[landscape,margin=2cm]{geometry}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_text(table.attrs.get('caption', ''))}}}",
        r"\medskip\small",
        *(_tabular(table, shown) if len(shown) else []),
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *[rf"{note}\par" for note in notes],
        r"\end{minipage}",
        r"\end{table}",
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(table: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    columns = [column for column in COLUMNS if column.title in shown.columns]
    above, rules = _shared_headings(columns)
    titles = [latex_text(column.short or column.title) for column in columns]
    body: list[str] = []
    previous = True
    for (_, row), data_free in zip(shown.iterrows(), table["data_free"], strict=True):
        if body and data_free and not previous:
            body.append(r"\midrule")  # the references on real data stay apart
        previous = data_free
        body.append(" & ".join(_aligned(shown, title, cell) for title, cell in row.items()) + r" \\")
    return [
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        above,
        rules,
        " & ".join(titles) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _shared_headings(columns: list[Column]) -> tuple[str, str]:
    """The upper row of headings, and the rules under those that span columns."""
    above, rules, start = [], [], 0
    while start < len(columns):
        group = columns[start].group
        end = start + 1
        while group and end < len(columns) and columns[end].group == group:
            end += 1
        above.append(rf"\multicolumn{{{end - start}}}{{c}}{{{latex_text(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{start + 1}-{end}}}")
        start = end
    return " & ".join(above) + r" \\", "".join(rules)


def _aligned(shown: pd.DataFrame, title: Any, cell: str) -> str:
    """A lone mean gets the width of a spread behind it, so that the decimal points of a column line up."""
    text = latex_text(cell)
    spreads = [other.split(PLUS_MINUS)[1] for other in shown[title] if PLUS_MINUS in other]
    if cell and spreads and PLUS_MINUS not in cell and title != "Method":
        text += rf"\phantom{{ {latex_text(PLUS_MINUS + min(spreads, key=len))}}}"
    return text
