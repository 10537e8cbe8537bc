"""Accuracy against the cases of a setting, such as bit widths. `curves` prepares the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rgal.reporting.figures.curves import case_data, percent_limits, teacher_level
from rgal.reporting.figures.style import (
    LineStyle,
    all_styles,
    draw_levels,
    grid_lines,
    legend_below,
    paper_style,
    say_instead,
    titled_axes,
)
from rgal.reporting.results import ResultGroup, case_label, cases, marked

APART = 0.1  # inches between methods at one case, less where many of them must fit into ROOM
ROOM = 0.8  # of a case's width of 1
TICKS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99, 99.5, 99.9)
AXES_WIDTH = 5.0  # inches, about
LEAST_ERROR = 0.05  # percent; a logarithm has no place for a perfect score


def accuracy_versus_cases(results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None) -> Figure:
    """Final top-1 of every method in each case, mean and standard deviation, of one (task, setting, budget)."""
    group, data, names = ResultGroup(results), case_data(results), list(cases(results))
    with paper_style():
        figure, axes = titled_axes(group.heading, group.case_title, "Test top-1 (%)")
        if data.empty:
            say_instead(axes, "no finished trials")
            return figure
        grid_lines(axes)
        for edge in range(len(names) - 1):
            axes.axvline(edge + 0.5, color="#E6E6E6", linewidth=0.6, zorder=0)
        _draw(figure, axes, data, {**all_styles(results), **(styles or {})}, list(group.methods))
        levels = teacher_level(results)
        _scale_y(axes, data, levels)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), [case_label(case) for case in names])
        draw_levels(axes, levels, axes.get_ylim())
    return figure


def _draw(
    figure: Figure, axes: Axes, data: pd.DataFrame, styles: Mapping[str, LineStyle], order: list[str]
) -> None:
    """Each method at its own distance from the middle of a case, so that equal accuracies stay apart."""
    drawn = [name for name in order if name in set(data["method"])]
    count = data["place"].max() + 1
    step = min(APART * count / AXES_WIDTH, ROOM / len(drawn))
    handles, names = [], []
    for index, name in enumerate(drawn):
        points = data[data["method"] == name]
        x = points["place"] + (index - (len(drawn) - 1) / 2) * step
        bars = axes.errorbar(
            x, points["top1_mean"], yerr=points["top1_std"], elinewidth=0.8, capsize=1.5,
            **styles[name].options(), zorder=3,
        )  # fmt: skip
        handles.append(bars.lines[0])
        names.append(marked(name, bool(points["data_free"].all())))
    legend_below(figure, handles, names)


def _scale_y(axes: Axes, data: pd.DataFrame, levels: pd.DataFrame) -> None:
    """Everything, with a margin: a method that breaks down at few bits is what the figure is for.

    Linear, or logarithmic in the error when that differs more than fivefold: else the small differences at many
    bits would be lost at the top.
    """
    spread = data["top1_std"].fillna(0)
    bottom = max(min([*(data["top1_mean"] - spread), *levels["top1"]]), 0.0)
    top = min(max([*(data["top1_mean"] + spread), *levels["top1"]]), 100 - LEAST_ERROR)
    if 100 - bottom <= 5 * (100 - top):
        axes.set_ylim(*percent_limits(bottom, top))
        return
    low, high = (float(_height(value)) for value in (bottom, top))
    margin = 0.05 * (high - low)
    axes.set_yscale("function", functions=(_height, _accuracy))
    axes.set_ylim(float(_accuracy(low - margin)), float(_accuracy(high + margin)))
    ticks = _ticks(low - margin, high + margin)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylabel("Test top-1 (%), logarithmic in the error")


def _ticks(low: float, high: float) -> list[float]:
    """Round accuracies between two heights, far enough apart for their labels."""
    ticks: list[float] = []
    for tick in TICKS:
        height = float(_height(tick))
        apart = not ticks or height - float(_height(ticks[-1])) >= 0.06 * (high - low)
        if low <= height <= high and apart:
            ticks.append(tick)
    return ticks


def _height(top1: Any) -> Any:
    """Height of an accuracy in percent on the logarithmic axis; at a perfect score, that of a tiny error."""
    return -np.log(np.maximum(100 - np.asarray(top1, dtype=float), LEAST_ERROR / 10))


def _accuracy(height: Any) -> Any:
    return 100 - np.exp(-np.asarray(height, dtype=float))
