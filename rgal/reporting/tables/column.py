"""What a column of a table is, declared once: Markdown, CSV, LaTeX and the page follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import pandas as pd

from rgal.reporting.results import DOUBLE_DAGGER, MethodTrials, ResultGroup, Row, case_label, marked
from rgal.reporting.statistics import Comparison, Difference, is_significant
from rgal.suite.measures import Measure

MINUS = "−"
PLUS_MINUS = " ± "
INTERVAL = " ["


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: in print, with the unit; "" for numbers that only the CSV has.
        names: of its raw numbers, each a column of the CSV.
        values: the raw numbers of a row, in the order of `names`.
        show: the printed text of these numbers.
        bold: whether that is printed bold.
        group, short: the heading it shares with its neighbours in LaTeX, and its own there.
        text: whether it holds words, which are aligned to the left.
        optional, csv_optional: whether it is left out of print, and of the CSV, where nothing of it is known.
    """

    heading: str
    names: tuple[str, ...]
    values: Callable[[MethodTrials], Sequence[Any]]
    show: Callable[..., str] = str
    bold: Callable[..., bool] = lambda *_: False
    group: str = ""
    short: str = ""
    text: bool = False
    optional: bool = False
    csv_optional: bool = False


# Texts of numbers ----------------------------------------------------------------------------------------------------


def fixed(value: float, decimals: int = 2, sign: str = "") -> str:
    """Format with fixed decimals, and with a minus sign that is as wide as a digit; blank when unknown."""
    if pd.isna(value):
        return ""
    text = f"{value:{sign},.{decimals}f}"
    return text.strip("-") if not text.strip("-0.,") else text.replace("-", MINUS)


def count(value: float) -> str:
    """Format an integer with thousands separators; blank when unknown."""
    return fixed(value, 0)


def significant(value: float) -> str:
    """Format with three significant digits below a hundred, whole numbers above; blank when unknown."""
    if pd.isna(value):
        return ""
    if abs(value) >= 99.95:
        return count(value)
    if value == 0:
        return "0"
    return fixed(value, 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3)


def spread(mean: float, std: float, decimals: int | None = 2) -> str:
    """Format as in "92.00 ± 2.00"; the mean alone where the spread is unknown."""
    parts = [significant(part) if decimals is None else fixed(part, decimals) for part in (mean, std)]
    return PLUS_MINUS.join(filter(None, parts))


def signed(value: float, decimals: int = 2) -> str:
    """Format with fixed decimals behind a sign; zero has none, and unknown is blank."""
    text = fixed(abs(value), decimals)
    return text if not value or not text else f"{'+' if value > 0 else MINUS}{text}"


def difference(mean: float, low: float, high: float, seeds: float, *_: Any) -> str:
    """Format as in "+1.20 [+0.40, +2.00]"; over too few seeds for an interval, their number: "+1.20 (n = 2)"."""
    if pd.isna(mean):
        return ""
    behind = f" (n = {count(seeds)})" if pd.isna(low) else f"{INTERVAL}{signed(low)}, {signed(high)}]"
    return signed(mean) + behind


def of_all(part: float, whole: float, word: str = " of ", decimals: int = 1) -> str:
    """Format as in "21 of 21", with decimals only where trials differ; one number where the other is unknown."""
    return word.join(f"{round(value, decimals):g}" for value in (part, whole) if not pd.isna(value))


# Columns of several tables -------------------------------------------------------------------------------------------


def case_column(group: ResultGroup) -> Column:
    """Return the column of the case, under the task's word for its cases."""
    return Column(
        group.case_title,
        ("case",),
        lambda row: (row.case,),
        case_label,
        text=True,
        optional=True,
        csv_optional=True,
    )


def mark(method: str, data_free: bool, fingerprints: str) -> str:
    """Put a dagger behind a method that trains on real data, a double one behind one that several codes made."""
    return f"{marked(method, data_free)} {DOUBLE_DAGGER if fingerprints else ''}".rstrip()


def method_column(group: ResultGroup) -> Column:
    """Return the column of the method, with its marks."""
    names = ("method", "data_free", "fingerprints")
    return Column("Method", names, lambda row: (row.method, row.data_free, group.mixed(row)), mark, text=True)


def mean_column(measure: Measure) -> Column:
    """Return a column of the mean of a measure over the finished trials; "this of that" where it is a part of another
    one.
    """
    show: Callable[..., str] = significant
    if measure.decimals is not None:
        show = partial(fixed, decimals=measure.decimals)
    names: tuple[str, ...] = (f"{measure.start}{_unit(measure)}",)
    values = [measure]
    if measure.out_of:
        names, show = (measure.start, measure.out_of), of_all
        values.append(Measure(measure.out_of, ""))
    return Column(
        "" if measure.place == "csv" or not measure.heading else measure.title, names,
        lambda row: [row.measured(value).mean() for value in values], show,
        group=measure.group, short=measure.short, optional=measure.optional, 
        csv_optional=measure.optional and bool(measure.place),
    )  # fmt: skip


def spread_column(
    measure: Measure,
    heading: str = "",
    prefix: str = "",
    group: str = "",
    short: str = "",
    of: Mapping[Row, MethodTrials] | None = None,
) -> Column:
    """Return a column of mean ± sample standard deviation (n - 1) of a measure.

    Args:
        measure: what is averaged.
        heading: of the column; the measure's title by default.
        prefix: how its columns of the CSV begin, before the measure's name.
        group, short: its headings in LaTeX; the measure's by default.
        of: which trials a row is about, where these are not its own.
    """
    start = f"{prefix}{measure.start}"
    names = (f"{start}_mean{_unit(measure)}", f"{start}_std{_difference_unit(measure)}")

    def values(row: MethodTrials) -> tuple[float, float]:
        measured = (row if of is None else of[row.row]).measured(measure)
        return measured.mean(), measured.std(ddof=1)

    return Column(
        heading or measure.title, names, values, partial(spread, decimals=measure.decimals),
        group=group or measure.group, short=short or measure.short,
    )  # fmt: skip


def difference_column(
    heading: str,
    name: str,
    measure: Measure,
    differences: Mapping[Row, Difference],
    group: str = "",
    short: str = "",
) -> Column:
    """Return a column of a paired difference with its interval, bold where it is significant.

    Args:
        heading: of the column.
        name: how its columns of the CSV begin.
        measure: what is compared.
        differences: of the rows, with adjusted p-values.
        group, short: its headings in LaTeX.
    """
    unit = _difference_unit(measure)
    names = (
        f"{name}_mean{unit}",
        f"{name}_low{unit}",
        f"{name}_high{unit}",
        f"{name}_seeds",
        f"{name}_holm_p",
    )

    def values(row: MethodTrials) -> tuple[Any, ...]:
        return astuple(differences[row.row])

    def bold(mean: float, low: float, high: float, seeds: float, p: float) -> bool:
        return is_significant(seeds, p)

    return Column(heading, names, values, difference, bold, group, short, optional=True)


def versus_columns(measure: Measure, compared: Mapping[Row, Comparison], prefix: str) -> tuple[Column, ...]:
    """Return columns of the difference to the strongest baseline, and in the CSV its name. prefix: of the headings,
    such as "AIA".
    """
    unit = _difference_unit(measure).strip("_")
    differences = {row: comparison.difference for row, comparison in compared.items()}
    heading = f"{prefix} vs best baseline{f' ({unit})' if unit else ''}".lstrip()
    return (
        difference_column(heading, "vs_best", measure, differences, short=f"{prefix} vs best".lstrip()),
        Column("", ("vs_best_baseline",), lambda row: (compared[row.row].baseline,)),
    )


def cost_column() -> Column:
    """Return a column of what a trial cost: seconds of the processor, or of the clock where they are not known."""

    def seconds(row: MethodTrials) -> tuple[float]:
        of_processor, of_clock = (
            sum(row.numbers(f"{part}_{kind}").mean() for part in ("synthesis", "student"))
            for kind in ("cpu_seconds", "seconds")
        )
        return (of_clock if pd.isna(of_processor) else of_processor,)

    return Column("Seconds", ("seconds",), seconds, significant)


def trials_column() -> Column:
    """Return a column of the number of finished trials, and of how many where some are not."""

    def show(done: int, planned: int) -> str:
        return str(done) if done == planned else f"{done} of {planned}"

    return Column("n", ("finished", "planned"), lambda row: (len(row.finished), len(row.trials)), show)


def _unit(measure: Measure) -> str:
    """Return the end of the name of a column in the CSV. Other units than these are in the measure's own name."""
    return {"%": "_percent", "points": "_points"}.get(measure.unit, "")


def _difference_unit(measure: Measure) -> str:
    return "_points" if measure.unit == "%" else _unit(measure)
