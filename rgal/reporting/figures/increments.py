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
    HEIGHT,
    WIDTH,
    LineStyle,
    all_styles,
    grid_lines,
    legend_below,
    new_figure,
    paper_style,
    say_instead,
    title,
)
from rgal.reporting.results import (
    case_names,
    finished,
    heading,
    marked,
    methods,
    numbers,
    require_one_case,
    require_one_group,
    uses_real_data,
)

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
    require_one_case(results)
    curves = phases.rename(columns={"phase": "round"})
    data = mean_curves(curves, methods(results), "classes")
    return data.rename(columns={"round": "phase", "x": "classes"})[list(PHASE_COLUMNS)]


def end_data(phases: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Top-1 on old and on new classes after the last phase: one row a method, mean and spread over seeds (percent).

    A trial that did not record the last phase of the others does not count. ValueError for several cases.
    """
    require_one_case(results)
    rows = []
    if {"key", "phase"} <= set(phases.columns) and "key" in results.columns:
        mine = phases[phases["key"].isin(finished(results)["key"])]
        place = numbers(mine, "phase")
        last = mine[place == place.max()].sort_values("key").drop_duplicates("key", keep="last")
        for name, trials in methods(results).items():
            ends = last[last["key"].isin(trials["key"])]
            if len(ends):
                old, new = numbers(ends, "old_top1"), numbers(ends, "new_top1")
                spread = (old.mean(), old.std(ddof=1), new.mean(), new.std(ddof=1))
                rows.append((name, not uses_real_data(trials), *spread, len(ends)))
    return pd.DataFrame(rows, columns=list(END_COLUMNS))


def accuracy_per_phase(
    phases: pd.DataFrame, results: pd.DataFrame, styles: Mapping[str, LineStyle] | None = None
) -> Figure:
    """Top-1 on all seen classes against their number, for one (task, setting, budget, case)."""
    require_one_group(results)
    data = phase_data(phases, results)
    with paper_style():
        figure, axes = _start(results, HEIGHT)
        axes.set_xlabel("Classes seen")
        axes.set_ylabel("Test top-1 on all classes seen (%)")
        if data.empty:
            _say_nothing(axes, results)
            return figure
        grid_lines(axes)
        curves = data.rename(columns={"classes": "x"})
        lines = draw_curves(axes, curves, {**all_styles(results), **(styles or {})})
        spread = data["top1_std"].fillna(0)
        axes.set_ylim(*percent_limits((data["top1_mean"] - spread).min(), (data["top1_mean"] + spread).max()))
        axes.set_xticks(_ticks(sorted(data["classes"].unique())))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        legend_below(figure, list(lines.values()), _labels(results, list(lines)))
    return figure


def old_and_new(phases: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """Bars of every method after the last phase: top-1 on the old and on the new classes, whiskers of one std."""
    require_one_group(results)
    data = end_data(phases, results)
    with paper_style():
        figure, axes = _start(results, 1.4 + PER_METHOD * max(len(data), 3))
        axes.set_xlabel("Test top-1 after the last phase (%)")
        if data.empty:
            _say_nothing(axes, results)
            return figure
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
        bars = [_draw_bars(axes, data, part, side) for part, side in (("old", -0.5), ("new", 0.5))]
        axes.set_yticks(range(len(data)), _labels(results, list(data["method"])))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(data) - 0.4, -0.6)  # the first method on top
        axes.set_xlim(0, min(axes.get_xlim()[1], 101.0))
        legend_below(figure, bars, ["old classes (earlier phases)", "new classes (last phase)"])
    return figure


def _start(results: pd.DataFrame, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, height)
    axes = figure.add_subplot()
    title(axes, heading(results, next(iter(case_names(results)), "")))
    return figure, axes


def _say_nothing(axes: Axes, results: pd.DataFrame) -> None:
    say_instead(axes, "no phases to show" if len(finished(results)) else "no finished trials")


def _labels(results: pd.DataFrame, names: list[str]) -> list[str]:
    trials_of = methods(results)
    return [marked(name, not uses_real_data(trials_of[name])) for name in names]


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
