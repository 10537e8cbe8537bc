"""Accuracy against time and against images. `curves` prepares the numbers; this module only draws them.

Figures are made without pyplot, so nothing global is left behind, and saved without a date or a random id.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rgal.files import write_atomically
from rgal.reporting.curves import Quantity, curve_data, level_data, y_range
from rgal.reporting.frames import finished, groups, heading, methods, require_one_group, uses_real_data

__all__ = ["accuracy_versus_images", "accuracy_versus_time", "curve_data", "line_styles", "write_plots"]

X_LABELS: dict[Quantity, str] = {
    "seconds": "Synthesis and student time (s)",
    "images": "Synthesised images",
}

# Okabe and Ito's colours, which stay apart for colour-blind readers; without the yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY = "#555555"
DPI = 150
WIDTH, HEIGHT = 6.4, 4.2  # inches

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rgal",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Our settings on matplotlib's defaults inside the block: a user's matplotlibrc changes nothing."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn. No two of the first 280 methods share all three."""

    colour: str
    marker: str
    dashes: object


def line_styles(results: pd.DataFrame) -> dict[str, LineStyle]:
    """Method -> style, by place among the data-free methods: the same everywhere if all results are given."""
    names = [name for name, trials in methods(results).items() if not uses_real_data(trials)]
    return {
        name: LineStyle(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


def accuracy_versus_time(
    curves: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 against seconds of synthesis and student training, for one (task, setting, budget)."""
    return _figure(curves, results, "seconds", styles)


def accuracy_versus_images(
    curves: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 against the number of synthesised images, for one (task, setting, budget)."""
    return _figure(curves, results, "images", styles)


def write_plots(results: pd.DataFrame, curves: pd.DataFrame, folder: str | Path) -> list[Path]:
    """Write <task>_<setting>_<budget>_{time,images}.{png,svg} for every (task, setting, budget)."""
    styles = line_styles(results)  # of all results: a method looks the same in every figure
    paths = []
    for stem, group in groups(results).items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, draw in (("time", accuracy_versus_time), ("images", accuracy_versus_images)):
            figure = draw(curves, group, styles)
            for fmt in ("png", "svg"):
                path = Path(folder) / f"{stem}_{name}.{fmt}"
                paths.append(write_atomically(path, figure_bytes(figure, fmt)))
    return paths


def figure_bytes(figure: Figure, fmt: str) -> bytes:
    """The figure as "png" (at DPI) or "svg", the same bytes each time."""
    metadata: dict[str, str | None] = {"Software": None} if fmt == "png" else {"Date": None}
    buffer = io.BytesIO()
    with paper_style():
        figure.savefig(buffer, format=fmt, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def _figure(
    curves: pd.DataFrame, results: pd.DataFrame, x: Quantity, styles: Mapping[str, LineStyle] | None
) -> Figure:
    require_one_group(results)
    data, levels = curve_data(curves, results, x), level_data(results)
    with paper_style():
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(heading(results), loc="left")
        axes.set_xlabel("\n".join([X_LABELS[x], *_left_out(data, results)]))
        axes.set_ylabel("Test top-1 (%)")
        if data.empty:
            message = "no curve to show" if len(finished(results)) else "no finished trials"
            axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", color=GREY)
            axes.set(xticks=[], yticks=[])
            return figure
        _draw(figure, axes, data, levels, {**line_styles(results), **(styles or {})})
        _scale_x(axes, data)
    return figure


def _left_out(data: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """A line with the finished methods that have no curve (they keep no images, say); none, no line."""
    names = [name for name, trials in methods(finished(results)).items() if not uses_real_data(trials)]
    missing = [name for name in names if name not in set(data["method"])]
    return [textwrap.fill(f"(not shown: {', '.join(missing)})", 80)] if missing else []


def _draw(
    figure: Figure, axes: Axes, data: pd.DataFrame, levels: pd.DataFrame, styles: Mapping[str, LineStyle]
) -> None:
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = y_range(data, levels)
    axes.set_ylim(low, high)
    handles = []
    for index, (name, curve) in enumerate(data.groupby("method", sort=False)):
        style = styles[str(name)]
        (line,) = axes.plot(
            curve["x"], curve["top1_mean"], color=style.colour, linestyle=style.dashes, linewidth=1.5,
            marker=style.marker, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5,
            markevery=marked_points(len(curve), index), zorder=3,
        )  # fmt: skip
        spread = curve.dropna(subset=["top1_std"])
        axes.fill_between(
            spread["x"], spread["top1_mean"] - spread["top1_std"], spread["top1_mean"] + spread["top1_std"],
            color=style.colour, alpha=0.15, linewidth=0, zorder=2,
        )  # fmt: skip
        handles.append((line, str(name)))
    _draw_levels(axes, levels, (low, high))
    lines, names = zip(*handles, strict=True)
    rows, columns = legend_shape([str(name) for name in names])
    # a long legend makes the figure higher instead of taking room from the axes
    figure.set_size_inches(WIDTH, HEIGHT + 0.18 * max(0, rows - 2))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def _draw_levels(axes: Axes, levels: pd.DataFrame, limits: tuple[float, float]) -> None:
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


def legend_shape(names: list[str]) -> tuple[int, int]:
    """(rows, columns): as many columns as fit below the axes, at most four; rows as equal as possible."""
    width = 0.75 + 0.067 * max(map(len, names))  # inches: the line sample, and a letter of the legend's font
    rows = math.ceil(len(names) / max(1, min(4, int(WIDTH // width))))
    return rows, math.ceil(len(names) / rows)


def marked_points(n: int, offset: int) -> list[int]:
    """About eight of n points and always the last; `offset` keeps the markers of methods apart."""
    every = math.ceil(n / 8)
    inner = range(offset % every, max(n - 1 - every // 2, 0), every)
    return [*inner, n - 1]


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
