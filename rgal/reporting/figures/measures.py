"""A measure of every method, for the measures that a task declares for a plot."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from rgal.reporting.figures.style import paper_style, titled_axes
from rgal.reporting.results import ResultGroup
from rgal.suite.measures import Measure

PER_METHOD = 0.3  # inches


def measure_figures(results: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each measure that is declared for a plot and known, of one (task, setting, budget, case)."""
    group = ResultGroup(results, one_case=True)
    for measure in group.in_table("plot"):
        if any(row.measured(measure).notna().any() for row in group.methods.values()):
            yield measure.start, _figure(group, measure)


def _figure(group: ResultGroup, measure: Measure) -> Figure:
    """Mean and sample standard deviation, methods from top to bottom in the order of the tables."""
    values = {name: row.measured(measure) for name, row in group.methods.items()}
    with paper_style():
        height = 1.4 + PER_METHOD * max(len(values), 3)
        figure, axes = titled_axes(group.heading, measure.title, height=height)
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
        axes.errorbar(
            [part.mean() for part in values.values()], range(len(values)),
            xerr=[part.std(ddof=1) for part in values.values()], fmt="o", color="black", markersize=4, capsize=2,
        )  # fmt: skip
        axes.set_yticks(range(len(values)), [group.label(name) for name in values])
        axes.set_ylim(len(values) - 0.4, -0.6)  # the first method on top
    return figure
