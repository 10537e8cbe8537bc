"""Class-incremental learning: accuracy as classes are added, and how old and new classes end.

Both read one row per (trial, phase), as `rgal.suite.store.frames.load_phases` makes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rgal.reporting.figures.curves import mean_curves
from rgal.reporting.figures.style import (
    Styles,
    draw_lines,
    ends_of,
    grid_lines,
    legend_below,
    line_styles,
    method_axes,
    paper_style,
    percent_limits,
    thousands,
    titled_axes,
)
from rgal.reporting.results import ResultGroup, numbers, recorded

END_COLUMNS = ("method", "old_mean", "old_std", "new_mean", "new_std", "n")
# Part of the classes -> colour, hatch and side: apart for colour-blind readers, and in print without colour.
PARTS = {"old": ("#56B4E9", "", -0.5), "new": ("#D55E00", "////", 0.5)}
BAR = 0.38  # of a method's room of 1
PER_METHOD = 0.42  # inches
MOST_TICKS = 11


def phase_data(phases: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Average top-1 on all classes seen so far of each method, references on real data too.

    Returns:
        One row per (method, phase) that all its finished trials with phases have: round (the phase), x (classes
        seen), mean and std (percent; sample, NaN for one trial), n (trials).

    Raises:
        ValueError: the results are of several cases.
    """
    curves = phases.rename(columns={"phase": "round"})
    return mean_curves(curves, ResultGroup(results, one_case=True).methods, "classes", "top1")


def end_data(phases: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Average top-1 on old and on new classes after the last phase: one row per method, in percent.

    A trial that did not record the last phase of the others does not count. ValueError for several cases.
    """
    rows = ResultGroup(results, one_case=True).methods
    mine = recorded(phases, rows)
    last = max((numbers(part, "phase").max() for part in mine.values() if len(part)), default=0)
    ends = []
    for name, part in mine.items():
        part = part[numbers(part, "phase") == last].drop_duplicates("key", keep="last") if len(part) else part
        if len(part):
            old, new = numbers(part, "old_top1"), numbers(part, "new_top1")
            ends.append((name, old.mean(), old.std(ddof=1), new.mean(), new.std(ddof=1), len(part)))
    return pd.DataFrame(ends, columns=list(END_COLUMNS))


@paper_style()
def accuracy_per_phase(
    phases: pd.DataFrame, results: pd.DataFrame, styles: Styles | None = None
) -> Figure | None:
    """Draw top-1 on all seen classes against their number, for one (task, setting, budget, case).

    None where no finished trial recorded its phases.
    """
    group, data = ResultGroup(results, one_case=True), phase_data(phases, results)
    if data.empty:
        return None
    figure, axes = titled_axes(group.heading, "Classes seen", "Test top-1 on all classes seen (%)")
    grid_lines(axes)
    lines = draw_lines(axes, data, styles or line_styles(results))
    axes.set_ylim(*percent_limits(*ends_of(data)))
    classes = sorted(data["x"].unique())
    every = -(-len(classes) // MOST_TICKS)  # so many that all have room, with the last
    axes.set_xticks(classes[::-1][::every][::-1])
    axes.xaxis.set_major_formatter(thousands)
    legend_below(figure, lines, [group.label(name) for name in lines])
    return figure


@paper_style()
def old_and_new(phases: pd.DataFrame, results: pd.DataFrame) -> Figure | None:
    """Draw bars of every method after the last phase: old and new classes, with whiskers of one std.

    None where no finished trial recorded its phases.
    """
    group, data = ResultGroup(results, one_case=True), end_data(phases, results)
    if data.empty:
        return None
    figure, axes = method_axes(group, list(data["method"]), "Test top-1 after the last phase (%)", PER_METHOD)
    bars = [_draw_bars(axes, data, part) for part in PARTS]
    axes.set_xlim(0, min(axes.get_xlim()[1], 101.0))
    legend_below(figure, bars, ["old classes (earlier phases)", "new classes (last phase)"])
    return figure


def _draw_bars(axes: Axes, data: pd.DataFrame, part: str) -> Any:
    """Draw one bar per method; whiskers only where a spread is known."""
    colour, hatch, side = PARTS[part]
    mean, places = data[f"{part}_mean"], np.arange(len(data)) + side * BAR
    look: dict[str, Any] = {
        "color": colour,
        "hatch": hatch,
        "edgecolor": "white",
        "linewidth": 0.5,
        "zorder": 2,
    }
    bars = axes.barh(places, mean, BAR, **look)
    whiskers: dict[str, Any] = {"ecolor": "black", "elinewidth": 0.8, "capsize": 2, "zorder": 3}
    axes.errorbar(mean, places, xerr=data[f"{part}_std"], fmt="none", **whiskers)
    return bars
