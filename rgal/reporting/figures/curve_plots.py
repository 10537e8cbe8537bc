"""Accuracy against time and against images. `curves` prepares the numbers; this module only draws them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rgal.reporting.figures.curves import (
    Quantity,
    curve_data,
    level_data,
    percent_limits,
    sweep_data,
    teacher_level,
    y_range,
)
from rgal.reporting.figures.style import (
    LineStyle,
    draw_levels,
    grid_lines,
    legend_below,
    line_styles,
    paper_style,
    say_instead,
    titled_axes,
)
from rgal.reporting.results import ResultGroup

X_LABELS: dict[Quantity, str] = {
    "seconds": "Synthesis and student time (s)",
    "images": "Synthesised images",
}

MOST_TICKS = 8  # numbers of images that have room for a label each


def accuracy_versus_time(
    curves: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 against seconds of synthesis and student training, for one (task, setting, budget, case)."""
    return _figure(curves, results, "seconds", styles)


def accuracy_versus_images(
    curves: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 against the number of synthesised images, for one (task, setting, budget, case)."""
    return _figure(curves, results, "images", styles)


def data_efficiency(results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None) -> Figure | None:
    """Final top-1 against the number of synthesised images, for a (task, setting, budget) whose cases differ in it.

    None where no method has two numbers of images.
    """
    group, data, levels = ResultGroup(results), sweep_data(results), teacher_level(results)
    if data.empty:
        return None
    with paper_style():
        x_label = "\n".join([X_LABELS["images"], *_left_out(data, group)])
        figure, axes = titled_axes(group.heading, x_label, "Test top-1 (%), last evaluation")
        grid_lines(axes)
        spread = data["top1_std"].fillna(0)
        low, high = data["top1_mean"] - spread, [*(data["top1_mean"] + spread), *levels["top1"]]
        axes.set_ylim(*percent_limits(low.min(), max(high)))
        ticks = sorted(data["x"].unique())
        axes.set_xscale("log", base=2)
        axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
        if len(ticks) <= MOST_TICKS:
            axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        lines = draw_curves(axes, data, {**line_styles(results), **(styles or {})})
        draw_levels(axes, levels, axes.get_ylim())
        legend_below(figure, list(lines.values()), list(lines))
    return figure


def _figure(
    curves: pd.DataFrame, results: pd.DataFrame, x: Quantity, styles: Mapping[str, LineStyle] | None
) -> Figure:
    group = ResultGroup(results, one_case=True)
    data, levels = curve_data(curves, results, x), level_data(results)
    with paper_style():
        x_label = "\n".join([X_LABELS[x], *_left_out(data, group)])
        figure, axes = titled_axes(group.heading, x_label, "Test top-1 (%)")
        if data.empty:
            say_instead(axes, "no curve to show" if len(group.finished) else "no finished trials")
            return figure
        _draw(figure, axes, data, levels, {**line_styles(results), **(styles or {})})
        _scale_x(axes, data)
    return figure


def _left_out(data: pd.DataFrame, group: ResultGroup) -> list[str]:
    """A line with the finished methods that have no curve (they keep no images, say); none, no line."""
    done = [row for row in group.methods.values() if row.data_free and len(row.finished)]
    missing = [row.method for row in done if row.method not in set(data["method"])]
    return [textwrap.fill(f"(not shown: {', '.join(missing)})", 80)] if missing else []


def _draw(
    figure: Figure, axes: Axes, data: pd.DataFrame, levels: pd.DataFrame, styles: Mapping[str, LineStyle]
) -> None:
    grid_lines(axes)
    low, high = y_range(data, levels)
    axes.set_ylim(low, high)
    lines = draw_curves(axes, data, styles)
    draw_levels(axes, levels, (low, high))
    legend_below(figure, list(lines.values()), list(lines))


def draw_curves(axes: Axes, data: pd.DataFrame, styles: Mapping[str, LineStyle]) -> dict[str, Line2D]:
    """The mean of each method, in a band of its standard deviation where that is known; the line of each."""
    lines: dict[str, Line2D] = {}
    for index, (name, curve) in enumerate(data.groupby("method", sort=False)):
        style = styles[str(name)]
        every = marked_points(len(curve), index)
        (line,) = axes.plot(curve["x"], curve["top1_mean"], **style.options(), markevery=every, zorder=3)
        spread = curve.dropna(subset=["top1_std"])
        axes.fill_between(
            spread["x"], spread["top1_mean"] - spread["top1_std"], spread["top1_mean"] + spread["top1_std"],
            color=style.colour, alpha=0.15, linewidth=0, zorder=2,
        )  # fmt: skip
        lines[str(name)] = line
    return lines


def marked_points(n: int, offset: int) -> list[int]:
    """About eight of n points and always the last; `offset` keeps the markers of methods apart."""
    every = math.ceil(n / 8)
    inner = range(offset % every, max(n - 1 - every // 2, 0), every)
    return [*inner, n - 1]


def _scale_x(axes: Axes, data: pd.DataFrame) -> None:
    """Linear from zero, or logarithmic when the methods' ends differ more than fivefold."""
    ends = data.groupby("method")["x"].last()
    if ends.max() > 5 * ends.min() > 0:
        axes.set_xscale("log")
        visible = data[(data["x"] > 0) & (data["top1_mean"] >= axes.get_ylim()[0])]
        axes.set_xlim(visible["x"].min() / 1.5, ends.max() * 1.2)
    else:
        axes.set_xlim(0, ends.max() * 1.03)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
