"""The primary measure against time and against images: the mean curve of each method in a band of its spread."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rgal.reporting.figures.style import (
    TEACHER,
    Styles,
    draw_levels,
    draw_lines,
    ends_of,
    grid_lines,
    legend_below,
    line_styles,
    paper_style,
    percent_limits,
    thousands,
    titled_axes,
    with_margin,
)
from rgal.reporting.results import MethodTrials, ResultGroup, finished, known, numbers, stacked
from rgal.suite.measures import TOP1, Measure

Quantity = Literal["seconds", "cpu_seconds", "images"]
CURVE_COLUMNS = ("method", "round", "x", "mean", "std", "n")
X_LABELS: Mapping[str, str] = {
    "seconds": "Synthesis and student time (s)",
    "cpu_seconds": "Synthesis and student time (s of the processor, all threads)",
    "images": "Synthesised images",
}


def curve_data(curves: pd.DataFrame, results: pd.DataFrame, x: Quantity = "seconds") -> pd.DataFrame:
    """Average each data-free method's evaluations at the rounds that all its finished trials have.

    Args:
        curves: one row per (trial, round), as `rgal.suite.store.frames.make_frames` makes them.
        results: of one (task, setting, budget, case).
        x: what the curves are drawn against. A method whose x never leaves zero has no place there and is left out.

    Returns:
        One row per (method, round): mean x; mean and std (sample; NaN for one trial) of `evaluated`; n (trials).

    Raises:
        ValueError: the results are of several cases.
    """
    group = ResultGroup(results, one_case=True)
    data_free = {name: row for name, row in group.methods.items() if row.data_free}
    data = mean_curves(curves, data_free, x, evaluated(group, curves).start)
    return data[data.groupby("method")["x"].transform("max") > 0].reset_index(drop=True)


def evaluated(group: ResultGroup, curves: pd.DataFrame) -> Measure:
    """Return the first measure that the task declares and that its evaluations record; top-1 of none."""
    return next((measure for measure in group.measures if known(curves, measure.start)), TOP1)


def time_quantity(curves: pd.DataFrame, results: pd.DataFrame) -> Quantity:
    """By which seconds the trials of `results` are compared: those of the processor, where all curves have them."""
    if not {"key", "cpu_seconds"} <= set(curves.columns) or "key" not in results.columns:
        return "seconds"
    mine = numbers(curves, "cpu_seconds")[curves["key"].isin(finished(results)["key"])]
    return "cpu_seconds" if len(mine) and mine.notna().all() else "seconds"


def mean_curves(curves: pd.DataFrame, rows: Mapping[str, MethodTrials], x: str, y: str) -> pd.DataFrame:
    """Average a column of each method's curves at the rounds that all its finished trials with a curve have.

    Args:
        curves: columns key, round and those of x and y; without one of them there is no row.
        rows: the methods.
        x, y: the columns.

    Returns:
        One row per (method, round), as `curve_data` describes them.
    """
    if not {"key", "round", x, y} <= set(curves.columns):
        return stacked([], CURVE_COLUMNS)
    place_of = {key: place for place, row in enumerate(rows.values()) for key in row.keys}
    points = pd.DataFrame(
        {
            "key": curves["key"], "round": curves["round"], "x": numbers(curves, x), "y": numbers(curves, y),
            "place": curves["key"].map(place_of),
        }
    ).dropna(subset=["x", "y", "place"])  # fmt: skip
    if points.empty:
        return stacked([], CURVE_COLUMNS)
    # a trial that was resumed may have evaluated a round twice: the later one counts
    points = points.sort_values(["key", "round", "x", "y"]).drop_duplicates(["key", "round"], keep="last")
    grouped = points.groupby(["place", "round"])
    data = pd.DataFrame(
        {
            "x": grouped["x"].mean(),
            "mean": grouped["y"].mean(),
            "std": grouped["y"].std(),
            "n": grouped.size(),
        }
    ).reset_index()
    shared = data["n"] == data["place"].map(points.groupby("place")["key"].nunique())
    data["method"] = data["place"].astype(int).map(list(rows).__getitem__)
    return data.loc[shared, list(CURVE_COLUMNS)].reset_index(drop=True)


def teacher_level(results: pd.DataFrame, measure: Measure = TOP1) -> dict[str, float]:
    """Return the mean of what the teachers of the finished trials reach, by its label; empty where it is unknown."""
    level = numbers(finished(results), f"teacher_{measure.start}").sort_values().mean()
    return {} if math.isnan(level) else {TEACHER: level}


def level_data(results: pd.DataFrame, measure: Measure = TOP1) -> dict[str, float]:
    """Return the levels of the teacher and of each finished reference on real data, by their labels.

    ValueError for several cases, in which a reference has several levels.
    """
    group = ResultGroup(results, one_case=True)
    references = [row for row in group.methods.values() if not row.data_free and len(row.finished)]
    own = {group.label(row.method): float(row.measured(measure).mean()) for row in references}
    return teacher_level(results, measure) | {
        label: value for label, value in own.items() if not math.isnan(value)
    }


def y_limits(measure: Measure, low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis of a measure that shows these two values."""
    return (percent_limits if measure.bounds == "percentage" else with_margin)(low, high)


def worth_showing(data: pd.DataFrame, levels: Mapping[str, float]) -> tuple[float, float]:
    """Return the ends of what matters: every method's end and every level, not the climb from chance.

    The lower end is the lowest end of a curve or, if that is lower, the 20th percentile of all points, so
    that some of the climb stays; when that cuts off less than a quarter of the span, everything is shown.
    """
    bottom, top = ends_of(data, levels.values())
    low = min([data.groupby("method")["mean"].last().min(), data["mean"].quantile(0.2), *levels.values()])
    return (bottom if low - bottom < 0.25 * (top - bottom) else low), top


@paper_style()
def accuracy_curves(
    curves: pd.DataFrame, results: pd.DataFrame, x: Quantity = "seconds", styles: Styles | None = None
) -> Figure | None:
    """Draw the mean curves of all data-free methods, with the levels of the teacher and the references.

    None where no method has a curve.

    Args:
        curves, results, x: as of `curve_data`.
        styles: of the methods; by default those of these results.
    """
    group = ResultGroup(results, one_case=True)
    measure, data = evaluated(group, curves), curve_data(curves, results, x)
    if data.empty:
        return None
    figure, axes = titled_axes(group.heading, x_label(x, data, group), measure.on_axis)
    levels = level_data(results, measure)
    grid_lines(axes)
    axes.set_ylim(*y_limits(measure, *worth_showing(data, levels)))
    lines = draw_lines(axes, data, styles or line_styles(results))
    draw_levels(axes, levels)
    legend_below(figure, lines)
    _scale_x(axes, data)
    return figure


def x_label(x: Quantity, data: pd.DataFrame, group: ResultGroup) -> str:
    """Return the label of the x axis, with a line of the finished methods that have no curve on it, if any.

    Args:
        x: what is drawn against.
        data: what is drawn, by the column method.
        group: the results.
    """
    done = [row for row in group.methods.values() if row.data_free and len(row.finished)]
    missing = [row.method for row in done if row.method not in set(data["method"])]
    lines = [textwrap.fill(f"(not shown: {', '.join(missing)})", 80)] if missing else []
    return "\n".join([X_LABELS[x], *lines])


def _scale_x(axes: Axes, data: pd.DataFrame) -> None:
    """Scale linearly from zero, or logarithmically where the methods' ends differ more than fivefold."""
    ends = data.groupby("method")["x"].last()
    if ends.max() > 5 * ends.min() > 0:
        axes.set_xscale("log")
        visible = data[(data["x"] > 0) & (data["mean"] >= axes.get_ylim()[0])]
        axes.set_xlim(visible["x"].min() / 1.5, ends.max() * 1.2)
    else:
        axes.set_xlim(0, ends.max() * 1.03)
    axes.xaxis.set_major_formatter(thousands)
