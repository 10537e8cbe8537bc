"""Accuracy of exported models against their measured latency. `export_table` has the numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rgal.reporting.figures.curves import teacher_level
from rgal.reporting.figures.style import (
    TEACHER,
    Styles,
    grid_lines,
    legend_below,
    line_styles,
    new_figure,
    paper_style,
    percent_limits,
    title,
)
from rgal.reporting.results import ResultGroup, case_label, marked
from rgal.reporting.tables.export import export_table

BATCHES = (1, 64)  # of the measurements
WIDTH = 9.0  # inches
COLUMNS = ("batch", "case", "method", "data_free", "latency_ms", "top1")


def latency_data(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, float]]:
    """Return one row per (batch, case, method) with a measured model, and the float model's latency (ms) by batch.

    A trial times its model and the float one in turns. latency_ms is the mean float latency of all trials over the
    speed-up: hours of different load on one machine do not move methods apart. No row without both.
    """
    table, rows, floats = export_table(ResultGroup(results)).numbers, [], {}
    drawable = {"onnx_top1_percent", *(f"speedup_{batch}" for batch in BATCHES)} <= set(table.columns)
    for batch in BATCHES if len(table) and drawable else ():
        floats[batch] = table[f"float_latency_{batch}_ms"].mean()
        for row in table.itertuples():
            latency = floats[batch] / getattr(row, f"speedup_{batch}")
            row_names = (getattr(row, "case", ""), row.method, bool(row.data_free))
            rows.append((batch, *row_names, latency, row.onnx_top1_percent))
    data = pd.DataFrame(rows, columns=list(COLUMNS)).dropna(subset=["latency_ms", "top1"])
    return data, {batch: value for batch, value in floats.items() if batch in set(data["batch"])}


@paper_style()
def accuracy_versus_latency(results: pd.DataFrame, styles: Styles | None = None) -> Figure | None:
    """Draw top-1 of the exported models against their latency, a panel per batch size, of one (task, setting, budget).

    None where no exported model was timed.
    """
    data, floats = latency_data(results)
    if data.empty:
        return None
    teacher = teacher_level(results)
    figure = new_figure(WIDTH)
    panels = figure.subplots(1, len(floats), sharey=True, squeeze=False)[0]
    title(panels[0], f"{ResultGroup(results).heading}: exported models")
    panels[0].set_ylabel("Test top-1 of the exported model (%)")
    accuracies = [*data["top1"], *teacher.values()]
    panels[0].set_ylim(*percent_limits(min(accuracies), max(accuracies)))
    for axes, (batch, latency) in zip(panels, floats.items(), strict=True):
        grid_lines(axes)
        points = data[data["batch"] == batch]
        lines = _draw(axes, points, styles or line_styles(results))
        if teacher:
            (lines["float teacher"],) = axes.plot(latency, teacher[TEACHER], "X", color="black", markersize=6)
        axes.set_xlabel(f"Latency of a batch of {batch} (ms)")
        axes.set_xlim(0, 1.12 * max(latency, points["latency_ms"].max()))
    legend_below(figure, lines)
    return figure


def _draw(axes: Axes, data: pd.DataFrame, styles: Styles) -> dict[str, Line2D]:
    """Draw points alone: between two bit widths there is nothing. A case is named at its best model."""
    lines = {}
    for name, points in data.groupby("method", sort=False):
        look = {**styles[str(name)].options(), "linestyle": "none"}
        (line,) = axes.plot(points["latency_ms"], points["top1"], **look, zorder=3)
        lines[marked(str(name), bool(points["data_free"].all()))] = line
    for case, points in data.groupby("case", sort=False):
        best = points.nlargest(1, "top1").iloc[0]
        place = (best["latency_ms"], best["top1"])
        axes.annotate(case_label(str(case)), place, (4, 4), textcoords="offset points", fontsize=7)
    return lines
