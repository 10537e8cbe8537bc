"""The figures of the page as data: what the script draws, with every seed behind a point. One look a method.

A chart is a mapping of plain values. views: what it can be drawn against, of which one is shown at a time. series: of
one method each, or of none (m is ""); x is a list, or one by the key of the view; v: the only view that it is in;
e: standard deviations; t: what is said of a point beside its numbers. levels: horizontal lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from rgal.reporting.figures.cases import case_data, sweep_data
from rgal.reporting.figures.curves import (
    X_LABELS,
    evaluated,
    level_data,
    mean_curves,
    teacher_level,
    time_quantity,
    worth_showing,
    y_limits,
)
from rgal.reporting.figures.diversity import QUANTITIES, histogram_data, point_data, round_data
from rgal.reporting.figures.increments import end_data, phase_data
from rgal.reporting.figures.latency import latency_data
from rgal.reporting.figures.layers import layer_data
from rgal.reporting.figures.looks import CLASS_COLOURS
from rgal.reporting.results import MethodTrials, ResultGroup, case_label, cases, file_stems, numbers
from rgal.suite.measures import Measure
from rgal.suite.store.diversity import Diversity

MOST_POINTS = 60  # of a line
MOST_MAPPED = 400  # points of a map
DIGITS = 5  # significant ones of a number
STEPS = "student_steps"
KIND_LABELS = {"same": "Same label", "different": "Different labels", "negatives": "On the teacher's logits"}
Chart = dict[str, Any]


class Frames(NamedTuple):
    """What is drawn beside the results."""

    curves: pd.DataFrame
    layers: pd.DataFrame
    phases: pd.DataFrame
    diversity: Diversity

    def of(self, group: pd.DataFrame) -> Frames:
        """Keep the rows on the trials of a group."""
        keys = group["key"]

        def own(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["key"].isin(keys)] if "key" in frame.columns else frame.iloc[:0]

        images = Diversity(*map(own, (self.diversity.rounds, self.diversity.bins, self.diversity.points)))
        return Frames(own(self.curves), own(self.layers), own(self.phases), images)


class Named(NamedTuple):
    """A chart, and the names of the figures below plots/ that show the same."""

    chart: Chart
    plots: tuple[str, ...]


def charts_of_group(results: pd.DataFrame, frames: Frames) -> Iterator[Named]:
    """Make the charts of one (task, setting, budget): those of each case, then those across the cases."""
    parts = cases(results)
    stems = file_stems([(case,) for case in parts])
    for case, rows in parts.items():
        label = case_label(case)
        for chart, *plots in _of_case(rows, frames):
            if chart is not None and chart["series"]:
                title = ", ".join(filter(None, (label, chart["title"])))
                names = (f"{stems[case,]}_{plot}" if case else plot for plot in plots)
                yield Named({**chart, "title": title}, tuple(names))
    if len(parts) > 1:
        for chart, *plots in ((_cases(results), "cases"), (_efficiency(results), "efficiency")):
            if chart["series"]:
                yield Named(chart, tuple(plots))
    latency = _latency(results)
    if latency["series"]:
        yield Named(latency, ("latency",))


def _of_case(rows: pd.DataFrame, frames: Frames) -> Iterator[tuple[Any, ...]]:
    if len(frames.phases):
        yield _phases(rows, frames.phases), "phases"
        yield _ends(rows, frames.phases), "old_new"
    else:
        yield _curves(rows, frames.curves), "time", "images"
    yield _layers(rows, frames.layers), "layers"
    for measure in ResultGroup(rows, one_case=True).in_table("plot"):
        yield _measure(rows, measure), measure.start
    histograms = histogram_data(frames.diversity, rows)
    yield _histograms(histograms, ("same", "different"), "Distances of the kept images"), "distances"
    yield _rounds(rows, frames.diversity), "distance_rounds"
    yield _histograms(histograms, ("negatives",), "Distances of negatives"), "negatives"
    for number, chart in enumerate(_maps(rows, frames.diversity)):
        yield (chart, "embedding") if not number else (chart,)


# Accuracy ------------------------------------------------------------------------------------------------------------


def _curves(rows: pd.DataFrame, curves: pd.DataFrame) -> Chart:
    group = ResultGroup(rows, one_case=True)
    measure, levels = evaluated(group, curves), level_data(rows, evaluated(group, curves))
    free = {name: row for name, row in group.methods.items() if row.data_free}
    time = time_quantity(curves, rows)
    labels = {time: X_LABELS[time], "images": X_LABELS["images"], STEPS: "Student steps"}
    drawn = {x: mean_curves(curves, free, x, measure.start) for x in labels}
    drawn = {x: data for x, data in drawn.items() if len(data) and data["x"].max() > 0}
    if not drawn:
        return _chart("", "", [], [])
    views = [{"k": x, "label": labels[x], "log": _apart(data)} for x, data in drawn.items()]
    most = max(drawn.values(), key=len)
    series = []
    for name, data in most.groupby("method", sort=False):
        kept = _thinned(data)
        xs = {x: other[other["method"] == name] for x, other in drawn.items()}
        against = {
            x: numbers_of_json(part.set_index("round")["x"].reindex(kept["round"])) for x, part in xs.items()
        }
        texts = _seeds(free[str(name)], curves, kept["round"], measure.start)
        series.append(
            {
                "m": name,
                "x": {x: values for x, values in against.items() if any(filter(None, values))},
                "y": numbers_of_json(kept["mean"]),
                "e": numbers_of_json(kept["std"]),
                "t": texts,
            }
        )
    limits = y_limits(measure, *worth_showing(most, levels))
    return _chart(
        f"{measure.heading} as training goes on",
        measure.on_axis,
        views,
        series,
        levels=_levels(levels),
        range=numbers_of_json(limits),
    )


def _seeds(row: MethodTrials, curves: pd.DataFrame, rounds: Iterable[Any], y: str) -> list[str]:
    """Say what every seed had at these rounds: "seed 0: 95.2, seed 1: 96"."""
    mine = curves[curves["key"].isin(row.keys)].drop_duplicates(["key", "round"], keep="last")
    values: dict[Any, list[tuple[int, float]]] = {}
    for round_, seed, value in zip(mine["round"], mine["seed"], numbers(mine, y), strict=True):
        if not math.isnan(value):
            values.setdefault(round_, []).append((int(seed), value))
    return [
        ", ".join(f"seed {seed}: {value:.4g}" for seed, value in sorted(values.get(at, ()))) for at in rounds
    ]


def _phases(rows: pd.DataFrame, phases: pd.DataFrame) -> Chart:
    data = phase_data(phases, rows)
    of = ResultGroup(rows, one_case=True).methods
    by_round = phases.rename(columns={"phase": "round"})
    series = [
        _line(name, part) | {"t": _seeds(of[str(name)], by_round, part["round"], "top1")}
        for name, part in data.groupby("method", sort=False)
    ]
    return _chart(
        "Top-1 as classes are added", "Test top-1 on all classes seen (%)", [_view("Classes seen")], series
    )


def _ends(rows: pd.DataFrame, phases: pd.DataFrame) -> Chart:
    series = [
        {
            "m": row.method,
            "x": ["old classes", "new classes"],
            "y": numbers_of_json([row.old_mean, row.new_mean]),
            "e": numbers_of_json([row.old_std, row.new_std]),
        }
        for row in end_data(phases, rows).itertuples()
    ]
    title = "Old and new classes after the last phase"
    return _chart(title, "Test top-1 (%)", [_view("")], series, kind="bars")


def _cases(results: pd.DataFrame) -> Chart:
    group, data = ResultGroup(results), case_data(results)
    measure = group.measures[0]
    series = [
        {
            "m": name,
            "x": [case_label(case) for case in part["case"]],
            "y": numbers_of_json(part["mean"]),
            "e": numbers_of_json(part["std"]),
            "t": [f"n = {n}" for n in part["n"]],
        }
        for name, part in data.groupby("method", sort=False)
    ]
    return _chart(
        f"{measure.heading} in every case",
        measure.on_axis,
        [_view(group.case_title, order=[case_label(case) for case in cases(results)])],
        series,
        levels=_levels(teacher_level(results, measure)),
    )


def _efficiency(results: pd.DataFrame) -> Chart:
    data, measure = sweep_data(results), ResultGroup(results).measures[0]
    series = [_line(name, part) for name, part in data.groupby("method", sort=False)]
    title = f"{measure.heading} against the number of images"
    levels = _levels(teacher_level(results, measure))
    return _chart(title, measure.on_axis, [_view(X_LABELS["images"], log=True)], series, levels=levels)


def _measure(rows: pd.DataFrame, measure: Measure) -> Chart:
    series = []
    for name, row in ResultGroup(rows, one_case=True).methods.items():
        values = row.measured(measure).dropna()
        if len(values):
            spread = numbers_of_json([values.std(ddof=1)])
            series.append(
                {"m": name, "x": [measure.heading], "y": numbers_of_json([values.mean()]), "e": spread}
            )
    return _chart(measure.heading, measure.title, [_view("")], series, kind="bars")


def _latency(results: pd.DataFrame) -> Chart:
    data, floats = latency_data(results)
    views = [_view(f"Latency of a batch of {batch} (ms)", str(batch)) for batch in floats]
    series: list[dict[str, Any]] = [
        {
            "m": name,
            "v": str(batch),
            "x": numbers_of_json(part["latency_ms"]),
            "y": numbers_of_json(part["top1"]),
            "t": [case_label(str(case)) for case in part["case"]],
        }
        for (batch, name), part in data.groupby(["batch", "method"], sort=False)
    ]
    for batch, latency in floats.items() if len(data) else ():
        for label, top1 in teacher_level(results).items():
            name = f"float {label}"
            series.append(
                {
                    "m": "",
                    "n": name,
                    "v": str(batch),
                    "x": numbers_of_json([latency]),
                    "y": numbers_of_json([top1]),
                }
            )
    title = "Exported models: accuracy against latency"
    return _chart(title, "Test top-1 of the exported model (%)", views, series, kind="points")


# Layers and images ---------------------------------------------------------------------------------------------------


def _layers(rows: pd.DataFrame, layers: pd.DataFrame) -> Chart:
    data = layer_data(layers, rows)
    data = data[data["kind"] == "activation"]
    slots = data.drop_duplicates("place").sort_values("place")
    ticks = {
        "ticks": [[int(place), str(name)] for place, name in zip(slots["place"], slots["layer"], strict=True)]
    }
    views = [
        _view("Activation quantizers in order", "sqnr", **ticks),
        _view("Activation quantizers in order", "range", **ticks),
    ]
    views[0]["name"], views[1]["name"] = "signal to noise (dB)", "range"
    series: list[dict[str, Any]] = []
    for name, part in data.groupby("method", sort=False):
        x = numbers_of_json(part["place"])
        series += [
            {"m": name, "v": view, "x": x, "y": numbers_of_json(part[column])}
            for view, column in (("sqnr", "sqnr_db"), ("range", "low"), ("range", "high"))
        ]
    if len(data) and data["seen_high"].notna().any():
        seen = data.groupby("place")[["seen_low", "seen_high"]].median()
        series += [
            {
                "m": "",
                "n": f"test images, {end}",
                "v": "range",
                "x": numbers_of_json(seen.index),
                "y": numbers_of_json(seen[f"seen_{end}"]),
            }
            for end in ("low", "high")
        ]
    return _chart("Layers: noise and ranges (first finished seed)", "", views if series else [], series)


def _histograms(data: pd.DataFrame, kinds: Sequence[str], title: str) -> Chart:
    data = data[data["kind"].isin(kinds)]
    present = [kind for kind in kinds if kind in set(data["kind"])]
    views = [_view("Distance", kind, name=KIND_LABELS[kind]) for kind in present]
    series = [
        {"m": name, "v": kind, "x": numbers_of_json(part["low"]), "y": numbers_of_json(part["density"])}
        for (name, kind), part in data.sort_values("low", kind="stable").groupby(
            ["method", "kind"], sort=False
        )
    ]
    limits = None
    if len(data):
        peaks = data.groupby(["method", "kind"])["density"].max()
        limits = [0.0, float(f"{1.05 * min(peaks.max(), 3 * peaks.median()):.3g}")]
    return _chart(title, "Density", views, series, kind="steps", range=limits)


def _rounds(rows: pd.DataFrame, diversity: Diversity) -> Chart:
    data = round_data(diversity, rows)
    views = [_view("Round", quantity, name=label) for quantity, label in QUANTITIES.items()]
    series = [
        _line(name, part) | {"v": quantity}
        for (quantity, name), part in data.groupby(["quantity", "method"], sort=False)
    ]
    return _chart("Distances in every round", "Distance of unit-length teacher features", views, series)


def _maps(rows: pd.DataFrame, diversity: Diversity) -> Iterator[Chart]:
    """Make a map for each method: kept images filled, test images outlined, colours are classes."""
    data = point_data(diversity, rows)
    classes = {
        label: place
        for place, label in enumerate(sorted(data["label"].value_counts().index[: len(CLASS_COLOURS)]))
    }
    for name, points in data.groupby("method", sort=False):
        series = [
            {
                "m": name,
                "n": what,
                "open": not synthetic,
                "x": numbers_of_json(part["x"]),
                "y": numbers_of_json(part["y"]),
                "c": [classes.get(label, -1) for label in part["label"]],
                "t": [f"class {label}" for label in part["label"]],
            }
            for synthetic, what in ((True, "kept image"), (False, "test image"))
            if len(part := _thinned(points[points["synthetic"].astype(bool) == synthetic], MOST_MAPPED // 2))
        ]
        yield _chart(f"{name}: t-SNE of teacher features", "", [_view("")], series, kind="map", only=name)


# Parts ---------------------------------------------------------------------------------------------------------------


def _chart(
    title: str, y: str, views: Sequence[Mapping[str, Any]], series: Sequence[Mapping[str, Any]], **more: Any
) -> Chart:
    return {"title": title, "y": y, "views": views, "series": series, "kind": "lines", **more}


def _view(label: str, key: str = "", **more: Any) -> dict[str, Any]:
    return {"k": key, "label": label, **more}


def _line(method: Any, data: pd.DataFrame) -> dict[str, Any]:
    kept = _thinned(data)
    return {
        "m": method,
        "x": numbers_of_json(kept["x"]),
        "y": numbers_of_json(kept["mean"]),
        "e": numbers_of_json(kept["std"]),
    }


def _levels(levels: Mapping[str, float]) -> list[list[Any]]:
    return [[label, float(f"{value:.{DIGITS}g}")] for label, value in levels.items()]


def _apart(data: pd.DataFrame) -> bool:
    """Whether the methods end so far from each other that the axis is a logarithmic one."""
    ends = data.groupby("method")["x"].last()
    return bool(ends.max() > 5 * ends.min() > 0)


def _thinned(data: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Keep so many rows, evenly, with the first and the last."""
    if len(data) <= most:
        return data
    return data.iloc[[round(place * (len(data) - 1) / (most - 1)) for place in range(most)]]


def numbers_of_json(values: Iterable[Any]) -> list[float | None]:
    """Round for JSON, which has no NaN; whole numbers stay whole."""
    rounded = (None if pd.isna(v) or math.isinf(v) else float(f"{v:.{DIGITS}g}") for v in values)
    return [int(v) if v is not None and v == int(v) else v for v in rounded]
