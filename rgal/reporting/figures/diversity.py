"""What the kept images are like: distances in a class and between classes, negatives, and a map beside real images.

Every figure is of one (task, setting, budget, case) and None where no finished trial recorded what it shows.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rgal.methods.names import host_of, uses_rgal
from rgal.reporting.figures.looks import CLASS_COLOURS, COLOURS, GREY
from rgal.reporting.figures.panels import HEAD_LETTERS, Kind, Panels, Points, steps
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
    with_margin,
)
from rgal.reporting.results import ResultGroup, numbers, recorded, stacked
from rgal.suite.store.diversity import Diversity

BLUE, ORANGE, BAND, OTHER = COLOURS[0], COLOURS[1], "#E3E3E3", "#CCCCCC"
MOST_MAPS = 8
MOST_ABOVE = 3  # times the median of the panels' peaks that an axis reaches
MOST_CLASSES = 10  # that a map's colours tell apart
BIN_COLUMNS = ("method", "kind", "low", "high", "density", "band_low", "band_high")
ROUND_COLUMNS = ("method", "quantity", "x", "mean", "std", "n")
POINT_COLUMNS = ("method", "x", "y", "label", "synthetic")
PANEL, MAP = Kind((1.6, 1.1), 26), Kind((1.95, 1.95), 34, axes=False)
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
    bins = _of_methods(diversity.bins, results)
    if bins.empty:
        return stacked([], BIN_COLUMNS)
    bands = bins.drop_duplicates("method").set_index("method")[["band_low", "band_high"]]
    counts = bins.groupby(["place", "method", "kind", "low", "high"], sort=True, as_index=False)[
        "count"
    ].sum()
    total = counts.groupby(["place", "kind"])["count"].transform("sum")
    counts = counts[total > 0]
    density = counts["count"] / (total[total > 0] * (counts["high"] - counts["low"]))
    return stacked([counts.assign(density=density).join(bands, on="method")], BIN_COLUMNS)


def round_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Average distances by round, over the finished trials that know them.

    Returns:
        One row per (method, quantity, round), quantities same and different: x (the round), mean, std (sample; NaN for
        one trial) and n (trials).
    """
    rounds, parts = _of_methods(diversity.rounds, results), []
    for quantity in QUANTITIES if len(rounds) else ():
        values = rounds.assign(value=numbers(rounds, quantity)).dropna(subset=["value"])
        grouped = values.groupby(["place", "method", "round"], sort=True)["value"]
        columns = grouped.agg(["mean", "std", "size"]).reset_index()
        parts.append(columns.rename(columns={"size": "n", "round": "x"}).assign(quantity=quantity))
    data = stacked(parts, ["place", *ROUND_COLUMNS])
    return data.sort_values("place", kind="stable", ignore_index=True)[list(ROUND_COLUMNS)]


def point_data(diversity: Diversity, results: pd.DataFrame) -> pd.DataFrame:
    """Return the embedding of the first finished seed of each method that has one."""
    known, rows = set(diversity.points["key"].unique()), ResultGroup(results, one_case=True).methods
    first = {name: next((key for key in row.keys if key in known), None) for name, row in rows.items()}
    method_of = {key: name for name, key in first.items() if key is not None}
    points = diversity.points[diversity.points["key"].isin(method_of)]
    by_key = dict(list(points.groupby("key", sort=False)))
    return stacked([by_key[key].assign(method=name) for key, name in method_of.items()], POINT_COLUMNS)


def _of_methods(frame: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are about finished trials, by seed, with their method and its place in the tables."""
    rows = ResultGroup(results, one_case=True).methods
    parts = recorded(frame, rows)
    places = {name: place for place, name in enumerate(rows)}
    return stacked(
        [part.assign(method=name, place=places[name]) for name, part in parts.items()],
        [*frame.columns, "method", "place"],
    )


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
    looks = [KINDS[kind] for kind in QUANTITIES]
    return _histograms(
        _headed(results, "distances of unit-length teacher features"),
        {name: name for name in data["method"].unique()},
        data,
        {text: Line2D([], [], color=c, linestyle=dash) for c, dash, text in looks},
    ).figure


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
    handles = {
        "different label": Line2D([], [], color=ORANGE),
        "band of the focal sampler": Patch(color=BAND),
    }
    heading = _headed(results, "distances of unit-length teacher logits")
    panels = _histograms(heading, titles, data, handles)
    bands = data.drop_duplicates("method")[["method", "band_low", "band_high"]]
    shaded = [
        panels.panels[name].place(steps(np.array([low]), np.array([high]), np.array([math.inf])))
        for name, low, high in bands.itertuples(index=False)
        if low < high
    ]
    panels.areas(shaded, BAND, behind=True)
    return panels.figure


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
    text = _headed(results, "unit-length teacher features")
    figure.suptitle(textwrap.fill(text, int(HEAD_LETTERS * WIDTH)), fontsize=9, x=0.01, ha="left")
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
    data = data[data["method"].isin(names)]
    limits = {
        str(name): (
            with_margin(part["x"].min(), part["x"].max()),
            with_margin(part["y"].min(), part["y"].max()),
        )
        for name, part in data.groupby("method", sort=False)
    }
    legend = _map_legend(colours, len(frequent) > len(colours))
    panels = Panels(MAP, _headed(results, what), {name: name for name in names}, limits, legend)
    _draw_maps(panels, data, colours)
    return panels.figure


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


def _headed(results: pd.DataFrame, what: str) -> str:
    return ": ".join(filter(None, (ResultGroup(results, one_case=True).heading, what)))


def _histograms(
    heading: str, titles: Mapping[str, str], data: pd.DataFrame, legend: Mapping[str, Any]
) -> Panels:
    """Draw a filled step line for each kind of distance; all panels have the same limits.

    Where one panel's peak is far above those of the others it is cut, and its height written there.

    Args:
        heading: above all.
        titles: of the panels, by their methods.
        data: as of `histogram_data`.
        legend: texts -> what they explain.
    """
    peaks = data.groupby("method")["density"].max()
    highest = min(float(peaks.max()), MOST_ABOVE * float(peaks.median())) or 1.0
    panels = Panels(
        PANEL, heading, titles, dict.fromkeys(titles, ((0.0, 2.0), (0.0, 1.05 * highest))), legend
    )
    outlines: dict[str, list[Points]] = {}
    for (name, kind), bins in data.sort_values("low", kind="stable").groupby(["method", "kind"], sort=False):
        outline = steps(*(bins[column].to_numpy() for column in ("low", "high", "density")))
        outlines.setdefault(str(kind), []).append(panels.panels[str(name)].place(outline))
    for kind in (kind for kind in KINDS if kind in outlines):
        colour, dashes, _ = KINDS[kind]
        panels.areas(outlines[kind], colour, alpha=0.2)
        panels.lines(outlines[kind], colour, dashes)
    for name in titles:
        if peaks[name] > highest:
            panels.remark(name, f"peak {peaks[name]:.3g}", GREY)
    panels.number((0, 0.5, 1, 1.5, 2), "Distance", "Density")
    return panels


def _draw_maps(panels: Panels, data: pd.DataFrame, colours: Mapping[int, str]) -> None:
    """Draw the points of every map: kept images first, test images larger and on top, or they would be hidden."""
    places = np.concatenate(
        [
            panels.panels[str(name)].place(part[["x", "y"]].to_numpy(dtype=float))
            for name, part in data.groupby("method", sort=False)
        ]
    )
    ordered = pd.concat([part for _, part in data.groupby("method", sort=False)])
    shades = ordered["label"].map(colours).fillna(OTHER).to_numpy(dtype=object)
    made = ordered["synthetic"].to_numpy(dtype=bool)
    for filled in (True, False):
        for shade in (OTHER, *colours.values()):
            mine = (made == filled) & (shades == shade)
            if mine.any():
                panels.dots(places[mine], shade, filled)


def _map_legend(colours: Mapping[int, str], others: bool) -> dict[str, Line2D]:
    """Return the handles of a map's legend by their texts."""

    def dot(colour: str, filled: bool = True) -> Line2D:
        face = colour if filled else "none"
        return Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, markerfacecolor=face)

    kinds = {"kept image, teacher's label": dot(GREY), "test image, true label": dot(GREY, False)}
    classes = {f"class {label}": dot(colour) for label, colour in colours.items()}
    return kinds | classes | ({"other class": dot(OTHER)} if others else {})
