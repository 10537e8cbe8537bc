"""The numbers behind the plots: mean curves, horizontal levels and the range worth showing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import pandas as pd

from rgal.reporting.results import MethodTrials, ResultGroup, cases, finished, marked, methods, numbers

Quantity = Literal["seconds", "images"]
CURVE_COLUMNS = ("method", "round", "x", "top1_mean", "top1_std", "n")
LEVEL_COLUMNS = ("label", "top1", "kind")
CASE_COLUMNS = ("case", "place", "method", "data_free", "top1_mean", "top1_std", "n", "images")


def curve_data(curves: pd.DataFrame, results: pd.DataFrame, x: Quantity = "seconds") -> pd.DataFrame:
    """Accuracy of each data-free method at the rounds that all its finished trials have: mean and spread.

    One row a (method, round): mean x, top1_mean, top1_std (sample; NaN for one trial), n (trials).
    A method whose x never leaves zero has no place on that axis and is left out. ValueError for several cases.
    """
    rows = ResultGroup(results, one_case=True).methods
    data_free = {name: row for name, row in rows.items() if row.data_free}
    data = mean_curves(curves, data_free, x)
    return data[data.groupby("method")["x"].transform("max") > 0].reset_index(drop=True)


def mean_curves(curves: pd.DataFrame, rows: Mapping[str, MethodTrials], x: str) -> pd.DataFrame:
    """Top-1 of each method's trials at the rounds that all its finished trials with a curve have.

    One row a (method, round), as in `curve_data`. Without the columns key, round, x and top1 there is no row.
    """
    if not {"key", "round", x, "top1"} <= set(curves.columns):
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    points = curves.assign(x=numbers(curves, x), top1=numbers(curves, "top1")).dropna(subset=["x", "top1"])
    # a trial that was resumed may have evaluated a round twice: the later one counts
    points = points.sort_values(["key", "round", "x", "top1"]).drop_duplicates(["key", "round"], keep="last")
    done = {name: row.finished for name, row in rows.items()}
    method_of = {
        key: name for name, trials in done.items() if "key" in trials.columns for key in trials["key"]
    }
    points = points[points["key"].isin(list(method_of))]
    points = points.assign(method=[method_of[key] for key in points["key"]])
    by_round = points.groupby(["method", "round"])
    columns = {"x": by_round["x"].mean(), "top1_mean": by_round["top1"].mean(), "n": by_round["top1"].size()}
    data = pd.DataFrame({**columns, "top1_std": by_round["top1"].std()}).reset_index()
    trials = points.groupby("method")["key"].nunique()
    data = data[data["n"] == data["method"].map(trials)]
    return _by_method(data, rows).reset_index(drop=True)[list(CURVE_COLUMNS)]


def _by_method(data: pd.DataFrame, order: Iterable[str]) -> pd.DataFrame:
    """The rows, method by method in this order; those of one method stay as they are."""
    place = {name: number for number, name in enumerate(order)}
    return data.sort_values("method", key=lambda names: names.map(place), kind="stable")


def case_data(results: pd.DataFrame) -> pd.DataFrame:
    """Final accuracy of each method in each case: one row a (case, method) with a finished trial.

    place: the case's place in the suite, from 0; top1_mean, top1_std (sample; NaN for one trial), n (trials);
    images: the mean number of synthesised ones (NaN where unknown).
    """
    rows = []
    place = {case: number for number, case in enumerate(cases(results))}
    for row in ResultGroup(results, same=()).rows.values():
        last = row.numbers("last")
        if len(last):
            spread = (last.mean(), last.std(ddof=1), len(last))
            images = row.numbers("images").mean()
            rows.append((row.case, place[row.case], row.method, row.data_free, *spread, images))
    return pd.DataFrame(rows, columns=list(CASE_COLUMNS))


def sweep_data(results: pd.DataFrame) -> pd.DataFrame:
    """Final accuracy of each data-free method against its number of images, where the cases differ in that.

    The rows of `case_data` whose method has several numbers of images, as x: methods in their order, x ascending.
    """
    data = case_data(results)
    data = data[data["data_free"].astype(bool) & data["images"].notna()].rename(columns={"images": "x"})
    numbers_of_images = data.groupby("method")["x"].transform("nunique")
    return _by_method(data[numbers_of_images > 1].sort_values("x", kind="stable"), methods(results))


def teacher_level(results: pd.DataFrame) -> pd.DataFrame:
    """The teacher's horizontal line, in every case the same; no row where it is unknown."""
    teacher = numbers(finished(results), "teacher_top1").sort_values().mean()
    rows = [] if math.isnan(teacher) else [("teacher", teacher, "teacher")]
    return pd.DataFrame(rows, columns=list(LEVEL_COLUMNS))


def level_data(results: pd.DataFrame) -> pd.DataFrame:
    """Horizontal lines: the teacher, and the final mean of each reference that trains on real data.

    ValueError for several cases, in which a reference has several levels.
    """
    rows = [tuple(row) for row in teacher_level(results).itertuples(index=False)]
    for row in ResultGroup(results, one_case=True).methods.values():
        if not row.data_free and len(row.finished):
            rows.append((marked(row.method, False), row.numbers("last").mean(), "reference"))
    return pd.DataFrame(rows, columns=list(LEVEL_COLUMNS))


def y_range(data: pd.DataFrame, levels: pd.DataFrame) -> tuple[float, float]:
    """The part of the axis that matters: every method's end and every level, not the climb from chance.

    The lower end is the lowest end of a curve or, if that is lower, the 20th percentile of all points, so
    that some of the climb stays; when that cuts off less than a quarter of the span, everything is shown.
    """
    spread = data["top1_std"].fillna(0)
    ends = data.groupby("method")["top1_mean"].last()
    top = max([*(data["top1_mean"] + spread), *levels["top1"]])
    bottom = min([*(data["top1_mean"] - spread), *levels["top1"]])
    low = min([ends.min(), data["top1_mean"].quantile(0.2), *levels["top1"]])
    if low - bottom < 0.25 * (top - bottom):
        low = bottom
    return percent_limits(low, top)


def percent_limits(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of percentages between these: a margin of 5 %, but hardly below 0 or above 100."""
    margin = 0.05 * (high - low) or 1.0
    return max(low - margin, -1.0), min(high + margin, 101.0)
