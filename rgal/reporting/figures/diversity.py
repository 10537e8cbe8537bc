"""What the kept images are like: distances in a class and between classes, negatives, and a map beside real images.

Every figure is of one (task, setting, budget, case) and None where no finished trial recorded what it shows.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rgal.methods.names import host_of, uses_rgal
from rgal.reporting.figures.looks import COLOURS, GREY
from rgal.reporting.figures.style import (
    HEIGHT,
    WIDTH,
    Styles,
    draw_lines,
    grid_lines,
    legend_below,
    line_styles,
    new_figure,
    paper_style,
)
from rgal.reporting.results import ResultGroup, numbers, recorded, stacked
from rgal.suite.store.diversity import Diversity

BLUE, ORANGE, BAND, OTHER = COLOURS[0], COLOURS[1], "#E3E3E3", "#CCCCCC"
COLUMNS = 4  # panels beside each other, at most
HEAD_LETTERS = 12.5  # of a line above a figure, to an inch
MOST_MAPS = 8
MOST_ABOVE = 3  # times the median of the panels' peaks that an axis reaches
MOST_CLASSES = 10  # that a map's colours tell apart
# Ten colours for classes: those of methods, and three that differ from them in lightness.
CLASS_COLOURS = (*COLOURS, "#000000", "#8C510A", "#999999")
BIN_COLUMNS = ("method", "kind", "low", "high", "density", "band_low", "band_high")
ROUND_COLUMNS = ("method", "quantity", "x", "mean", "std", "n")
POINT_COLUMNS = ("method", "x", "y", "label", "synthetic")
PANEL, MAP = (1.85, 1.5), (2.1, 2.3)  # inches of a panel and its room
TITLE_LETTERS = {PANEL: 30, MAP: 36}  # in a line of a panel's title
QUANTITIES = {"same": "Same-label distance", "different": "Different-label distance"}
# Kind of distance -> colour, dashes, label.
KINDS: Mapping[str, tuple[str, Any, str]] = {
    "same": (BLUE, "solid", "same label"),
    "different": (ORANGE, (0, (4, 1.5)), "different label"),
    "negatives": (ORANGE, "solid", "different label"),
}


# Data --------------------------------------------------------------------------------------------------------------


def histogram_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Join the distances of each method's finished trials, as densities over [low, high) whose area is 1.

    Returns:
        One row per (method, kind, bin), kinds same, different and negatives. A kind without a pair is left out.
    """
    parts = []
    for name, bins in _of_methods(diversity.bins, results):
        band = bins[["band_low", "band_high"]].iloc[0]
        counts = bins.groupby(["kind", "low", "high"], sort=True, as_index=False)["count"].sum()
        total = counts.groupby("kind")["count"].transform("sum")
        counts = counts[total > 0]
        density = counts["count"] / (total[total > 0] * (counts["high"] - counts["low"]))
        parts.append(counts.assign(method=name, density=density, **band))
    return stacked(parts, BIN_COLUMNS)


def round_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Average distances by round, over the finished trials that know them.

    Returns:
        One row per (method, quantity, round), quantities same and different: x (the round), mean, std (sample; NaN for
        one trial) and n (trials).
    """
    parts = []
    known = diversity.rounds.assign(
        **{quantity: numbers(diversity.rounds, quantity) for quantity in QUANTITIES}
    )
    for name, rounds in _of_methods(known, results):
        for quantity in QUANTITIES:
            values = rounds.assign(value=rounds[quantity]).dropna(subset=["value"])
            grouped = values.groupby("round", sort=True)["value"].agg(["mean", "std", "size"]).reset_index()
            columns = grouped.rename(columns={"size": "n", "round": "x"})
            parts.append(columns.assign(method=name, quantity=quantity))
    return stacked(parts, ROUND_COLUMNS)


def point_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Return the embedding of the first finished seed of each method that has one."""
    known, rows = set(diversity.points["key"].unique()), ResultGroup(results, one_case=True).methods
    first = {name: next((key for key in row.keys if key in known), None) for name, row in rows.items()}
    method_of = {key: name for name, key in first.items() if key is not None}
    points = diversity.points[diversity.points["key"].isin(method_of)]
    by_key = dict(list(points.groupby("key", sort=False)))
    return stacked([by_key[key].assign(method=name) for key, name in method_of.items()], POINT_COLUMNS)


def _of_methods(frame: pd.DataFrame, results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (method, its rows), by seed; methods in the tables' order, without those that have none."""
    yield from recorded(frame, ResultGroup(results, one_case=True).methods).items()


# Figures -----------------------------------------------------------------------------------------------------------


def diversity_figures(
    diversity: Diversity, results: pd.DataFrame, styles: Styles | None = None
) -> dict[str, Callable[[], Figure | None]]:
    """Return functions by the name of what they draw, if there is anything; figures are large, one at a time."""
    return {
        "distances": lambda: distance_distributions(diversity, results),
        "distance_rounds": lambda: distances_by_round(diversity, results, styles),
        "negatives": lambda: negative_distances(diversity, results),
        "embedding": lambda: embedding_maps(diversity, results),
    }


@paper_style()
def distance_distributions(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """Draw one panel per method: distances of same-label and of different-label pairs of teacher features."""
    data = histogram_data(diversity, results)
    data = data[data["kind"] != "negatives"]
    if data.empty:
        return None
    names = {name: name for name in data["method"].unique()}
    figure, panels = _panels(results, "distances of unit-length teacher features", names, PANEL)
    _draw_histograms(panels, data)
    looks = [KINDS[kind] for kind in QUANTITIES]
    legend_below(figure, {text: Line2D([], [], color=c, linestyle=dash) for c, dash, text in looks})
    return figure


@paper_style()
def negative_distances(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """Draw one panel per method: distances of other-label pairs on the teacher's logits, the focal band shaded."""
    data = histogram_data(diversity, results)
    data = data[data["kind"] == "negatives"]
    if data.empty:
        return None
    rows = ResultGroup(results, one_case=True).methods
    shares = {name: 100 * rows[name].numbers("diversity_fallback").mean() for name in data["method"].unique()}
    titles = {
        name: name if math.isnan(share) else f"{name}: {share:.1f}\u00a0%\u00a0fallback"
        for name, share in shares.items()
    }
    figure, panels = _panels(results, "distances of unit-length teacher logits", titles, PANEL)
    for name, axes in panels.items():
        low, high = data.loc[data["method"] == name, ["band_low", "band_high"]].iloc[0]
        if low < high:
            axes.axvspan(low, high, color=BAND, linewidth=0, zorder=0)
    _draw_histograms(panels, data)
    handles = {
        "different label": Line2D([], [], color=ORANGE),
        "band of the focal sampler": Patch(color=BAND),
    }
    legend_below(figure, handles)
    return figure


@paper_style()
def distances_by_round(
    diversity: Diversity, results: pd.DataFrame, styles: Styles | None = None
) -> Figure | None:
    """Draw two panels, same-label and different-label distance: the mean of each round against its number."""
    data = round_data(diversity, results)
    if data.empty:
        return None
    figure = new_figure(WIDTH, HEIGHT * 0.85)
    lines: dict[str, Line2D] = {}
    for axes, (quantity, label) in zip(figure.subplots(1, 2), QUANTITIES.items(), strict=True):
        grid_lines(axes)
        axes.set(xlabel="Round", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        lines |= draw_lines(axes, data[data["quantity"] == quantity], styles or line_styles(results))
    _head(figure, results, "unit-length teacher features")
    legend_below(figure, lines)
    return figure


@paper_style()
def embedding_maps(diversity: Diversity, results: pd.DataFrame) -> Figure | None:
    """Draw one panel per method, at most eight: t-SNE of teacher features of kept and of test images.

    Kept images are filled, test images outlined, both of the first finished seed. Colours are classes, the ten most
    frequent ones.
    """
    data = point_data(diversity, results)
    if data.empty:
        return None
    names = _shown_maps(list(data["method"].unique()), results)
    frequent = data["label"].value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    colours = dict(zip(sorted(frequent.index[:MOST_CLASSES]), CLASS_COLOURS, strict=False))
    what = "t-SNE of teacher features, first finished seed"
    missing = [name for name in data["method"].unique() if name not in names]
    if missing:
        what += f" (not shown: {', '.join(missing)})"
    figure, panels = _panels(results, what, {name: name for name in names}, MAP)
    for name, axes in panels.items():
        _scatter(axes, data[data["method"] == name], colours)
    legend_below(figure, _map_legend(colours, len(frequent) > len(colours)))
    return figure


def _shown_maps(names: Sequence[str], results: pd.DataFrame) -> list[str]:
    """Choose the methods with a map, in the order of `names`: those with RGAL, their hosts, then the best ones."""
    group = ResultGroup(results, one_case=True)
    measure, rows = group.measures[0], group.methods
    sign = -1 if measure.better == "lower" else 1
    hosts = {host_of(name, names) for name in names}

    def urgency(name: str) -> tuple[bool, bool, float]:
        mean = sign * float(rows[name].measured(measure).mean())
        return not uses_rgal(name), name not in hosts, -mean if mean == mean else math.inf

    kept = sorted(names, key=urgency)[:MOST_MAPS]
    return [name for name in names if name in kept]


# Parts of figures --------------------------------------------------------------------------------------------------


def _panels(
    results: pd.DataFrame, what: str, titles: Mapping[str, str], size: tuple[float, float]
) -> tuple[Figure, dict[str, Axes]]:
    """Make a figure with one axes for each name of `titles`, row by row, and above them what it shows.

    Args:
        results: of one case.
        what: it shows.
        titles: of the panels, by the names of these.
        size: of a panel, in inches.
    """
    columns = min(len(titles), COLUMNS)
    rows = -(-len(titles) // columns)
    figure = new_figure(max(WIDTH, 0.4 + columns * size[0]), 1.1 + rows * size[1])
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = dict(zip(titles, grid.flat, strict=False))
    for axes in grid[-1, len(titles) - (rows - 1) * columns :]:
        axes.set_axis_off()
    for name, axes in panels.items():
        # A space behind the commas of parameters: lines break there.
        text = titles[name].replace(",", ", ")
        lines = textwrap.wrap(text, TITLE_LETTERS[size], max_lines=3, placeholder=" …")
        # A given height: matplotlib need not look for room above all ticks at every draw.
        axes.set_title("\n".join(lines), loc="left", fontsize=8, y=1.0)
        axes.tick_params(labelsize=7)
    _head(figure, results, what)
    return figure, panels


def _head(figure: Figure, results: pd.DataFrame, what: str) -> None:
    text = ": ".join(filter(None, (ResultGroup(results, one_case=True).heading, what)))
    letters = int(HEAD_LETTERS * figure.get_size_inches()[0])
    figure.suptitle(textwrap.fill(text, letters), fontsize=9, x=0.01, ha="left")


def _draw_histograms(panels: Mapping[str, Axes], data: pd.DataFrame) -> None:
    """Draw a filled step line for each kind of distance; all panels have the same limits.

    Where one panel's peak is far above those of the others it is cut, and its height written there.
    """
    peaks = data.groupby("method")["density"].max()
    highest = min(float(peaks.max()), MOST_ABOVE * float(peaks.median()))
    parts = dict(list(data.sort_values("low", kind="stable").groupby(["method", "kind"], sort=False)))
    for place, (name, axes) in enumerate(panels.items()):
        for kind in (kind for kind in KINDS if (name, kind) in parts):
            colour, dashes, _ = KINDS[kind]
            bins = parts[name, kind]
            edges = np.append(bins["low"].to_numpy(), bins["high"].iloc[-1])
            axes.stairs(bins["density"], edges, fill=True, color=colour, alpha=0.2, linewidth=0)
            axes.stairs(bins["density"], edges, color=colour, linewidth=1.2, linestyle=dashes)
        axes.set(xlim=(0, 2), ylim=(0, 1.05 * highest), xticks=(0, 0.5, 1, 1.5, 2))
        if peaks[name] > highest:
            text = f"peak {peaks[name]:.3g}"
            axes.text(
                0.98, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, color=GREY
            )
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(MaxNLocator(3))
        # Alike, but not shared by matplotlib, which then looks at every panel whenever it asks for limits of one.
        first, last = (
            place % COLUMNS == 0,
            place >= len(panels) - COLUMNS,
        )  # an empty place may follow the last
        axes.tick_params(labelleft=first, labelbottom=last)
        axes.set_xlabel("Distance" if last else "", fontsize=8)
        axes.set_ylabel("Density" if first else "", fontsize=8)


def _scatter(axes: Axes, points: pd.DataFrame, colours: Mapping[int, str]) -> None:
    axes.set(xticks=[], yticks=[], box_aspect=1)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#CCCCCC")
    synthetic = points["synthetic"].to_numpy(dtype=bool)
    shades = points["label"].map(colours).fillna(OTHER).to_numpy(dtype=object)
    made, real = points[synthetic], points[~synthetic]
    axes.scatter(made["x"], made["y"], s=8, c=shades[synthetic], linewidths=0)
    # Larger and on top, or kept images would hide them.
    axes.scatter(real["x"], real["y"], s=18, facecolors="none", edgecolors=shades[~synthetic], linewidths=0.6)


def _map_legend(colours: Mapping[int, str], others: bool) -> dict[str, Line2D]:
    """Return the handles of a map's legend by their texts."""

    def dot(colour: str, filled: bool = True) -> Line2D:
        face = colour if filled else "none"
        return Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, markerfacecolor=face)

    kinds = {"kept image, teacher's label": dot(GREY), "test image, true label": dot(GREY, False)}
    classes = {f"class {label}": dot(colour) for label, colour in colours.items()}
    return kinds | classes | ({"other class": dot(OTHER)} if others else {})
