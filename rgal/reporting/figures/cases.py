"""The primary measure against the cases of a setting, such as bit widths, or against their numbers of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rgal.reporting.figures.curves import teacher_level, x_label, y_limits
from rgal.reporting.figures.style import (
    RULE,
    Styles,
    draw_levels,
    draw_lines,
    ends_of,
    grid_lines,
    legend_below,
    line_styles,
    paper_style,
    thousands,
    titled_axes,
)
from rgal.reporting.results import ResultGroup, case_label, cases, marked
from rgal.suite.measures import Measure

CASE_COLUMNS = ("case", "place", "method", "data_free", "mean", "std", "n", "images")
APART = 0.1  # inches between methods at one case, less where many of them must fit into ROOM
ROOM = 0.8  # of a case's width of 1
TICKS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99, 99.5, 99.9)
AXES_WIDTH = 5.0  # inches, about
LEAST_ERROR = 0.05  # percent; a logarithm has no place for a perfect score
MOST_TICKS = 8  # numbers of images that have room for a label each


def case_data(results: pd.DataFrame) -> pd.DataFrame:
    """Average each method's primary measure in each case.

    Returns:
        One row per (case, method) with a finished trial. place: the case's place in the suite, from 0; mean, std
        (sample; NaN for one trial), n (trials); images: the mean number of synthesised ones (NaN where unknown).
    """
    group, rows = ResultGroup(results, same=()), []
    places = {case: place for place, case in enumerate(cases(results))}
    for row in group.rows.values():
        values = row.measured(group.measures[0]).dropna()
        if len(values):
            spread = (values.mean(), values.std(ddof=1), len(values))
            images = row.numbers("images").mean()
            rows.append((row.case, places[row.case], row.method, row.data_free, *spread, images))
    return pd.DataFrame(rows, columns=list(CASE_COLUMNS))


def sweep_data(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `case_data` of the data-free methods whose cases differ in their number of images, as x.

    Methods come in their order, x ascending.
    """
    data = case_data(results).rename(columns={"images": "x"})
    data = data[data["data_free"].astype(bool) & (data.groupby("method")["x"].transform("nunique") > 1)]
    order = list(ResultGroup(results, same=()).methods)
    places = [order.index(name) for name in data["method"]]
    return data.dropna(subset=["x"]).assign(order=places).sort_values(["order", "x"], kind="stable")


@paper_style()
def accuracy_versus_cases(results: pd.DataFrame, styles: Styles | None = None) -> Figure | None:
    """Draw mean and standard deviation of every method in each case, of one (task, setting, budget).

    None where no trial is finished.
    """
    group, data, names = ResultGroup(results), case_data(results), list(cases(results))
    if data.empty:
        return None
    measure = group.measures[0]
    figure, axes = titled_axes(group.heading, group.case_title, measure.on_axis)
    grid_lines(axes)
    for edge in range(len(names) - 1):
        axes.axvline(edge + 0.5, color=RULE, linewidth=0.6, zorder=0)
    lines = _draw(axes, data, styles or line_styles(results), list(group.methods))
    legend_below(figure, lines)
    levels = teacher_level(results, measure)
    _scale_y(axes, measure, *ends_of(data, levels.values()))
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), [case_label(case) for case in names])
    draw_levels(axes, levels)
    return figure


@paper_style()
def data_efficiency(results: pd.DataFrame, styles: Styles | None = None) -> Figure | None:
    """Draw the primary measure against the number of synthesised images, of one (task, setting, budget).

    None where no method has two numbers of images.
    """
    group, data = ResultGroup(results), sweep_data(results)
    if data.empty:
        return None
    measure = group.measures[0]
    levels = teacher_level(results, measure)
    label = f"{measure.on_axis}, last evaluation"
    figure, axes = titled_axes(group.heading, x_label("images", data, group), label)
    grid_lines(axes)
    axes.set_ylim(*y_limits(measure, *ends_of(data, levels.values())))
    ticks = sorted(data["x"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(thousands)
    lines = draw_lines(axes, data, styles or line_styles(results))
    draw_levels(axes, levels)
    legend_below(figure, lines)
    return figure


def _draw(axes: Axes, data: pd.DataFrame, styles: Styles, order: list[str]) -> dict[str, Any]:
    """Draw each method at its own distance from the middle of a case, so that equal values stay apart."""
    drawn = [name for name in order if name in set(data["method"])]
    step = min(APART * (data["place"].max() + 1) / AXES_WIDTH, ROOM / len(drawn))
    lines = {}
    for index, name in enumerate(drawn):
        points = data[data["method"] == name]
        x = points["place"] + (index - (len(drawn) - 1) / 2) * step
        bars = axes.errorbar(
            x, points["mean"], yerr=points["std"], elinewidth=0.8, capsize=1.5, **styles[name].options(), zorder=3
        )  # fmt: skip
        lines[marked(name, bool(points["data_free"].all()))] = bars.lines[0]
    return lines


def _scale_y(axes: Axes, measure: Measure, bottom: float, top: float) -> None:
    """Show everything, with a margin: a method that breaks down at few bits is what the figure is for.

    Linear, or logarithmic in the error of a percentage when that differs more than fivefold: else the small
    differences at many bits would be lost at the top.
    """
    if measure.bounds == "percentage":
        bottom, top = max(bottom, 0.0), min(top, 100 - LEAST_ERROR)
    if measure.bounds != "percentage" or 100 - bottom <= 5 * (100 - top):
        axes.set_ylim(*y_limits(measure, bottom, top))
        return
    low, high = (float(_height(value)) for value in (bottom, top))
    margin = 0.05 * (high - low)
    axes.set_yscale("function", functions=(_height, _accuracy))
    axes.set_ylim(float(_accuracy(low - margin)), float(_accuracy(high + margin)))
    ticks = _ticks(low - margin, high + margin)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylabel(f"{measure.on_axis}, logarithmic in the error")


def _ticks(low: float, high: float) -> list[float]:
    """Return round accuracies between two heights, far enough apart for their labels."""
    ticks: list[float] = []
    for tick in TICKS:
        height = float(_height(tick))
        apart = not ticks or height - float(_height(ticks[-1])) >= 0.06 * (high - low)
        if low <= height <= high and apart:
            ticks.append(tick)
    return ticks


def _height(accuracy: Any) -> Any:
    """Return the height of a percentage on the logarithmic axis; at a perfect score, that of a tiny error."""
    return -np.log(np.maximum(100 - np.asarray(accuracy, dtype=float), LEAST_ERROR / 10))


def _accuracy(height: Any) -> Any:
    """Return the percentage at a height: the inverse of `_height`."""
    return 100 - np.exp(-np.asarray(height, dtype=float))
