"""What the figures of results share: axes, lines in bands, level lines, legends.

Settings and output, which image grids share too, are in `rgal.analysis.drawing`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rgal.analysis.drawing import figure_bytes as figure_bytes
from rgal.analysis.drawing import paper_style as paper_style
from rgal.reporting.figures.looks import GREY as GREY
from rgal.reporting.figures.looks import LineStyle, look_of
from rgal.reporting.results import ResultGroup, methods, uses_real_data

RULE = "#E6E6E6"
WIDTH, HEIGHT = 6.4, 4.2  # inches
TITLE_LETTERS = 80
TEACHER = "teacher"  # the label of its level


Styles = Mapping[str, LineStyle]


def line_styles(results: pd.DataFrame) -> dict[str, LineStyle]:
    """Return how each method is drawn: by its name, so that it looks the same in every report."""
    return {name: look_of(name, not uses_real_data(trials)) for name, trials in methods(results).items()}


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """Make an empty figure of this size in inches; call it inside `paper_style`."""
    figure = bare_figure(width, height)
    figure.set_layout_engine("constrained")
    return figure


def bare_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this size in inches in which everything stays where it is put."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def titled_axes(text: str, x_label: str, y_label: str = "", height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Make a figure with one titled axes; call it inside `paper_style`.

    Args:
        text: the title.
        x_label, y_label: of the axes.
        height: of the figure, in inches.
    """
    figure = new_figure(WIDTH, height)
    axes = figure.add_subplot()
    title(axes, text)
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def method_axes(
    group: ResultGroup, names: Sequence[str], x_label: str, per_method: float
) -> tuple[Figure, Axes]:
    """Make a figure with one line of its height for each method, the first on top; call it inside `paper_style`.

    Args:
        group: the results that it is about.
        names: the methods.
        x_label: of the axes.
        per_method: inches of height.
    """
    figure, axes = titled_axes(group.heading, x_label, height=1.4 + per_method * max(len(names), 3))
    grid_lines(axes, "x")
    axes.set_yticks(range(len(names)), [group.label(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return figure, axes


def grid_lines(axes: Axes, axis: str = "y") -> None:
    """Draw pale lines at the ticks of an axis, behind everything else."""
    axes.grid(axis=axis, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def title(axes: Axes, text: str) -> None:
    """Write a title that starts at the axes' left edge and takes as many lines as it needs."""
    axes.set_title(textwrap.fill(text, TITLE_LETTERS), loc="left")


def thousands(value: float, _: object = None) -> str:
    """Format a tick as a plain number with thousands separators."""
    return f"{value:,.10g}"


def draw_lines(axes: Axes, data: pd.DataFrame, styles: Styles) -> dict[str, Line2D]:
    """Draw the mean of each method, in a band of its standard deviation where that is known.

    Args:
        axes: to draw on.
        data: columns method, x, mean and std.
        styles: of the methods.

    Returns:
        The line of each method.
    """
    lines: dict[str, Line2D] = {}
    for index, (name, curve) in enumerate(data.groupby("method", sort=False)):
        style = styles[str(name)]
        every = marked_points(len(curve), index)
        (line,) = axes.plot(curve["x"], curve["mean"], **style.options(), markevery=every, zorder=3)
        spread = curve.dropna(subset=["std"])
        low, high = spread["mean"] - spread["std"], spread["mean"] + spread["std"]
        axes.fill_between(spread["x"], low, high, color=style.colour, alpha=0.15, linewidth=0, zorder=2)
        lines[str(name)] = line
    return lines


def marked_points(n: int, offset: int) -> list[int]:
    """Choose about eight of n points and always the last; `offset` keeps the markers of methods apart."""
    every = math.ceil(n / 8)
    inner = range(offset % every, max(n - 1 - every // 2, 0), every)
    return [*inner, n - 1]


def ends_of(data: pd.DataFrame, levels: Iterable[float] = ()) -> tuple[float, float]:
    """Return the least and the greatest value that are drawn of columns mean and std, and of levels."""
    spread = data["std"].fillna(0)
    return min([*(data["mean"] - spread), *levels]), max([*(data["mean"] + spread), *levels])


def percent_limits(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis of percentages: a margin of 5 %, but hardly below 0 or above 100."""
    low, high = with_margin(low, high)
    return max(low, -1.0), min(high, 101.0)


def with_margin(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis that shows these two values inside a margin of 5 %."""
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def legend_below(
    figure: Figure, handles: Sequence[Any] | Mapping[str, Any], names: Sequence[str] = ()
) -> None:
    """Put the legend under the axes. A long one makes the figure higher instead of taking room from the axes.

    Args:
        figure: to draw on.
        handles: what is explained; by its name, where `names` are not given.
        names: beside the handles.
    """
    if isinstance(handles, Mapping):
        handles, names = list(handles.values()), names or list(handles)
    width, height = figure.get_size_inches()
    rows, columns = legend_shape(names, width)
    figure.set_size_inches(width, height + 0.18 * max(0, rows - 2))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def legend_shape(names: Sequence[str], room: float = WIDTH) -> tuple[int, int]:
    """Return (rows, columns) of a legend that is `room` inches wide.

    As many columns as fit, at most four in the usual width; rows as equal as possible.
    """
    width = 0.75 + 0.067 * max(map(len, names))  # inches: the line sample, and a letter of the legend's font
    rows = math.ceil(len(names) / max(1, min(round(4 * room / WIDTH), int(room // width))))
    return rows, math.ceil(len(names) / rows)


def draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw labelled horizontal lines; labels stand in the right margin, apart where they would overlap."""
    low, high = axes.get_ylim()
    ascending = sorted(levels.items(), key=lambda level: level[1])
    heights = spread_out([value for _, value in ascending], 0.05 * (high - low), (low, high))
    for (label, value), height in zip(ascending, heights, strict=True):
        colour, dashes = ("black", (0, (6, 3))) if label == TEACHER else (GREY, (0, (1, 2)))
        axes.axhline(value, color=colour, linewidth=1.0, linestyle=dashes)
        place = axes.get_yaxis_transform()
        axes.annotate(
            f"{label} {value:.2f}", (1, value), (1.03, height), xycoords=place, textcoords=place,
            color=colour, fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def spread_out(values: list[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Return heights of labels, each near its value, at least `gap` apart and below the upper limit.

    Args:
        values: ascending, in data units as the others.
        gap: between two labels.
        limits: of the axis.
    """
    heights: list[float] = []
    for value in values:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    ceiling = limits[1]
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - gap
    return heights
