"""The primary measure and the distances of the kept images against a number that methods are given in brackets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from rgal.methods.names import host_of, variants
from rgal.reporting.figures.diversity import QUANTITIES
from rgal.reporting.figures.looks import DASHES, GREY, look_of
from rgal.reporting.figures.style import (
    HEIGHT,
    WIDTH,
    draw_lines,
    grid_lines,
    legend_below,
    new_figure,
    paper_style,
)
from rgal.reporting.results import ResultGroup
from rgal.reporting.tables.diversity import DIFFERENT, SAME
from rgal.suite.measures import Measure

LEAST_VALUES = 3  # of a parameter, for a line
DECADE = 10.0  # values this far apart, or farther, stand on a logarithmic axis
PARAMETER_COLUMNS = ("method", "measure", "x", "mean", "std", "n")


def parameter_data(results: pd.DataFrame, parameter: str) -> pd.DataFrame:
    """Average what is drawn against a parameter, of methods that differ in its value alone.

    Args:
        results: of one (task, setting, budget, case).
        parameter: its name, such as "spread".

    Returns:
        One row per (method, measure, value): method is the name without the parameter, x the value; mean, std (sample;
        NaN for one trial) and n of the finished trials that know the measure. Values ascend.
    """
    group = ResultGroup(results, one_case=True)
    rows = []
    for name, values in _families(group).get(parameter, {}).items():
        for measure in _measures(group):
            for x, member in sorted(values.items()):
                numbers = group.methods[member].measured(measure).dropna()
                if len(numbers):
                    rows.append((name, measure.start, x, numbers.mean(), numbers.std(ddof=1), len(numbers)))
    return pd.DataFrame(rows, columns=list(PARAMETER_COLUMNS))


def parameter_figures(results: pd.DataFrame) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Yield name and drawing for each parameter of which some method was run at three values: parameter_NAME."""
    group = ResultGroup(results, one_case=True)
    for parameter in _families(group):
        yield f"parameter_{parameter}", partial(_figure, group, parameter)


def _families(group: ResultGroup) -> dict[str, dict[str, dict[float, str]]]:
    """Map parameter -> name without it -> value -> method, of data-free methods with enough finished values."""
    done = [name for name, row in group.methods.items() if row.data_free and len(row.finished)]
    families = {
        parameter: {name: values for name, values in named.items() if len(values) >= LEAST_VALUES}
        for parameter, named in variants(done).items()
    }
    return {parameter: named for parameter, named in families.items() if named}


@paper_style()
def _figure(group: ResultGroup, parameter: str) -> Figure | None:
    """Draw a panel for each measure that is known: a line for each method, its host and its default as levels."""
    data = parameter_data(group.results, parameter)
    measures = [measure for measure in _measures(group) if measure.start in set(data["measure"])]
    if not measures:
        return None
    names = list(data["method"].unique())
    looks = {name: look_of(name) for name in names}
    levels = _levels(group, names)
    figure = new_figure(WIDTH * (0.5 + len(measures) / 4), HEIGHT * 0.8)
    legend: dict[str, Line2D] = {}
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False).flat, measures, strict=True):
        grid_lines(axes)
        axes.set(xlabel=parameter, ylabel=QUANTITIES.get(measure.start, measure.on_axis))
        _scale_x(axes, sorted(data["x"].unique()))
        legend |= draw_lines(axes, data[data["measure"] == measure.start], looks)
        for (label, method), dashes in zip(levels.items(), DASHES[1:], strict=False):
            level = group.methods[method].measured(measure).mean()
            if level == level:
                legend[label] = axes.axhline(level, color=GREY, linewidth=1.0, linestyle=dashes, zorder=2)
    figure.suptitle(f"{group.heading}: what {parameter} changes", fontsize=9, x=0.01, ha="left")
    legend_below(figure, legend)
    return figure


def _levels(group: ResultGroup, names: Sequence[str]) -> dict[str, str]:
    """Map the labels of levels to methods: the hosts, and each method at the default, whose value no name says."""
    hosts = filter(None, (host_of(name, group.methods) for name in names))
    defaults = {f"{name}, its default": name for name in names if name in group.methods}
    return {host: host for host in hosts} | defaults


def _measures(group: ResultGroup) -> tuple[Measure, ...]:
    """Return what is drawn where it is known."""
    return (group.measures[0], SAME, DIFFERENT)


def _scale_x(axes: Axes, values: Sequence[float]) -> None:
    """Make values that are decades apart as far from each other as their logarithms; 0 has a place of its own."""
    positive = [value for value in values if value > 0]
    if min(values) >= 0 and max(positive) >= DECADE * min(positive):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
        axes.set_xlim(-0.2 * min(positive) if min(values) == 0 else min(positive) / 1.3, 1.3 * max(positive))
    axes.set_xticks(values, [f"{value:g}" for value in values], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
