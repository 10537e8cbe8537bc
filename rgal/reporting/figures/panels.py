"""Many small panels beside each other, drawn in one axes: one of matplotlib's for each takes several times as long.

All panels are equally large. Only the first of a row says what the heights are, only the last of a column the widths.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rgal.reporting.figures.style import WIDTH, bare_figure, legend_shape

COLUMNS = 4  # panels beside each other, at most
HEAD_LETTERS = 12.5  # of a line above a figure, to an inch
MOST_TITLE_LINES = 3
HEAD_LINE, TITLE_LINE, LEGEND_LINE = 0.16, 0.135, 0.19  # inches of a line of text
EDGE, GAP = 0.08, 0.14  # inches around everything, and between panels
LEFT, BELOW = 0.5, 0.42  # inches for the numbers and the names of axes
TICK = 0.04
FRAME, SIZE = "#333333", 7
TITLE = "title"  # label of the texts that name panels
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What the panels of a figure have in common.

    Attributes:
        size: width and height of a panel, in inches.
        title_letters: in a line of its title.
        axes: whether it has axes with numbers; else a frame.
    """

    size: tuple[float, float]
    title_letters: int
    axes: bool = True


@dataclass(frozen=True)
class Panel:
    """One panel: its box in inches, and the limits of what it shows."""

    left: float
    bottom: float
    size: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, points: Points) -> Points:
        """Return points (N,2) of the data as inches of the figure; what is beyond the limits lies on the edge."""
        low, high = np.array([self.x[0], self.y[0]]), np.array([self.x[1], self.y[1]])
        share = np.clip((points - low) / (high - low), 0.0, 1.0)
        return np.array([self.left, self.bottom]) + share * np.array(self.size)

    def frame(self, whole: bool) -> Points:
        """Return the line around it, or along its left and lower edge."""
        corners = [(0, 1), (0, 0), (1, 0), *([(1, 1), (0, 1)] if whole else [])]
        return np.array([self.left, self.bottom]) + np.array(corners) * np.array(self.size)


class Panels:
    """A figure of panels; make it inside `paper_style`.

    Args:
        kind: of the panels.
        heading: above all.
        titles: of the panels by their names, in their order.
        limits: of what the panels show: ends of x and of y, by the names.
        legend: texts below all -> what they explain.
    """

    def __init__(
        self,
        kind: Kind,
        heading: str,
        titles: Mapping[str, str],
        limits: Mapping[str, tuple[tuple[float, float], tuple[float, float]]],
        legend: Mapping[str, Any],
    ) -> None:
        self.kind = kind
        self.columns = min(len(titles), COLUMNS)
        # A space behind the commas of parameters: lines break there.
        lines = {name: self._wrapped(title.replace(",", ", ")) for name, title in titles.items()}
        rows = [list(lines)[start : start + self.columns] for start in range(0, len(lines), self.columns)]
        left, below = (LEFT, BELOW) if kind.axes else (EDGE, EDGE)
        width = max(WIDTH, left + self.columns * (kind.size[0] + GAP) + EDGE)
        head = textwrap.wrap(heading, int(HEAD_LETTERS * width))
        explained = legend_shape(list(legend), width)
        rooms = [TITLE_LINE * max(len(lines[name]) for name in row) + GAP + kind.size[1] for row in rows]
        foot = EDGE + LEGEND_LINE * explained[0] + below
        self.height = foot + sum(rooms) + HEAD_LINE * len(head) + EDGE
        self.figure, self.axes = self._canvas(width)
        self.figure.suptitle(
            "\n".join(head), x=EDGE / width, y=1 - EDGE / self.height, fontsize=9, ha="left", va="top"
        )
        self.figure.legend(
            list(legend.values()), list(legend), loc="lower center", ncols=explained[1], frameon=False,
            handlelength=3.2, bbox_to_anchor=(0.5, 0.0), borderaxespad=EDGE * 9,
        )  # fmt: skip
        self.panels: dict[str, Panel] = {}
        bottom = self.height - HEAD_LINE * len(head) - EDGE
        for row, room in zip(rows, rooms, strict=True):
            bottom -= room
            for column, name in enumerate(row):
                start = left + column * (kind.size[0] + GAP)
                self.panels[name] = Panel(start, bottom, kind.size, *limits[name])
                self._title(self.panels[name], lines[name])
        self._edges()

    def _wrapped(self, title: str) -> list[str]:
        return textwrap.wrap(
            title, self.kind.title_letters, max_lines=MOST_TITLE_LINES, placeholder=" …"
        ) or [""]

    def _canvas(self, width: float) -> tuple[Figure, Axes]:
        figure = bare_figure(width, self.height)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(0, self.height), autoscale_on=False)
        return figure, axes

    def _title(self, panel: Panel, lines: Sequence[str]) -> None:
        place = (panel.left, panel.bottom + panel.size[1] + 0.05)
        self.axes.text(*place, "\n".join(lines), fontsize=8, va="bottom", label=TITLE)

    def _edges(self) -> None:
        frames = [panel.frame(not self.kind.axes) for panel in self.panels.values()]
        colour, width = (FRAME, 0.8) if self.kind.axes else ("#CCCCCC", 0.8)
        self.axes.add_collection(
            LineCollection(frames, colors=colour, linewidths=width, zorder=4), autolim=False
        )

    # What is in them -------------------------------------------------------------------------------------------

    def areas(self, shapes: Sequence[Points], colour: str, alpha: float = 1.0, behind: bool = False) -> None:
        """Fill polygons, each (N,2) in inches."""
        self.axes.add_collection(
            PolyCollection(
                shapes, facecolors=colour, alpha=alpha, linewidths=0, zorder=1 if behind else 2
            ),
            autolim=False,
        )  # fmt: skip

    def lines(self, lines: Sequence[Points], colour: str, dashes: Any) -> None:
        """Draw lines, each (N,2) in inches."""
        self.axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=1.2, linestyles=[dashes], zorder=3), autolim=False
        )

    def dots(self, points: Points, colour: str, filled: bool) -> None:
        """Draw dots at points (N,2) in inches: small filled ones, or larger rings."""
        face, size, edge = (colour, 2.8, 0.0) if filled else ("none", 4.2, 0.6)
        self.axes.plot(
            points[:, 0], points[:, 1], linestyle="none", marker="o", markersize=size, markerfacecolor=face,
            markeredgecolor=colour, markeredgewidth=edge, zorder=2 if filled else 3,
        )  # fmt: skip

    def remark(self, name: str, text: str, colour: str) -> None:
        """Write a line into the upper right corner of a panel."""
        panel = self.panels[name]
        right, top = panel.left + panel.size[0] - 0.03, panel.bottom + panel.size[1] - 0.03
        self.axes.text(right, top, text, fontsize=SIZE, color=colour, ha="right", va="top")

    def number(self, x_ticks: Sequence[float], x_label: str, y_label: str) -> None:
        """Draw the ticks of all panels, and numbers and names at those at the edges."""
        marks: list[Points] = []
        for place, panel in enumerate(self.panels.values()):
            y_ticks = [y for y in MaxNLocator(3).tick_values(*panel.y) if panel.y[0] <= y <= panel.y[1]]
            across = panel.place(np.array([(x, panel.y[0]) for x in x_ticks]))
            up = panel.place(np.array([(panel.x[0], y) for y in y_ticks]))
            marks += [np.array([at, at - (0, TICK)]) for at in across]
            marks += [np.array([at, at - (TICK, 0)]) for at in up]
            middle = panel.left + panel.size[0] / 2, panel.bottom + panel.size[1] / 2
            if place >= len(self.panels) - self.columns:  # an empty place may follow the last
                for x, at in zip(x_ticks, across, strict=True):
                    self.axes.text(at[0], at[1] - 0.06, f"{x:g}", fontsize=SIZE, ha="center", va="top")
                self.axes.text(middle[0], panel.bottom - 0.19, x_label, fontsize=8, ha="center", va="top")
            if not place % self.columns:
                for y, at in zip(y_ticks, up, strict=True):
                    self.axes.text(at[0] - 0.06, at[1], f"{y:g}", fontsize=SIZE, ha="right", va="center")
                self.axes.text(EDGE, middle[1], y_label, fontsize=8, rotation=90, va="center")
        self.axes.add_collection(LineCollection(marks, colors=FRAME, linewidths=0.8), autolim=False)


def steps(low: NDArray[Any], high: NDArray[Any], heights: NDArray[Any]) -> Points:
    """Return the outline (2N+2,2) of bars that touch each other, from the ground to the ground.

    >>> steps(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [[0.0, 0.0], [0.0, 3.0], [1.0, 3.0], [1.0, 4.0], [2.0, 4.0], [2.0, 0.0]]
    """
    inner = np.column_stack([np.column_stack([low, high]).ravel(), np.repeat(heights, 2)])
    return np.concatenate([[(low[0], 0.0)], inner, [(high[-1], 0.0)]]).astype(float)
