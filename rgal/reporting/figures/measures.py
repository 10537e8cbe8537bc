"""A measure of every method, for the measures that a task declares for a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from rgal.reporting.figures.style import method_axes, paper_style
from rgal.reporting.results import ResultGroup
from rgal.suite.measures import Measure

PER_METHOD = 0.3  # inches


def measure_figures(results: pd.DataFrame) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield name and drawing of each known measure that is declared for a plot, of one group and case."""
    group = ResultGroup(results, one_case=True)
    for measure in group.in_table("plot"):
        if any(row.measured(measure).notna().any() for row in group.methods.values()):
            yield measure.start, partial(_figure, group, measure)


@paper_style()
def _figure(group: ResultGroup, measure: Measure) -> Figure:
    """Draw mean and sample standard deviation, methods from top to bottom in the order of the tables."""
    values = [row.measured(measure) for row in group.methods.values()]
    figure, axes = method_axes(group, list(group.methods), measure.title, PER_METHOD)
    axes.errorbar(
        [part.mean() for part in values], range(len(values)), xerr=[part.std(ddof=1) for part in values],
        fmt="o", color="black", markersize=4, capsize=2,
    )  # fmt: skip
    return figure
