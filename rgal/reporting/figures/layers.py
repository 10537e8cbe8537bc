"""Where quantization loses: the range that each method's calibration chose for every activation, and the noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rgal.reporting.figures.style import (
    GREY,
    WIDTH,
    Styles,
    grid_lines,
    legend_below,
    line_styles,
    new_figure,
    paper_style,
    title,
)
from rgal.reporting.results import ResultGroup, marked, numbers, recorded, stacked

NEEDED = {"key", "index", "layer", "kind"}
NUMBERS = ("index", "low", "high", "seen_low", "seen_high", "sqnr_db")
WIDEST, PER_LAYER = 12.0, 0.36  # inches
SLOT = 0.84  # of a layer's width is filled
BAND = "#D9D9D9"
LONGEST = 26  # letters of a layer's name
LETTER = 0.058  # inches of one


def layer_data(layers: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the quantizers of the first finished seed of each method that has any, in order.

    Returns:
        Columns key, index, layer, kind, low, high, seen_low, seen_high (all in units of the activation), sqnr_db,
        method, data_free and place, of an activation its number from 0, of a weight its position between them.

    Raises:
        ValueError: the results are of several cases.
    """
    group, parts = ResultGroup(results, one_case=True), []
    if set(layers.columns) >= NEEDED:
        values = layers.assign(**{name: numbers(layers, name) for name in NUMBERS})
        values = values.replace([math.inf, -math.inf], math.nan).dropna(subset=["index"])
        values = values.sort_values(["kind", "index", "layer"], kind="stable")
        for name, mine in recorded(values, group.methods).items():
            first = mine[mine["key"] == mine["key"].iloc[0]]
            parts.append(first.assign(method=name, data_free=group.methods[name].data_free))
    return _with_places(stacked(parts, ["key", "layer", "kind", *NUMBERS, "method", "data_free"]))


@paper_style()
def layer_figure(layers: pd.DataFrame, results: pd.DataFrame, styles: Styles | None = None) -> Figure | None:
    """Draw ranges above, signal to quantization noise below, for one (task, setting, budget, case).

    None where no finished trial has an activation quantizer in `layers`.
    """
    data = layer_data(layers, results)
    activations = data[data["kind"] == "activation"]
    if activations.empty:
        return None
    slots = activations.drop_duplicates("place").sort_values("place")
    names = [_short(str(name)) for name in slots["layer"]]
    looks = styles or line_styles(results)
    width = min(max(WIDTH, 1.2 + PER_LAYER * len(names)), WIDEST)
    figure = new_figure(width, 5.4 + LETTER * max(map(len, names)))
    upper, lower = figure.subplots(2, 1, sharex=True)
    title(upper, ResultGroup(results, one_case=True).heading)
    _draw_ranges(upper, activations, looks, (width - 1.2) * 72 / len(names))
    handles = _draw_noise(lower, data, looks)
    lower.set_xlim(-0.6, len(names) - 0.4)
    lower.set_xticks(range(len(names)), names, rotation=90)
    lower.tick_params(axis="x", labelsize=7 if len(names) <= 40 else 5)
    lower.set_xlabel("Activation quantizers in order (first finished seed of each method)")
    if activations["seen_high"].notna().any():
        judged_on = "held-out" if ResultGroup(results, one_case=True).untested else "test"
        handles[f"range on {judged_on} images"] = Patch(color=BAND)
    legend_below(figure, handles)
    return figure


def _with_places(data: pd.DataFrame) -> pd.DataFrame:
    """Add `place`: activations are numbered by (index, layer), and weights lie between them by index.

    Where both kinds are numbered from 0, weights are spread over the axis instead.
    """
    activations = data[data["kind"] == "activation"]
    slots = activations[["index", "layer"]].drop_duplicates().sort_values(["index", "layer"])
    place = {slot: number for number, slot in enumerate(slots.itertuples(index=False, name=None))}
    places = [float(place.get(slot, math.nan)) for slot in zip(data["index"], data["layer"], strict=True)]
    data = data.assign(place=places)
    weights = data["kind"] != "activation"
    if len(slots) and weights.any():
        data.loc[weights, "place"] = _between(
            data.loc[weights, "index"].to_numpy(), slots["index"].to_numpy()
        )
    return data


def _between(weights: NDArray[np.float64], activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place weight indices on the axis of the n activations, 0 to n - 1; those outside half a step beyond its ends."""
    last = len(activations) - 1
    if set(weights) & set(activations):
        span = max(weights.max() - weights.min(), 1.0)
        return np.asarray((weights - weights.min()) / span * last, dtype=float)
    indices = np.array([activations[0] - 1, *activations, activations[-1] + 1])
    return np.interp(weights, indices, np.array([-0.5, *range(last + 1), last + 0.5]))


def _draw_ranges(axes: Axes, data: pd.DataFrame, styles: Styles, slot_points: float) -> None:
    """Draw thin bars beside each other in every layer's slot, on the band of what test images give (or held-out).

    Args:
        axes: to draw on.
        data: the activation quantizers.
        styles: of the methods.
        slot_points: width of a layer's slot, in points.
    """
    grid_lines(axes)
    axes.set_ylabel("Activation range")
    on_test = data.groupby("place")[["seen_low", "seen_high"]].median().dropna()  # students differ a little
    height = on_test["seen_high"] - on_test["seen_low"]
    axes.bar(on_test.index, height, 0.92, on_test["seen_low"], color=BAND, zorder=1)
    present = list(data["method"].unique())
    step = SLOT / len(present)
    for number, name in enumerate(present):
        ranges = data[data["method"] == name].dropna(subset=["low", "high"])
        x = ranges["place"] + (number - (len(present) - 1) / 2) * step
        look = styles[name]
        thick = min(max(0.55 * step * slot_points, 0.8), 3.0)
        axes.vlines(x, ranges["low"], ranges["high"], color=look.colour, linewidth=thick, zorder=2)
        options = {**look.options(), "markersize": 3.0, "markeredgewidth": 0.3 if look.filled else 0.7}
        axes.plot(x, ranges["high"], **{**options, "linestyle": "none"}, zorder=3)
    _limit(axes, data, on_test)


def _limit(axes: Axes, data: pd.DataFrame, on_test: pd.DataFrame) -> None:
    """Make room for the ranges on test images, and chosen ones up to thrice as wide; say where wider ones are cut."""
    low, high = data[["low", "seen_low"]].min().min(), data[["high", "seen_high"]].max().max()
    if on_test.empty or math.isnan(low) or math.isnan(high):
        return
    bottom, top = on_test["seen_low"].min(), on_test["seen_high"].max()
    reach = 2 * (top - bottom) or 1.0
    limits = max(low, bottom - reach), min(high, top + reach)
    margin = 0.05 * (limits[1] - limits[0])
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    cut = [f"down to {low:,.4g}"] if low < limits[0] else []
    cut += [f"up to {high:,.4g}"] if high > limits[1] else []
    if cut:
        text = f"(cut: ranges {' and '.join(cut)})".replace("-", "−")
        axes.text(0.01, 0.97, text, transform=axes.transAxes, va="top", fontsize=8, color=GREY)


def _draw_noise(axes: Axes, data: pd.DataFrame, styles: Styles) -> dict[str, Any]:
    """Draw the signal to quantization noise of activations by method, and of weights; return the lines by label."""
    grid_lines(axes)
    axes.set_ylabel("SQNR (dB)")
    lines: dict[str, Any] = {}
    for name, points in data[data["kind"] == "activation"].groupby("method", sort=False):
        label = marked(str(name), bool(points["data_free"].all()))
        options = {**styles[str(name)].options(), "linewidth": 1.1, "markersize": 3.8}
        (lines[label],) = axes.plot(points["place"], points["sqnr_db"], **options, label=label, zorder=3)
    weights = data[data["kind"] == "weight"].dropna(subset=["sqnr_db"])
    if len(weights):
        mean = weights.groupby("place")["sqnr_db"].mean()
        label = "weights, mean of methods" if weights["method"].nunique() > 1 else "weights"
        look: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1.2)), "linewidth": 1.4}
        (lines[label],) = axes.plot(mean.index, mean, **look, label=label, zorder=4)
    return lines


def _short(name: str) -> str:
    """Shorten a long module path to its end, which tells layers apart."""
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
