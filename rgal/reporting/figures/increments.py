"""Class-incremental learning: accuracy as classes are added, and how old and new classes end.

Both read one row a (trial, phase), as `rgal.suite.store.frames.load_phases` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rgal.reporting.figures.curve_plots import draw_curves
from rgal.reporting.figures.curves import mean_curves, percent_limits
from rgal.reporting.figures.style import (
    LineStyle,
    all_styles,
    grid_lines,
    legend_below,
    paper_style,
    say_instead,
    titled_axes,
)
from rgal.reporting.results import ResultGroup, numbers

PHASE_COLUMNS = ("method", "phase", "classes", "top1_mean", "top1_std", "n")
END_COLUMNS = ("method", "data_free", "old_mean", "old_std", "new_mean", "new_std", "n")
# Part of the classes -> colour and hatch: apart for colour-blind readers, and in print without colour.
PARTS = {"old": ("#56B4E9", ""), "new": ("#D55E00", "////")}
BAR = 0.38  # of a method's room of 1
PER_METHOD = 0.42  # inches
MOST_TICKS = 11


def phase_data(phases: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Top-1 on all classes seen so far of each method, references on real data too: mean and spread over seeds.

    One row a (method, phase) that all its finished trials with phases have: classes seen, top1_mean and top1_std
    (percent; sample, NaN for one trial), n (trials). ValueError for several cases.
    """
    curves = phases.rename(columns={"phase": "round"})
    data = mean_curves(curves, ResultGroup(results, one_case=True).methods, "classes")
    return data.rename(columns={"round": "phase", "x": "classes"})[list(PHASE_COLUMNS)]


def end_data(phases: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Top-1 on old and on new classes after the last phase: one row a method, mean and spread over seeds (percent).

    A trial that did not record the last phase of the others does not count. ValueError for several cases.
    """
    group, rows = ResultGroup(results, one_case=True), []
    if {"key", "phase"} <= set(phases.columns) and "key" in results.columns:
        mine = phases[phases["key"].isin(group.finished["key"])]
        place = numbers(mine, "phase")
        last = mine[place == place.max()].sort_values("key").drop_duplicates("key", keep="last")
        for row in group.methods.values():
            ends = last[last["key"].isin(row.trials["key"])]
            if len(ends):
                old, new = numbers(ends, "old_top1"), numbers(ends, "new_top1")
                spread = (old.mean(), old.std(ddof=1), new.mean(), new.std(ddof=1))
                rows.append((row.method, row.data_free, *spread, len(ends)))
    return pd.DataFrame(rows, columns=list(END_COLUMNS))


def accuracy_per_phase(
    phases: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 on all seen classes against their number, for one (task, setting, budget, case)."""
    group, data = ResultGroup(results, one_case=True), phase_data(phases, results)
    with paper_style():
        figure, axes = titled_axes(group.heading, "Classes seen", "Test top-1 on all classes seen (%)")
        if data.empty:
            _say_nothing(axes, group)
            return figure
        grid_lines(axes)
        curves = data.rename(columns={"classes": "x"})
        lines = draw_curves(axes, curves, {**all_styles(results), **(styles or {})})
        spread = data["top1_std"].fillna(0)
        axes.set_ylim(*percent_limits((data["top1_mean"] - spread).min(), (data["top1_mean"] + spread).max()))
        axes.set_xticks(_ticks(sorted(data["classes"].unique())))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        legend_below(figure, list(lines.values()), [group.label(name) for name in lines])
    return figure


def old_and_new(phases: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """Bars of every method after the last phase: top-1 on the old and on the new classes, whiskers of one std."""
    group, data = ResultGroup(results, one_case=True), end_data(phases, results)
    with paper_style():
        height = 1.4 + PER_METHOD * max(len(data), 3)
        figure, axes = titled_axes(group.heading, "Test top-1 after the last phase (%)", height=height)
        if data.empty:
            _say_nothing(axes, group)
            return figure
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
        bars = [_draw_bars(axes, data, part, side) for part, side in (("old", -0.5), ("new", 0.5))]
        axes.set_yticks(range(len(data)), [group.label(name) for name in data["method"]])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(data) - 0.4, -0.6)  # the first method on top
        axes.set_xlim(0, min(axes.get_xlim()[1], 101.0))
        legend_below(figure, bars, ["old classes (earlier phases)", "new classes (last phase)"])
    return figure


def _say_nothing(axes: Axes, group: ResultGroup) -> None:
    say_instead(axes, "no phases to show" if len(group.finished) else "no finished trials")


def _ticks(values: list[float]) -> list[float]:
    """The last of these ascending values, and of the others so many that all have room."""
    every = -(-len(values) // MOST_TICKS)
    return values[::-1][::every][::-1]


def _draw_bars(axes: Axes, data: pd.DataFrame, part: str, side: float) -> Any:
    """One bar a method; whiskers only where a spread is known."""
    colour, hatch = PARTS[part]
    places = np.arange(len(data)) + side * BAR
    bars = axes.barh(
        places,
        data[f"{part}_mean"],
        BAR,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        linewidth=0.5,
        zorder=2,
    )
    axes.errorbar(
        data[f"{part}_mean"], places, xerr=data[f"{part}_std"], fmt="none", ecolor="black", elinewidth=0.8,
        capsize=2, zorder=3,
    )  # fmt: skip
    return bars
