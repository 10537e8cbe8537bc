"""What the figures of results share: legends, level lines, one line style per method.

Settings and output, which image grids share too, are in `rgal.analysis.drawing`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rgal.analysis.drawing import figure_bytes as figure_bytes
from rgal.analysis.drawing import paper_style as paper_style
from rgal.reporting.results import methods, uses_real_data

# Okabe and Ito's colours, which stay apart for colour-blind readers; without the yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY = "#555555"
# References on real data are grey, with unfilled markers that no data-free method has.
REFERENCE_MARKERS = ("<", ">", "h", "p")
REFERENCE_DASHES = ((0, (1, 1.5)), (0, (1, 3)), (0, (3, 1.5, 1, 1.5)), (0, (4, 3)))
WIDTH, HEIGHT = 6.4, 4.2  # inches
TITLE_LETTERS = 80


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn. No two of the first 280 data-free methods look the same."""

    colour: str
    marker: str
    dashes: object
    filled: bool = True

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot`."""
        edge = ("white", 0.5) if self.filled else (self.colour, 1.0)
        return {
            "color": self.colour,
            "linestyle": self.dashes,
            "linewidth": 1.5 if self.filled else 1.0,
            "marker": self.marker,
            "markersize": 4.5,
            "markerfacecolor": self.colour if self.filled else "white",
            "markeredgecolor": edge[0],
            "markeredgewidth": edge[1],
        }


def line_styles(results: pd.DataFrame) -> dict[str, LineStyle]:
    """Data-free method -> style, by its place among them: the same everywhere if a task's results are given."""
    names = [name for name, trials in methods(results).items() if not uses_real_data(trials)]
    return {
        name: LineStyle(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


def reference_styles(results: pd.DataFrame) -> dict[str, LineStyle]:
    """Method that trains on real data -> style, for figures that draw it as points instead of as a level."""
    names = [name for name, trials in methods(results).items() if uses_real_data(trials)]
    looks = list(zip(REFERENCE_MARKERS, REFERENCE_DASHES, strict=True))
    return {name: LineStyle(GREY, *looks[i % len(looks)], filled=False) for i, name in enumerate(names)}


def all_styles(results: pd.DataFrame) -> dict[str, LineStyle]:
    """Method -> style, of data-free methods and references."""
    return {**line_styles(results), **reference_styles(results)}


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """An empty figure of this size in inches; call it inside `paper_style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def titled_axes(text: str, x_label: str, y_label: str = "", height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of this height in inches with one axes and their title and labels; call it inside `paper_style`."""
    figure = new_figure(WIDTH, height)
    axes = figure.add_subplot()
    title(axes, text)
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def grid_lines(axes: Axes) -> None:
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def title(axes: Axes, text: str) -> None:
    """A title that starts at the axes' left edge and takes as many lines as it needs."""
    axes.set_title(textwrap.fill(text, TITLE_LETTERS), loc="left")


def say_instead(axes: Axes, message: str) -> None:
    """A message in place of a drawing."""
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The legend under the axes. A long one makes the figure higher instead of taking room from the axes."""
    width, height = figure.get_size_inches()
    rows, columns = legend_shape(names, width)
    figure.set_size_inches(width, height + 0.18 * max(0, rows - 2))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def draw_levels(axes: Axes, levels: pd.DataFrame, limits: tuple[float, float]) -> None:
    """The lines, and their labels in the right margin, moved apart where they would overlap."""
    levels = levels.sort_values("top1", kind="stable")
    heights = spread_out(list(levels["top1"]), gap=0.05 * (limits[1] - limits[0]), limits=limits)
    for (_, level), height in zip(levels.iterrows(), heights, strict=True):
        dashed = level["kind"] == "teacher"
        axes.axhline(
            level["top1"],
            color="black" if dashed else GREY,
            linewidth=1.0,
            linestyle=(0, (6, 3) if dashed else (1, 2)),
        )
        axes.annotate(
            f"{level['label']} {level['top1']:.2f}", (1, level["top1"]), (1.03, height),
            xycoords=axes.get_yaxis_transform(), textcoords=axes.get_yaxis_transform(),
            color="black" if dashed else GREY, fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def legend_shape(names: Sequence[str], room: float = WIDTH) -> tuple[int, int]:
    """(rows, columns): as many columns as fit into `room` inches, at most four in the usual width; rows as equal
    as possible.
    """
    width = 0.75 + 0.067 * max(map(len, names))  # inches: the line sample, and a letter of the legend's font
    rows = math.ceil(len(names) / max(1, min(round(4 * room / WIDTH), int(room // width))))
    return rows, math.ceil(len(names) / rows)


def spread_out(values: list[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Ascending label heights, each near its value, at least `gap` apart and below the upper limit."""
    heights: list[float] = []
    for value in values:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    ceiling = limits[1]
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - gap
    return heights
