"""What the kept images are like: distances in a class and between classes, negatives, and a map beside real images.

Every figure is of one (task, setting, budget, case) and None where no finished trial recorded what it shows.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rgal.reporting.figures.curve_plots import draw_curves
from rgal.reporting.figures.style import (
    COLOURS,
    GREY,
    HEIGHT,
    WIDTH,
    LineStyle,
    all_styles,
    grid_lines,
    legend_below,
    legend_shape,
    new_figure,
    paper_style,
)
from rgal.reporting.results import ResultGroup, numbers
from rgal.suite.store.diversity import Diversity

BLUE, ORANGE, BAND, OTHER = COLOURS[0], COLOURS[1], "#E3E3E3", "#CCCCCC"
COLUMNS = 4  # panels beside each other, at most
HEAD_LETTERS = 100  # in a line above a figure
MOST_MAPS = 8
MOST_CLASSES = 10  # that a map's colours tell apart
# Ten colours for classes: the colour-blind safe ones, and three that differ from them in lightness.
CLASS_COLOURS = (*COLOURS, "#B5A800", "#8C510A", "#999999")
BIN_COLUMNS = ["method", "kind", "low", "high", "density", "band_low", "band_high"]
ROUND_COLUMNS = ["method", "quantity", "round", "mean", "std", "n"]
POINT_COLUMNS = ["method", "x", "y", "label", "synthetic"]


@dataclass(frozen=True)
class Grid:
    """Sizes of panels and of the room around them, in inches."""

    width: float
    height: float
    beside: float
    between: float
    left: float
    above: float
    below: float
    letters: int  # in a line of a panel's title


PANELS = Grid(1.65, 1.15, beside=0.2, between=0.55, left=0.55, above=0.75, below=0.52, letters=30)
MAPS = Grid(2.0, 2.0, beside=0.1, between=0.45, left=0.08, above=0.75, below=0.1, letters=36)
Look = tuple[str, Any, str]  # colour, dashes, label
PARTS = {"same": "Same-label distance", "different": "Different-label distance"}


# Data --------------------------------------------------------------------------------------------------------------


def histogram_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Distances of each method's finished trials together, as densities over [low, high) whose area is 1.

    One row a (method, kind, bin), kinds same, different and negatives. A kind without a pair is left out, and bins that
    other trials of the method do not share.
    """
    found = []
    for name, bins in _of_methods(diversity.bins, results):
        limits = ["kind", "low", "high"]
        band = bins[["band_low", "band_high"]].iloc[0]
        counts = bins.groupby(limits, sort=True, as_index=False)["count"].sum()
        total = counts.groupby("kind")["count"].transform("sum")
        counts = counts[total > 0]
        density = counts["count"] / (total[total > 0] * (counts["high"] - counts["low"]))
        found.append(counts.assign(method=name, density=density, **band))
    return _joined(found, BIN_COLUMNS)


def round_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Mean distances by round: one row a (method, quantity, round), quantities same and different; the mean over the n
    finished trials that know it and their sample standard deviation (NaN for one)."""
    found = []
    for name, rounds in _of_methods(diversity.rounds, results):
        for quantity in PARTS:
            values = rounds.assign(value=numbers(rounds, quantity)).dropna(subset=["value"])
            grouped = values.groupby("round", sort=True)["value"]
            summary = grouped.agg(["mean", "std", "size"]).rename(columns={"size": "n"}).reset_index()
            found.append(summary.assign(method=name, quantity=quantity))
    return _joined([part for part in found if len(part)], ROUND_COLUMNS)


def point_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """The embedding of the first finished seed of each method that has one."""
    found = []
    for name, points in _of_methods(diversity.points, results):
        found.append(points[points["key"] == points["key"].iloc[0]].assign(method=name))
    return _joined(found, POINT_COLUMNS)


def fallback_shares(results: pd.DataFrame) -> dict[str, float]:
    """Method -> mean fallback share of its finished trials, in percent; NaN where unknown."""
    rows = ResultGroup(results, one_case=True).methods
    return {name: 100 * row.numbers("diversity_fallback").mean() for name, row in rows.items()}


def _of_methods(frame: pd.DataFrame, results: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(method, its rows), by seed; methods in the tables' order, without those that have none."""
    found = []
    for name, row in ResultGroup(results, one_case=True).methods.items():
        keys = list(row.finished["key"]) if "key" in row.trials.columns else []
        mine = [rows for key in keys if len(rows := frame[frame["key"] == key])]
        if mine:
            found.append((name, pd.concat(mine, ignore_index=True)))
    return found


def _joined(parts: Sequence[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


# Figures -----------------------------------------------------------------------------------------------------------


def diversity_figures(
    diversity: Diversity, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> dict[str, Any]:
    """Name -> function that draws it, or finds that there is nothing to draw; figures are large, one at a time."""
    return {
        "distances": lambda: distance_distributions(diversity, results),
        "distance_rounds": lambda: distances_by_round(diversity, results, styles),
        "negatives": lambda: negative_distances(diversity, results),
        "embedding": lambda: embedding_maps(diversity, results),
    }


def distance_distributions(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """One panel a method: distances of same-label and of different-label pairs of teacher features."""
    data = histogram_data(diversity, results)
    data = data[data["kind"] != "negatives"]
    looks: dict[str, Look] = {
        "same": (BLUE, "solid", "same label"),
        "different": (ORANGE, (0, (4, 1.5)), "different label"),
    }
    if data.empty:
        return None
    with paper_style():
        names = {name: name for name in data["method"].unique()}
        figure, panels = _panels(results, "distances of unit-length teacher features", names, PANELS)
        for name, axes in panels.items():
            _outlines(axes, data[data["method"] == name], looks)
        _share(panels, float(data["density"].max()))
        handles = [Line2D([], [], color=c, linestyle=dash, label=text) for c, dash, text in looks.values()]
        _finish(figure, PANELS, handles, [text for *_, text in looks.values()])
    return figure


def negative_distances(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """One panel a method: distances of other-label pairs on the teacher's logits, the focal band shaded."""
    data = histogram_data(diversity, results)
    data = data[data["kind"] == "negatives"]
    if data.empty:
        return None
    shares = fallback_shares(results)
    with paper_style():
        titles = {name: _with_share(name, shares[name]) for name in data["method"].unique()}
        figure, panels = _panels(results, "distances of unit-length teacher logits", titles, PANELS)
        for name, axes in panels.items():
            mine = data[data["method"] == name]
            low, high = mine[["band_low", "band_high"]].iloc[0]
            if low < high:
                axes.axvspan(low, high, color=BAND, linewidth=0, zorder=0)
            _outlines(axes, mine, {"negatives": (ORANGE, "solid", "")})
        _share(panels, float(data["density"].max()))
        handles = [Line2D([], [], color=ORANGE), Patch(color=BAND)]
        _finish(figure, PANELS, handles, ["different label", "band of the focal sampler"])
    return figure


def distances_by_round(
    diversity: Diversity, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure | None:
    """Two panels, same-label and different-label distance: the mean of each round against its number."""
    data = round_data(diversity, results)
    if data.empty:
        return None
    looks = {**all_styles(results), **(styles or {})}
    with paper_style():
        figure = new_figure(WIDTH, HEIGHT * 0.85)
        lines: dict[str, Line2D] = {}
        for axes, (quantity, label) in zip(figure.subplots(1, 2), PARTS.items(), strict=True):
            grid_lines(axes)
            axes.set_xlabel("Round")
            axes.set_ylabel(label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            mine = data[data["quantity"] == quantity]
            curves = mine.rename(columns={"round": "x", "mean": "top1_mean", "std": "top1_std"})
            lines |= draw_curves(axes, curves, looks)
        _head(figure, results, "unit-length teacher features")
        legend_below(figure, list(lines.values()), list(lines))
    return figure


def embedding_maps(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """One panel a method, at most eight: t-SNE of teacher features of kept images (filled) and of test images
    (outlined), of the first finished seed. Colours are classes, the ten most frequent ones."""
    data = point_data(diversity, results)
    if data.empty:
        return None
    names = list(data["method"].unique())
    frequent = data["label"].value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    classes = sorted(frequent.index[:MOST_CLASSES])
    colours = dict(zip(classes, CLASS_COLOURS, strict=False))
    with paper_style():
        what = "t-SNE of teacher features, first finished seed"
        if len(names) > MOST_MAPS:
            what += f" (not shown: {', '.join(names[MOST_MAPS:])})"
        figure, panels = _panels(results, what, {name: name for name in names[:MOST_MAPS]}, MAPS)
        for name, axes in panels.items():
            _scatter(axes, data[data["method"] == name], colours)
        _finish(figure, MAPS, *_map_legend(colours, len(frequent) > len(classes)))
    return figure


# Parts of figures --------------------------------------------------------------------------------------------------


def _panels(
    results: pd.DataFrame, what: str, titles: Mapping[str, str], grid: Grid
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one axes a name of `titles`, row by row, and above it what it shows. `_finish` lays it out."""
    columns = min(len(titles), COLUMNS)
    rows = -(-len(titles) // columns)
    width = grid.left + columns * (grid.width + grid.beside) - grid.beside + grid.left / 4
    figure = new_figure(max(WIDTH, width), grid.above + rows * (grid.height + grid.between) - grid.between)
    figure.set_layout_engine(None)  # measuring every label of many panels takes as long as drawing them
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    panels = dict(zip(titles, places, strict=False))
    for spare in places[len(titles) :]:
        spare.set_axis_off()
    for name, axes in panels.items():
        # A space behind the commas of parameters: lines break there.
        lines = textwrap.wrap(titles[name].replace(",", ", "), grid.letters, max_lines=3, placeholder=" …")
        axes.set_title("\n".join(lines), loc="left", fontsize=8)
        axes.tick_params(labelsize=7)
    _head(figure, results, what)
    return figure, panels


def _finish(figure: Figure, grid: Grid, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Panels of the grid's size under the heading, and the legend below them."""
    columns = figure.axes[0].get_gridspec().ncols  # type: ignore[union-attr]
    width, height = figure.get_size_inches()
    rows, _ = legend_shape(labels, width)
    below = grid.below + 0.19 * rows
    legend_below(figure, handles, labels)
    figure.set_size_inches(width, height + below)
    figure.subplots_adjust(
        left=grid.left / width,
        right=(grid.left + columns * (grid.width + grid.beside) - grid.beside) / width,
        bottom=below / (height + below),
        top=1 - grid.above / (height + below),
        wspace=grid.beside / grid.width,
        hspace=grid.between / grid.height,
    )


def _head(figure: Figure, results: pd.DataFrame, what: str) -> None:
    text = ": ".join(filter(None, (ResultGroup(results, one_case=True).heading, what)))
    figure.suptitle(textwrap.fill(text, HEAD_LETTERS), fontsize=9, x=0.01, ha="left")


def _with_share(name: str, share: float) -> str:
    return name if math.isnan(share) else f"{name}: {share:.1f}\u00a0%\u00a0fallback"


def _share(panels: Mapping[str, Axes], top: float) -> None:
    """The same limits for all; labels at the left, and below the last of a column only."""
    every = list(panels.values())
    for place, axes in enumerate(every):
        left, last = place % COLUMNS == 0, place + COLUMNS >= len(every)
        axes.set(xlim=(0, 2), ylim=(0, 1.05 * top), xticks=(0, 0.5, 1, 1.5, 2))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelleft=left, labelbottom=last)
        axes.set_ylabel("Density" if left else "", fontsize=8)
        axes.set_xlabel("Distance" if last else "", fontsize=8)


def _outlines(axes: Axes, data: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """A filled step line a kind of distance."""
    for kind, (colour, dashes, _) in looks.items():
        bins = data[data["kind"] == kind].sort_values("low")
        if len(bins):
            edges = np.append(bins["low"].to_numpy(), bins["high"].iloc[-1])
            axes.stairs(bins["density"], edges, fill=True, color=colour, alpha=0.2, linewidth=0)
            axes.stairs(bins["density"], edges, color=colour, linewidth=1.2, linestyle=dashes)


def _scatter(axes: Axes, points: pd.DataFrame, colours: Mapping[int, str]) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#CCCCCC")
    synthetic = points["synthetic"].astype(bool)
    made, real = points[synthetic], points[~synthetic]
    axes.scatter(made["x"], made["y"], s=8, c=_shades(made, colours), linewidths=0)
    # Larger and on top, or kept images would hide them.
    axes.scatter(
        real["x"], real["y"], s=18, facecolors="none", edgecolors=_shades(real, colours), linewidths=0.6
    )


def _shades(points: pd.DataFrame, colours: Mapping[int, str]) -> list[str]:
    return [colours.get(label, OTHER) for label in points["label"]]


def _map_legend(colours: Mapping[int, str], others: bool) -> tuple[list[Line2D], list[str]]:
    def dot(colour: str, filled: bool = True) -> Line2D:
        face = colour if filled else "none"
        return Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, markerfacecolor=face)

    handles = [dot(GREY), dot(GREY, False), *(dot(colour) for colour in colours.values())]
    labels = ["kept image, teacher's label", "test image, true label", *(f"class {c}" for c in colours)]
    return ([*handles, dot(OTHER)], [*labels, "other class"]) if others else (handles, labels)
