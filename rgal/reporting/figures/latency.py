"""Accuracy of exported models against their measured latency. `export_table` has the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rgal.reporting.figures.curves import percent_limits, teacher_level
from rgal.reporting.figures.style import (
    LineStyle,
    all_styles,
    grid_lines,
    legend_below,
    new_figure,
    paper_style,
    title,
)
from rgal.reporting.results import ResultGroup, case_label, marked
from rgal.reporting.tables.export import export_table

BATCHES = (1, 64)  # of the measurements
WIDTH = 9.0  # inches
COLUMNS = ("batch", "case", "method", "data_free", "latency_ms", "top1")


def latency_data(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, float]]:
    """One row a (batch, case, method) with a measured model, and the float model's latency (ms) at each batch.

    A trial times its model and the float one in turns. latency_ms is the mean float latency of all trials over the
    speed-up: hours of different load on one machine do not move methods apart.
    """
    table, rows, floats = export_table(ResultGroup(results)).numbers, [], {}
    for batch in BATCHES if len(table) else ():
        floats[batch] = table[f"float_latency_{batch}_ms"].mean()
        for row in table.itertuples():
            latency = floats[batch] / getattr(row, f"speedup_{batch}")
            rows.append(
                (
                    batch,
                    getattr(row, "case", ""),
                    row.method,
                    bool(row.data_free),
                    latency,
                    row.onnx_top1_percent,
                )
            )
    data = pd.DataFrame(rows, columns=list(COLUMNS)).dropna(subset=["latency_ms", "top1"])
    return data, {batch: value for batch, value in floats.items() if batch in set(data["batch"])}


def accuracy_versus_latency(
    results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure | None:
    """Top-1 of the exported models against their latency, a panel a batch size, of one (task, setting, budget).

    None where no exported model was timed.
    """
    data, floats = latency_data(results)
    if data.empty:
        return None
    teacher = teacher_level(results)["top1"].mean()  # NaN where unknown
    with paper_style():
        figure = new_figure(WIDTH)
        panels = figure.subplots(1, len(floats), sharey=True, squeeze=False)[0]
        title(panels[0], f"{ResultGroup(results).heading}: exported models")
        panels[0].set_ylabel("Test top-1 of the exported model (%)")
        known = pd.Series([*data["top1"], teacher])
        panels[0].set_ylim(*percent_limits(known.min(), known.max()))
        looks = {**all_styles(results), **(styles or {})}
        for axes, (batch, latency) in zip(panels, floats.items(), strict=True):
            grid_lines(axes)
            lines = _draw(axes, data[data["batch"] == batch], looks)
            if not math.isnan(teacher):
                (lines["float teacher"],) = axes.plot(latency, teacher, "X", color="black", markersize=6)
            axes.set_xlabel(f"Latency of a batch of {batch} (ms)")
            axes.set_xlim(0, 1.12 * max(latency, data.loc[data["batch"] == batch, "latency_ms"].max()))
        legend_below(figure, list(lines.values()), list(lines))
    return figure


def _draw(axes: Axes, data: pd.DataFrame, styles: Mapping[str, LineStyle]) -> dict[str, Line2D]:
    """Points alone: between two bit widths there is nothing. A case is named at its best model."""
    lines = {}
    for name, points in data.groupby("method", sort=False):
        look = {**styles[str(name)].options(), "linestyle": "none"}
        (line,) = axes.plot(points["latency_ms"], points["top1"], **look, zorder=3)
        lines[marked(str(name), bool(points["data_free"].all()))] = line
    for case, points in data.groupby("case", sort=False):
        best = points.nlargest(1, "top1").iloc[0]
        axes.annotate(
            case_label(str(case)), (best["latency_ms"], best["top1"]), (4, 4), textcoords="offset points", fontsize=7,
        )  # fmt: skip
    return lines
