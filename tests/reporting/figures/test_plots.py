"""What the plots draw, against hand-computed curves."""

from __future__ import annotations

import math

import matplotlib
import pandas as pd
import pytest

from rgal.reporting.figures import curves as curve_module
from rgal.reporting.figures import style
from rgal.reporting.figures.curves import accuracy_curves, curve_data
from rgal.reporting.figures.style import figure_bytes


def test_curves_are_means_over_seeds_at_common_rounds(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    data = curve_data(curves, results, "seconds")
    cmi = data[data["method"] == "cmi"]
    assert list(cmi["round"]) == [1, 2, 4]  # one seed lacks the third
    assert list(cmi["x"]) == [11.0, 21.0, 41.0]  # 10 r + mean of seeds 0, 1, 2
    assert list(cmi["mean"]) == [89.0, 90.0, 92.0]
    assert list(cmi["std"]) == [2.0, 2.0, 2.0]
    assert list(cmi["n"]) == [3, 3, 3]
    assert list(data["method"].unique()) == [
        "deepinversion",
        "cmi",
        "cmi+rgal",
    ]  # no reference, nothing failed
    assert data[data["method"] == "cmi+rgal"]["std"].isna().all()
    images = curve_data(curves, results, "images")
    assert list(images[images["method"] == "cmi"]["x"]) == [100, 200, 400]


def test_unfinished_trials_and_repeated_rounds_stay_out_of_curves(
    results: pd.DataFrame, curves: pd.DataFrame
) -> None:
    extra = pd.DataFrame(
        [
            {"key": "deepinversion-1", "round": 1, "seconds": 1.0, "images": 1, "top1": 0.0},
            {"key": "cmi+rgal-0", "round": 1, "seconds": 99.0, "images": 100, "top1": 33.0},
        ]
    )
    data = curve_data(pd.concat([curves, extra]), results)
    assert list(data[data["method"] == "deepinversion"]["n"]) == [1, 1, 1, 1]
    again = data[(data["method"] == "cmi+rgal") & (data["round"] == 1)]
    assert list(again["mean"]) == [33.0]  # the later evaluation of a resumed trial


def test_a_method_without_images_is_named_and_not_drawn(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    curves.loc[curves["key"] == "cmi+rgal-0", "images"] = 0
    assert "cmi+rgal" not in set(curve_data(curves, results, "images")["method"])
    assert "cmi+rgal" in set(curve_data(curves, results, "seconds")["method"])
    axes = accuracy_curves(curves, results, "images").axes[0]
    assert axes.get_xlabel() == "Synthesised images\n(not shown: cmi+rgal)"


def test_levels_are_the_teacher_and_the_references(results: pd.DataFrame) -> None:
    assert curve_module.level_data(results) == {"teacher": 95.0, "scratch †": 91.5}


def test_the_figure_draws_what_the_data_say(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    figure = accuracy_curves(curves, results)
    axes = figure.axes[0]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["deepinversion", "cmi", "cmi+rgal"]
    assert axes.get_xlabel() == "Synthesis and student time (s)" and axes.get_ylabel() == "Test top-1 (%)"
    assert [text.get_text() for text in axes.texts] == ["scratch † 91.50", "teacher 95.00"]
    low, high = axes.get_ylim()
    assert low < 80 and high > 95  # the end of every curve, and the teacher
    looks = {(line.get_color(), line.get_marker()) for line in axes.get_lines()[:3]}
    assert len(looks) == 3


def test_the_axis_of_time_is_the_processors_where_every_curve_knows_it(
    results: pd.DataFrame, curves: pd.DataFrame
) -> None:
    assert curve_module.time_quantity(curves, results) == "seconds"
    with_processor = curves.assign(cpu_seconds=3.0)
    assert curve_module.time_quantity(with_processor, results) == "cpu_seconds"
    axes = accuracy_curves(with_processor, results, "cpu_seconds").axes[0]
    assert axes.get_xlabel().startswith("Synthesis and student time (s of the processor, all threads)")
    with_processor.loc[0, "cpu_seconds"] = math.nan
    assert curve_module.time_quantity(with_processor, results) == "seconds"


def test_a_method_looks_the_same_in_every_setting(results: pd.DataFrame) -> None:
    styles = style.line_styles(results)
    assert list(styles) == ["scratch", "dafl", "deepinversion", "cmi", "cmi+rgal"]
    alone = style.line_styles(results[results["method"] == "cmi"])
    assert alone["cmi"] == styles["cmi"]


def test_labels_are_moved_apart_and_stay_below_the_top() -> None:
    heights = style.spread_out([10.0, 98.0, 98.1, 98.2], gap=2.0, limits=(0.0, 100.0))
    assert heights[0] == 10.0 and heights[-1] <= 100.0
    assert all(after - before >= 2.0 - 1e-9 for before, after in zip(heights, heights[1:], strict=False))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 20, 400])
def test_markers_are_few_and_the_last_point_has_one(n: int) -> None:
    for offset in range(9):
        points = style.marked_points(n, offset)
        assert points[-1] == n - 1 and len(set(points)) == len(points) <= 9
        assert all(0 <= point < n for point in points)


def test_the_range_leaves_out_the_climb_from_chance_but_no_end() -> None:
    climb = [10.0, 50.0, *[90.0 + i / 10 for i in range(18)]]
    data = pd.DataFrame({"method": "cmi", "mean": climb, "std": math.nan})
    levels = {"teacher": 95.0}
    low, high = style.percent_limits(*curve_module.worth_showing(data, levels))
    assert 85 < low < 91.7 and 95 < high < 96
    low, _ = style.percent_limits(*curve_module.worth_showing(data.assign(mean=10.0), levels))
    assert low < 10


def test_methods_of_very_different_cost_get_a_logarithmic_axis(
    results: pd.DataFrame, curves: pd.DataFrame
) -> None:
    assert accuracy_curves(curves, results).axes[0].get_xscale() == "linear"
    curves.loc[curves["key"] == "deepinversion-0", "seconds"] *= 100
    assert accuracy_curves(curves, results).axes[0].get_xscale() == "log"


def test_figures_without_curves_are_left_out(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    assert accuracy_curves(pd.DataFrame(), pd.DataFrame()) is None
    assert accuracy_curves(curves, results[results["status"] == "failed"]) is None
    assert accuracy_curves(curves, results[~results["data_free"]]) is None


def test_dollars_and_underscores_in_names_are_text(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    results["method"] = results["method"].replace("cmi", "$c_m$i")
    svg = figure_bytes(accuracy_curves(curves, results), "svg").decode()
    assert "$c_m$i" in svg  # text stays text, also for a search in the page


def test_drawing_changes_no_global_setting(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    before = dict(matplotlib.rcParams)
    figure_bytes(accuracy_curves(curves, results), "svg")
    assert dict(matplotlib.rcParams) == before
