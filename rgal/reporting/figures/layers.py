"""Where quantization loses: the range that each method's calibration chose for every activation, and the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    LineStyle,
    all_styles,
    grid_lines,
    legend_below,
    new_figure,
    paper_style,
    title,
)
from rgal.reporting.results import ResultGroup, marked, numbers

NEEDED = {"key", "index", "layer", "kind"}
NUMBERS = ("index", "low", "high", "seen_low", "seen_high", "sqnr_db")
WIDEST, PER_LAYER = 12.0, 0.36  # inches
SLOT = 0.84  # of a layer's width is filled
BAND = "#D9D9D9"
LONGEST = 26  # letters of a layer's name
LETTER = 0.058  # inches of one


def layer_data(layers: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The quantizers of the first finished seed of each method that has any: rows of `layers`, in order.

    Columns key, index, layer, kind, low, high, seen_low, seen_high (all in units of the activation), sqnr_db,
    method, data_free and place, of an activation its number from 0, of a weight its position between them.
    Results of one case, else ValueError.
    """
    group, found = ResultGroup(results, one_case=True), []
    if set(layers.columns) >= NEEDED and "key" in results.columns:
        values = layers.assign(**{name: numbers(layers, name) for name in NUMBERS})
        values = values.replace([math.inf, -math.inf], math.nan).dropna(subset=["index"])
        values = values.sort_values(["kind", "index", "layer"], kind="stable")
        for row in group.methods.values():
            present = [key for key in row.finished["key"] if (values["key"] == key).any()]
            if present:
                mine = values[values["key"] == present[0]]
                found.append(mine.assign(method=row.method, data_free=row.data_free))
    columns = ["key", "layer", "kind", *NUMBERS, "method", "data_free"]
    data = pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
    return _with_places(data)


def layer_figure(
    layers: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure | None:
    """Ranges above, signal to quantization noise below, for one (task, setting, budget, case).

    None where no finished trial has an activation quantizer in `layers`.
    """
    data = layer_data(layers, results)
    activations = data[data["kind"] == "activation"]
    if activations.empty:
        return None
    slots = activations.drop_duplicates("place").sort_values("place")
    names = [_short(str(name)) for name in slots["layer"]]
    looks = {**all_styles(results), **(styles or {})}
    with paper_style():
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
        band = Patch(color=BAND, label="range on test images")
        handles = [*handles, band] if activations["seen_high"].notna().any() else handles
        legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def _with_places(data: pd.DataFrame) -> pd.DataFrame:
    """`place`: activations are numbered by (index, layer). Weights lie between them by index; where both kinds are
    numbered from 0, weights are spread over the axis instead.
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
    """Positions of weight indices on the axis of the n activations, 0 to n - 1; half a step outside its ends."""
    last = len(activations) - 1
    if set(weights) & set(activations):
        span = max(weights.max() - weights.min(), 1.0)
        return np.asarray((weights - weights.min()) / span * last, dtype=float)
    known = np.array([activations[0] - 1, *activations, activations[-1] + 1])
    return np.interp(weights, known, np.array([-0.5, *range(last + 1), last + 0.5]))


def _draw_ranges(axes: Axes, data: pd.DataFrame, styles: Mapping[str, LineStyle], slot_points: float) -> None:
    """Thin bars beside each other in every layer's slot, on the band of what test images give."""
    grid_lines(axes)
    axes.set_ylabel("Activation range")
    seen = data.groupby("place")[["seen_low", "seen_high"]].median().dropna()  # students differ a little
    axes.bar(seen.index, seen["seen_high"] - seen["seen_low"], 0.92, seen["seen_low"], color=BAND, zorder=1)
    present = list(data["method"].unique())
    step = SLOT / len(present)
    for number, name in enumerate(present):
        chosen = data[data["method"] == name].dropna(subset=["low", "high"])
        x = chosen["place"] + (number - (len(present) - 1) / 2) * step
        look = styles[name]
        thick = min(max(0.55 * step * slot_points, 0.8), 3.0)
        axes.vlines(x, chosen["low"], chosen["high"], color=look.colour, linewidth=thick, zorder=2)
        options = {**look.options(), "markersize": 3.0, "markeredgewidth": 0.3 if look.filled else 0.7}
        axes.plot(x, chosen["high"], **{**options, "linestyle": "none"}, zorder=3)
    _limit(axes, data, seen)


def _limit(axes: Axes, data: pd.DataFrame, seen: pd.DataFrame) -> None:
    """Room for the ranges on test images and for chosen ones up to thrice as wide; wider ones are cut and told."""
    low, high = data[["low", "seen_low"]].min().min(), data[["high", "seen_high"]].max().max()
    if seen.empty or math.isnan(low) or math.isnan(high):
        return
    bottom, top = seen["seen_low"].min(), seen["seen_high"].max()
    reach = 2 * (top - bottom) or 1.0
    limits = max(low, bottom - reach), min(high, top + reach)
    margin = 0.05 * (limits[1] - limits[0])
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    cut = [f"down to {low:,.4g}"] if low < limits[0] else []
    cut += [f"up to {high:,.4g}"] if high > limits[1] else []
    if cut:
        text = f"(cut: ranges {' and '.join(cut)})".replace("-", "−")
        axes.text(0.01, 0.97, text, transform=axes.transAxes, va="top", fontsize=8, color=GREY)


def _draw_noise(axes: Axes, data: pd.DataFrame, styles: Mapping[str, LineStyle]) -> list[Any]:
    grid_lines(axes)
    axes.set_ylabel("SQNR (dB)")
    handles: list[Any] = []
    for name, rows in data.groupby("method", sort=False):
        points = rows[rows["kind"] == "activation"]
        if points.empty:
            continue
        label = marked(str(name), bool(rows["data_free"].all()))
        options = {**styles[str(name)].options(), "linewidth": 1.1, "markersize": 3.8}
        handles += axes.plot(points["place"], points["sqnr_db"], **options, label=label, zorder=3)
    weights = data[data["kind"] == "weight"].dropna(subset=["sqnr_db"])
    if len(weights):
        mean = weights.groupby("place")["sqnr_db"].mean()
        label = "weights, mean of methods" if weights["method"].nunique() > 1 else "weights"
        handles += axes.plot(
            mean.index, mean, color="black", linestyle=(0, (1, 1.2)), linewidth=1.4, label=label, zorder=4
        )
    return handles


def _short(name: str) -> str:
    """A long module path keeps its end, which tells layers apart."""
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
