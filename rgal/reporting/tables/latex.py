"""Tables as LaTeX documents: pandas writes and escapes the rows, the packages booktabs and adjustbox set them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import pandas as pd

from rgal.reporting.tables.column import Column

Separator = Literal["", "method", "case"]
# What pdflatex has no glyph for in its usual fonts. A bare [ behind \\ would start an optional argument.
SYMBOLS = str.maketrans(
    {
        "[": "{[}",
        "]": "{]}",
        "±": r"\ensuremath{\pm}",
        "†": r"\ensuremath{^\dagger}",
        "‡": r"\ensuremath{^\ddagger}",
        "→": r"\ensuremath{\rightarrow}",
        "−": r"\ensuremath{-}",
        "×": r"\ensuremath{\times}",
        "–": "--",
        "…": r"\dots{}",
        "“": "``",
        "”": "''",
    }
)
WIDE = 50  # characters of a row that is too wide for a column of a paper in \\footnotesize
FIT = r"max width=\linewidth,max totalheight=0.65\textheight"


def latex_document(
    caption: str,
    cells: pd.DataFrame,
    bold: pd.DataFrame,
    columns: Sequence[Column],
    separators: Sequence[Separator],
    notes: Sequence[str],
) -> str:
    """Return a document that compiles as it is, with one table.

    Args:
        caption: above the table.
        cells: the printed texts, a column each of `columns`.
        bold: which of them are bold.
        columns: their headings.
        separators: what stands above each row.
        notes: lines below the table.
    """
    tabular = [
        rf"\begin{{adjustbox}}{{{FIT}}}",
        *_tabular(cells, bold, columns, separators),
        r"\end{adjustbox}",
    ]
    lines = [
        r"% Compiles as it is. In a paper: \usepackage{adjustbox,booktabs,standalone}, then \input this file.",
        r"\documentclass{article}",
        r"\usepackage[landscape,margin=2cm]{geometry}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{adjustbox,booktabs}",
        r"\begin{document}",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_texts([caption])[0]}}}",
        r"\medskip\small",
        *(tabular if len(cells) else []),
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *[rf"{note}\par" for note in latex_texts(notes)],
        r"\end{minipage}",
        r"\end{table}",
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def latex_compact(
    caption: str,
    cells: pd.DataFrame,
    bold: pd.DataFrame,
    columns: Sequence[Column],
    separators: Sequence[Separator],
) -> str:
    """Return a table for one column of a paper of two, to \\input; it needs the package booktabs alone.

    The arguments are those of `latex_document`. Of two columns of words the first names cases: each becomes a line
    above its rows.
    """
    cases: list[str] = []
    if sum(column.text for column in columns) > 1:
        cases, cells, bold, columns = list(cells.iloc[:, 0]), cells.iloc[:, 1:], bold.iloc[:, 1:], columns[1:]
    size = r"\scriptsize" if _characters(cells, columns) > WIDE else r"\footnotesize"
    lines = [
        r"% In a paper: \usepackage{booktabs}, then \input this file.",
        r"\begin{table}[tb]",
        rf"\centering{size}\setlength{{\tabcolsep}}{{3pt}}",
        rf"\caption{{{latex_texts([caption])[0]}}}",
        *_tabular(cells, bold, columns, separators, cases),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _characters(cells: pd.DataFrame, columns: Sequence[Column]) -> int:
    """Return how wide a table is, in characters: every column by its longest text."""
    heads = [column.short or column.heading for column in columns]
    return sum(max(map(len, (head, *cells.iloc[:, at]))) for at, head in enumerate(heads))


def latex_texts(texts: Sequence[str]) -> list[str]:
    """Turn texts into ones that pdflatex typesets, each on one line. Accented Latin letters stay; other unknown ones
    become `?`.
    """
    lines = pd.DataFrame({"text": [" ".join(text.split()) for text in texts]}, dtype=object)
    table = lines.style.format(escape="latex").hide(axis="index").hide(axis="columns").to_latex()
    return [_typeset(line.removesuffix(r" \\")) for line in table.split("\n")[1:-2]]


def _typeset(text: str) -> str:
    text = text.replace("->", "→").translate(SYMBOLS)
    return "".join(char if " " <= char <= "~" or "À" <= char <= "ſ" else "?" for char in text)


def _tabular(
    cells: pd.DataFrame,
    bold: pd.DataFrame,
    columns: Sequence[Column],
    separators: Sequence[Separator],
    cases: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a tabular. cases: of each row, where they stand on lines of their own."""
    one_line = cells.map(lambda text: " ".join(text.split()))
    heads = [(column.group, column.short or column.heading) for column in columns]
    grouped = any(group for group, _ in heads)
    one_line.columns = pd.MultiIndex.from_tuples(heads) if grouped else pd.Index([head for _, head in heads])
    strong = bold.set_axis(one_line.columns, axis=1).map(lambda is_bold: "textbf:--rwrap;" if is_bold else "")
    styler = one_line.style.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index")
    styler = styler.apply(lambda _: strong, axis=None)
    form = "".join("l" if column.text else "r" for column in columns)
    text = styler.to_latex(hrules=True, column_format=form, multicol_align="c", sparse_columns=True)
    begin, top, *lines = text.rstrip("\n").split("\n")
    head, body = lines[: 1 + grouped], lines[2 + grouped : -2]
    rules = _rules([group for group, _ in heads]) if grouped else []
    between = {"": [], "case": [r"\midrule"], "method": [rf"\cmidrule(l){{2-{len(columns)}}}"]}
    if not any(separator == "case" for separator in separators):
        between["method"] = [r"\midrule"]
    titles = [""] * len(body)
    if cases:
        new = [at == 0 or cases[at] != cases[at - 1] for at in range(len(cases))]
        texts = latex_texts(cases)
        titles = [
            _spanning(text, len(columns)) if begins else "" for text, begins in zip(texts, new, strict=True)
        ]
        between["method"] = []
    rows = [
        part
        for kind, title, line in zip(separators, titles, body, strict=True)
        for part in (*between[kind], *filter(None, [title]), _typeset(line))
    ]
    return [begin, top, _typeset(head[0]), *rules, *map(_typeset, head[1:]), r"\midrule", *rows, *lines[-2:]]


def _spanning(text: str, columns: int) -> str:
    return rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{text}}}}} \\"


def _rules(groups: Sequence[str]) -> list[str]:
    """Return the rules under headings that span columns."""
    rules, start = "", 1
    for group, columns in groupby(groups):
        end = start + len(list(columns)) - 1
        rules += rf"\cmidrule(lr){{{start}-{end}}}" if group else ""
        start = end + 1
    return [rules]
