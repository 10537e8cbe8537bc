"""A table of raw numbers -> Markdown, CSV or LaTeX text. The same input gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import pandas as pd
from tabulate import tabulate

from rgal.reporting.results import case_label, known, marked
from rgal.reporting.statistics import VERSUS_BEST, difference_columns, excludes_zero

Format = Literal["md", "csv", "tex"]
FORMATS: tuple[Format, ...] = get_args(Format)
SHEET = 660  # pt of text beside each other on a letter sheet in landscape, with some to spare
NARROW = r"\setlength{\tabcolsep}{4pt}"
# LaTeX fonts from large to small: the command, the width of a digit and the space of a column in pt.
FONTS = ((r"\small", 4.63, 12), (rf"\footnotesize{NARROW}", 4.25, 8), (rf"\scriptsize{NARROW}", 3.98, 8))
MINUS = "−"
PLUS_MINUS = " ± "
INTERVAL = " ["


@dataclass(frozen=True)
class Column:
    """One printed column: its title with the unit, its cells, and in LaTeX the heading it shares.

    `needs` names the raw column without whose numbers nothing is printed; "" always prints. `bold` says whether the
    cell of a row is printed bold.
    """

    title: str
    cell: Callable[[Any], str]
    group: str = ""
    short: str = ""
    needs: str = ""
    text: bool = False
    bold: Callable[[Any], bool] = lambda _: False


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


def ratio(value: float, decimals: int = 2) -> str:
    """A quotient with fixed decimals; blank when unknown."""
    return "" if pd.isna(value) else f"{value:.{decimals}f}"


def _method(row: Any) -> str:
    return marked(row.method, row.data_free)


def mean_and_std(mean: float, std: float) -> str:
    """As in "92.00 ± 2.00"; the mean alone where the spread is unknown."""
    return f"{accuracy(mean)}{PLUS_MINUS}{accuracy(std)}" if accuracy(std) else accuracy(mean)


def signed(value: float) -> str:
    """Two decimals behind a sign; zero has none, and unknown is blank."""
    text = accuracy(value)
    return f"+{text}" if value > 0 else f"{MINUS}{text}" if text == "0.00" and value < 0 else text


def with_interval(mean: float, low: float, high: float) -> str:
    """As in "+1.20 [+0.40, +2.00]"; the mean alone where there is no interval."""
    return signed(mean) if pd.isna(low) else f"{signed(mean)}{INTERVAL}{signed(low)}, {signed(high)}]"


def difference_column(title: str, name: str, group: str = "", short: str = "") -> Column:
    """The `statistics.difference_columns` of `name`: bold where the interval excludes zero."""
    mean, low, high, _ = difference_columns(name)

    def cell(row: Any) -> str:
        return with_interval(getattr(row, mean), getattr(row, low), getattr(row, high))

    def bold(row: Any) -> bool:
        return excludes_zero(getattr(row, low), getattr(row, high))

    return Column(title, cell, group, short, needs=mean, bold=bold)


def versus_best_column(metric: str = "") -> Column:
    """The difference to the strongest baseline, in a table whose primary number is `metric`."""
    title = f"{metric} vs best baseline (points)".lstrip()
    return difference_column(title, VERSUS_BEST, short=f"{metric} vs best".lstrip())


def _trials(row: Any) -> str:
    return str(row.finished) if row.finished == row.planned else f"{row.finished} of {row.planned}"


# The first columns of every table. The title of the cases is the task's: `attrs["case_title"]`.
CASE = Column("Case", lambda row: case_label(row.case), needs="case", text=True)
METHOD = Column("Method", _method, text=True)
TRIALS = Column("n", _trials)


def cost_columns(learner: str) -> tuple[Column, ...]:
    """Images, steps and seconds; what the steps and seconds beside the synthesis are spent on is `learner`."""
    short = learner.lower()
    return (
        Column("Images", lambda row: count(row.images)),
        Column("Synthesis steps", lambda row: count(row.synthesis_steps), "Steps", "synthesis"),
        Column(f"{learner} steps", lambda row: count(row.student_steps), "Steps", short),
        Column("Synthesis (s)", lambda row: seconds(row.synthesis_seconds), "Time (s)", "synthesis"),
        Column(f"{learner} (s)", lambda row: seconds(row.student_seconds), "Time (s)", short),
    )


COLUMNS = (
    CASE,
    METHOD,
    Column("Top-1 (%)", lambda row: mean_and_std(row.top1_mean_percent, row.top1_std_points)),
    TRIALS,
    versus_best_column(),
    Column("Drop (points)", lambda row: accuracy(row.drop_points)),
    *cost_columns("Student"),
    Column("Model (MB)", lambda row: ratio(row.model_mb, 3), needs="model_mb"),
    Column("Latency ratio", lambda row: ratio(row.latency_ratio), needs="latency_ratio"),
    Column("Published (%)", lambda row: accuracy(row.published_percent), needs="published_percent"),
)


def render(table: pd.DataFrame, fmt: Format, columns: Sequence[Column] = COLUMNS) -> str:
    """A table of raw numbers, `accuracy_table`'s by default, as text that ends in a newline.

    "csv" holds the raw numbers, one quantity a column; "md" and "tex" hold rounded text, the caption and the
    notes, without the columns of which no number is known. "tex" is a document that compiles as it is, and that
    a paper can \\input with the standalone package.
    """
    if fmt == "csv":
        return str(table.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    if fmt == "md":
        return _markdown(table, printed(table, columns))
    if fmt == "tex":
        return _latex(table, printed(table, columns))
    raise ValueError(f"unknown table format {fmt!r}, valid: {', '.join(FORMATS)}")


def printed(table: pd.DataFrame, columns: Sequence[Column]) -> list[Column]:
    """The columns that have something to print, that of the cases under the title of the table's own cases."""
    title = str(table.attrs.get("case_title", CASE.title))
    shown = [column for column in columns if not column.needs or known(table, column.needs)]
    return [replace(column, title=title) if column is CASE else column for column in shown]


def cells(table: pd.DataFrame, columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """The printed cells as text, under titles that hold the units: for Markdown, LaTeX and web pages."""
    return _cells(table, printed(table, columns))


def bold_cells(table: pd.DataFrame, columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Which of `cells` are bold: True or False in the same places."""
    return _bold(table, printed(table, columns))


def _bold(table: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    rows = [[bool(column.bold(row)) for column in columns] for row in table.itertuples(index=False)]
    return pd.DataFrame(rows, columns=[column.title for column in columns], dtype=bool)


def _cells(table: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    rows = [[column.cell(row) for column in columns] for row in table.itertuples(index=False)]
    return pd.DataFrame(rows, columns=[column.title for column in columns], dtype=object)


def _markdown(table: pd.DataFrame, columns: Sequence[Column]) -> str:
    shown = _cells(table, columns)
    parts = [f"**{markdown_text(table.attrs.get('caption', ''))}**"]
    if len(shown):
        body = [
            [
                f"**{markdown_text(cell)}**" if bold else markdown_text(cell)
                for cell, bold in zip(*row, strict=True)
            ]
            for row in zip(shown.to_numpy(), _bold(table, columns).to_numpy(), strict=True)
        ]
        align = ["left" if column.text else "right" for column in columns]
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


def _latex(table: pd.DataFrame, columns: Sequence[Column]) -> str:
    notes = [latex_text(note) for note in table.attrs.get("notes", [])]
    lines = [
        r"% Compiles as it is. In a paper: \usepackage{booktabs,standalone}, then \input this file.",
        r"\documentclass{article}",
        rf"\usepackage[{_paper(table, columns)}landscape,margin=2cm]{{geometry}}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_text(table.attrs.get('caption', ''))}}}",
        rf"\medskip{FONTS[_font(table, columns)][0]}",
        *(_tabular(table, columns) if len(table) else []),
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *[rf"{note}\par" for note in notes],
        r"\end{minipage}",
        r"\end{table}",
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _font(table: pd.DataFrame, columns: Sequence[Column]) -> int:
    """The first of FONTS in which the columns fit beside each other; a smaller one where cases make many rows."""
    least = 0 if not known(table, "case") else 1 if len(table) <= 24 else 2
    fitting = (font for font in range(least, len(FONTS)) if _width(table, columns, font) <= SHEET)
    return next(fitting, len(FONTS) - 1)


def _width(table: pd.DataFrame, columns: Sequence[Column], font: int) -> float:
    """About how wide the table is in pt."""
    _, digit, space = FONTS[font]
    texts = _cells(table, columns)
    letters = [
        max([len(column.short or column.title), *texts.iloc[:, index].map(len)])
        for index, column in enumerate(columns)
    ]
    return digit * sum(letters) + space * len(letters)


def _paper(table: pd.DataFrame, columns: Sequence[Column]) -> str:
    """A larger sheet where the columns, or the rows of many cases and their notes, would run off the usual one."""
    long = known(table, "case") and len(table) > 32
    return "a3paper," if long or _width(table, columns, len(FONTS) - 1) > SHEET else ""


def _tabular(table: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    titles = [latex_text(column.short or column.title) for column in columns]
    return [
        rf"\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in columns)}}}",
        r"\toprule",
        *_shared_headings(columns),
        " & ".join(titles) + r" \\",
        r"\midrule",
        *_body(table, columns),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _body(table: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """The rows. Cases stay apart, and inside each the references on real data from the data-free methods."""
    texts, bold = _cells(table, columns), _bold(table, columns)
    aligned = [
        _aligned(column, list(texts.iloc[:, index]), list(bold.iloc[:, index]))
        for index, column in enumerate(columns)
    ]
    cases = list(table["case"]) if "case" in table.columns else [""] * len(table)
    inner = rf"\cmidrule(l){{2-{len(columns)}}}" if any(cases) else r"\midrule"
    body: list[str] = []
    previous = None
    for case, data_free, *row in zip(cases, table["data_free"], *aligned, strict=True):
        if previous and previous[0] != case:
            body.append(r"\midrule")
        elif previous and data_free and not previous[1]:
            body.append(inner)
        previous = (case, data_free)
        body.append(" & ".join(row) + r" \\")
    return body


def _shared_headings(columns: Sequence[Column]) -> list[str]:
    """The upper row of headings, and the rules under those that span columns; nothing if none does."""
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
    return [" & ".join(above) + r" \\", "".join(rules)] if rules else []


def _aligned(column: Column, texts: Sequence[str], bold: Sequence[bool]) -> list[str]:
    """A lone mean gets the width of a spread or interval behind it, so that a column's decimal points line up."""
    tails = [_tail(text) for text in texts if not column.text]
    blank = min(filter(None, tails), key=len, default="")
    phantom = rf"\phantom{{ {latex_text(blank)}}}" if blank else ""
    return [
        (rf"\textbf{{{latex_text(text)}}}" if strong else latex_text(text))
        + (phantom if text and not _tail(text) else "")
        for text, strong in zip(texts, bold, strict=True)
    ]


def _tail(text: str) -> str:
    """What stands behind a mean, from its separator on; "" behind a lone one."""
    start = re.search(f"{re.escape(PLUS_MINUS)}|{re.escape(INTERVAL)}", text)
    return text[start.start() :] if start else ""
