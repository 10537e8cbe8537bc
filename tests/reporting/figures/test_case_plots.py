"""Figures of a task with cases: curves of one case each, accuracy against the cases, ranges of the quantizers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from rgal.reporting.figures.cases import accuracy_versus_cases, case_data, data_efficiency, sweep_data
from rgal.reporting.figures.curves import accuracy_curves, curve_data, level_data
from rgal.reporting.figures.latency import accuracy_versus_latency, latency_data
from rgal.reporting.figures.layers import BAND, layer_data, layer_figure
from rgal.reporting.figures.style import GREY, figure_bytes, line_styles
from rgal.reporting.figures.write import write_plots
from tests.helpers.reporting_builders import case_trial, some_cases, some_curves, some_layers, some_results

results = pytest.fixture(some_cases)
STEM = "dfq_cifar10-resnet20-paper-placement_small"


def of_case(results: pd.DataFrame, case: str) -> pd.DataFrame:
    return results[results["case"] == case]


@pytest.mark.usefixtures("svg_alone")
def test_every_case_has_its_own_curves(results: pd.DataFrame, tmp_path: Path) -> None:
    curves, layers = some_curves(results), some_layers(results)
    names = [path.name for path in write_plots(results, curves, tmp_path, layers) if path.suffix == ".png"]
    per_case = [
        f"{STEM}_{case}_{name}.png" for case in ("w8a8", "w4a4") for name in ("time", "images", "layers")
    ]
    assert names == [*per_case, f"{STEM}_cases.png", f"{STEM}_latency.png"]
    shuffled = [frame.sample(frac=1, random_state=5) for frame in (results, curves, layers)]
    again = write_plots(*shuffled[:2], tmp_path / "again", shuffled[2])
    for path in again:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("drawings")
def test_without_cases_the_files_are_as_they_were(tmp_path: Path) -> None:
    frame = some_results().assign(case=math.nan)
    names = [path.name for path in write_plots(frame, some_curves(frame), tmp_path, pd.DataFrame())]
    stem = "kd_cifar10-wrn40_2-wrn16_1_small"
    assert names == [f"{stem}_{name}.{fmt}" for name in ("time", "images") for fmt in ("png", "svg")]


@pytest.mark.usefixtures("drawings")
def test_one_case_has_curves_and_no_figure_across_cases(results: pd.DataFrame, tmp_path: Path) -> None:
    one = of_case(results, "w4a4")
    names = {path.stem for path in write_plots(one, some_curves(one), tmp_path)}
    assert names == {f"{STEM}_w4a4_time", f"{STEM}_w4a4_images", f"{STEM}_latency"}


def test_curves_and_levels_are_never_means_over_cases(results: pd.DataFrame) -> None:
    curves = some_curves(results)
    for wrong in (
        lambda: curve_data(curves, results),
        lambda: level_data(results),
        lambda: accuracy_curves(curves, results),
        lambda: layer_data(some_layers(results), results),
    ):
        with pytest.raises(ValueError, match="expected one case, found"):
            wrong()  # fmt: skip
    four = of_case(results, "w4a4")
    assert set(curve_data(curves, four)["mean"]) == {79.0, 80.0, 81.0, 82.0}
    assert list(level_data(four).values()) == [95.0, 85.0]
    title = accuracy_curves(curves, four).axes[0].get_title(loc="left")
    assert title == "cifar10 resnet20, paper placement, budget small, W4A4"


def test_case_data_are_the_hand_computed_ones(results: pd.DataFrame) -> None:
    rows = case_data(results).set_index(["case", "method"])
    assert list(rows.index) == [
        *[("w8a8", name) for name in ("ptq", "zeroq", "gdfq")], ("w4a4", "ptq"), ("w4a4", "gdfq"),
    ]  # fmt: skip
    gdfq = rows.loc[("w8a8", "gdfq")]
    assert (gdfq["place"], gdfq["mean"], gdfq["n"]) == (0, 93.0, 2)
    assert gdfq["std"] == pytest.approx(math.sqrt(2)) and math.isnan(rows.loc[("w4a4", "ptq"), "std"])


def test_the_figure_across_cases_draws_what_the_data_say(results: pd.DataFrame) -> None:
    figure = accuracy_versus_cases(results)
    axes = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ptq †", "zeroq", "gdfq"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["W8A8", "W4A4"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Bits", "Test top-1 (%)")
    assert [text.get_text() for text in axes.texts] == ["teacher 95.00"]
    ptq, zeroq, gdfq = (container.lines[0] for container in axes.containers)
    assert list(gdfq.get_ydata()) == [93.0, 82.0] and list(zeroq.get_ydata()) == [90.0]
    starts = [line.get_xdata()[0] for line in (ptq, zeroq, gdfq)]
    assert len(set(starts)) == 3 and np.round(np.mean(starts), 9) == 0  # side by side around the case
    assert to_hex(ptq.get_color()) == GREY and ptq.get_markerfacecolor() == "white"
    bars = axes.containers[2].lines[2][0].get_segments()
    assert bars[0][:, 1] == pytest.approx([93 - math.sqrt(2), 93 + math.sqrt(2)])


def swept(results: pd.DataFrame) -> pd.DataFrame:
    """w8a8 with 64 images a trial, w4a4 with 16: a sweep; the reference, which synthesises none, has 0."""
    images = results["case"].map({"w8a8": 64, "w4a4": 16}).where(results["method"] != "ptq", 0)
    return results.assign(images=images)


@pytest.mark.usefixtures("drawings")
def test_a_sweep_of_images_is_drawn_against_their_number(results: pd.DataFrame, tmp_path: Path) -> None:
    rows = sweep_data(swept(results))
    assert rows[["method", "x", "mean", "n"]].to_numpy().tolist() == [
        ["gdfq", 16, 82.0, 2], ["gdfq", 64, 93.0, 2],
    ]  # fmt: skip
    figure = data_efficiency(swept(results))
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Synthesised images\n(not shown: zeroq)" and axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64"]
    line = axes.get_lines()[0]
    assert list(line.get_xdata()) == [16, 64] and list(line.get_ydata()) == [82.0, 93.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gdfq"]
    written = write_plots(swept(results), some_curves(results), tmp_path)
    assert f"{STEM}_efficiency.svg" in {path.name for path in written}


def test_cases_with_equal_numbers_of_images_are_no_sweep(results: pd.DataFrame) -> None:
    assert data_efficiency(results.assign(images=64)) is None
    assert data_efficiency(swept(results).assign(status="failed")) is None
    assert data_efficiency(results.assign(images=math.nan)) is None


def test_latencies_are_ratios_to_the_float_model_of_the_same_run(results: pd.DataFrame) -> None:
    """The builder times a batch of 64 at 25 of 50 and 20 of 60 ms (w8a8), 100 of 50 ms (w4a4), of 1 at 0.5 of 1."""
    data, floats = latency_data(results)
    assert floats == {1: 1.0, 64: pytest.approx((55 + 50) / 2)}
    latencies = {(row.batch, row.case, row.method): row.latency_ms for row in data.itertuples()}
    slower = floats[64] / (50 / 100)
    assert latencies == {
        (1, "w8a8", "gdfq"): 0.5, (1, "w4a4", "gdfq"): 0.5,
        (64, "w8a8", "gdfq"): pytest.approx(floats[64] / ((50 / 25 + 60 / 20) / 2)),
        (64, "w4a4", "gdfq"): pytest.approx(slower),
    }  # fmt: skip


@pytest.mark.usefixtures("drawings")
def test_the_figure_of_latencies_draws_what_the_data_say(results: pd.DataFrame, tmp_path: Path) -> None:
    figure = accuracy_versus_latency(results)
    assert figure is not None
    one, many = figure.axes
    assert (one.get_xlabel(), many.get_xlabel()) == (
        "Latency of a batch of 1 (ms)",
        "Latency of a batch of 64 (ms)",
    )
    assert [text.get_text() for text in many.texts] == ["W8A8", "W4A4"]
    points, teacher = many.get_lines()
    assert points.get_linestyle() == "None" and list(points.get_ydata()) == [91.0, 91.0]
    assert (list(teacher.get_xdata()), list(teacher.get_ydata())) == ([52.5], [95.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gdfq", "float teacher"]
    assert f"{STEM}_latency.png" in {
        path.name for path in write_plots(results, some_curves(results), tmp_path)
    }


def test_without_timed_models_there_is_no_figure_of_latencies(results: pd.DataFrame) -> None:
    untimed = {name: math.nan for name in results.columns if "latency" in name}
    assert accuracy_versus_latency(results.assign(**untimed)) is None
    assert accuracy_versus_latency(some_results()) is None
    only_one = results.assign(latency_ms_64=math.nan)
    assert accuracy_versus_latency(only_one) is not None and list(latency_data(only_one)[1]) == [1]


def test_one_trial_has_no_bar(results: pd.DataFrame) -> None:
    zeroq, gdfq = accuracy_versus_cases(results).axes[0].containers[1:]
    assert [len(segment) for segment in zeroq.lines[2][0].get_segments()] == [0]
    assert [len(segment) for segment in gdfq.lines[2][0].get_segments()] == [2, 2]


def test_a_breakdown_at_few_bits_gets_an_axis_logarithmic_in_the_error(results: pd.DataFrame) -> None:
    results.loc[results["key"] == "w4a4-gdfq-1", "last"] = 12.0
    axes = accuracy_versus_cases(results).axes[0]
    assert axes.get_yscale() == "function" and "logarithmic in the error" in axes.get_ylabel()
    low, high = axes.get_ylim()
    assert low < 46 - 48.1 and 95 < high < 100  # the mean of 80 and 12 less its deviation; the teacher
    ticks = [float(label.get_text()) for label in axes.get_yticklabels()]
    assert ticks == sorted(ticks) and all(low <= tick <= high for tick in ticks) and {80, 90} <= set(ticks)
    results["last"] = results["last"].clip(upper=100.0).where(results["method"] != "ptq", 100.0)
    low, high = accuracy_versus_cases(results).axes[0].get_ylim()
    assert high > 99.9 and math.isfinite(high)


def test_cases_without_results_are_left_out_or_keep_their_place(results: pd.DataFrame) -> None:
    assert accuracy_versus_cases(results.assign(status="failed")) is None
    assert accuracy_versus_cases(results.assign(teacher_top1=math.nan, last=math.nan)) is None
    late = pd.concat([results, pd.DataFrame([case_trial("w2a2", "gdfq", 1, 0, math.nan, status="failed")])])
    labels = accuracy_versus_cases(late.assign(teacher_top1=math.nan)).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["W8A8", "W4A4", "W2A2"]


def test_references_look_like_no_data_free_method(results: pd.DataFrame) -> None:
    looks = line_styles(results)
    assert {name: look.filled for name, look in looks.items()} == {"ptq": False, "zeroq": True, "gdfq": True}
    many = pd.DataFrame([case_trial("w4a4", f"m{i}", i, 0, 1.0, data_free=i > 3) for i in range(40)])
    styles = line_styles(many)
    markers = [
        {style.marker for style in styles.values() if style.filled == filled} for filled in (True, False)
    ]
    assert markers[1] and not markers[0] & markers[1]


@pytest.mark.usefixtures("svg_alone")
def test_another_task_changes_no_look_and_no_byte(results: pd.DataFrame, tmp_path: Path) -> None:
    kd = some_results().query("method in ('cmi', 'scratch')")
    other = results.query("case == 'w4a4'").assign(order=0)
    both = pd.concat([other, kd], ignore_index=True)
    for path in write_plots(kd, some_curves(kd), tmp_path / "kd"):
        if not (tmp_path / "both").exists():
            write_plots(both, some_curves(both.assign(case="")), tmp_path / "both")
        assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes(), path.name


def test_layers_are_those_of_the_first_finished_seed(results: pd.DataFrame) -> None:
    results.loc[results["key"] == "w4a4-gdfq-0", "status"] = "failed"
    data = layer_data(some_layers(some_cases()), of_case(results, "w4a4"))
    assert list(data["method"].unique()) == ["ptq", "gdfq"]
    gdfq = data[(data["method"] == "gdfq") & (data["kind"] == "activation")]
    assert set(gdfq["key"]) == {"w4a4-gdfq-1"}
    assert list(gdfq["layer"]) == ["relu1", "relu2"] and list(gdfq["high"]) == [5.0, 9.0]
    weights = data[(data["method"] == "gdfq") & (data["kind"] == "weight")]
    assert list(gdfq["place"]) == [0.0, 1.0] and list(weights["place"]) == [-0.5, 0.5, 1.5]


def test_weights_numbered_on_their_own_are_spread_over_the_axis(results: pd.DataFrame) -> None:
    layers = some_layers(results)
    layers["index"] = layers["layer"].map({"conv1": 0, "conv2": 1, "fc": 2, "relu1": 0, "relu2": 1})
    data = layer_data(layers, of_case(results, "w8a8"))
    assert list(data[(data["method"] == "gdfq") & (data["kind"] == "weight")]["place"]) == [0.0, 0.5, 1.0]


def test_the_figure_of_the_layers_draws_what_the_data_say(results: pd.DataFrame) -> None:
    figure = layer_figure(some_layers(results), of_case(results, "w8a8"))
    assert figure is not None
    upper, lower = figure.axes
    assert [label.get_text() for label in lower.get_xticklabels()] == ["relu1", "relu2"]
    assert upper.get_title(loc="left").endswith("W8A8") and lower.get_ylabel() == "SQNR (dB)"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ptq †", "zeroq", "gdfq", "weights, mean of methods", "range on test images"]
    bands = [(bar.get_y(), bar.get_height(), to_hex(bar.get_facecolor())) for bar in upper.patches]
    assert bands == [(0.0, 5.0, BAND.lower()), (0.0, 9.0, BAND.lower())]
    ranges = [segment[:, 1].tolist() for lines in upper.collections for segment in lines.get_segments()]
    assert ranges == [[0.0, 4.0], [0.0, 8.0]] * 3
    places = [segment[0, 0] for lines in upper.collections for segment in lines.get_segments()]
    assert len(set(places)) == 6  # side by side
    noise = {str(line.get_label()): list(line.get_ydata()) for line in lower.get_lines()}
    assert noise["gdfq"] == [21.0, 23.0] and noise["weights, mean of methods"] == [30.0, 30.0, 30.0]


def test_a_range_far_outside_is_cut_and_told(results: pd.DataFrame) -> None:
    layers = some_layers(results)
    layers.loc[(layers["key"] == "w8a8-zeroq-0") & (layers["layer"] == "relu1"), "high"] = 4000.0
    figure = layer_figure(layers, of_case(results, "w8a8"))
    assert figure is not None and figure.axes[0].get_ylim()[1] < 40
    assert [text.get_text() for text in figure.axes[0].texts] == ["(cut: ranges up to 4,000)"]


def test_many_layers_widen_the_figure_up_to_twelve_inches(results: pd.DataFrame) -> None:
    rows = of_case(results, "w8a8")
    layers = some_layers(rows)
    widths = []
    for copies in (1, 12, 60):
        deep = [
            layers.assign(
                index=layers["index"] + 5 * i, layer=f"a.very.long.path.of.block{i}." + layers["layer"]
            )
            for i in range(copies)
        ]
        figure = layer_figure(pd.concat(deep), rows)
        assert figure is not None
        widths.append(figure.get_size_inches()[0])
        labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
        assert len(set(labels)) == 2 * copies and all(len(label) <= 26 for label in labels)
    assert widths[0] == pytest.approx(6.4) and 6.4 < widths[1] < 12 and widths[2] == pytest.approx(12)


@pytest.mark.parametrize("column", ["low", "high", "seen_low", "seen_high", "sqnr_db", "bits", "method"])
def test_a_missing_column_of_the_layers_is_not_drawn(results: pd.DataFrame, column: str) -> None:
    rows = of_case(results, "w8a8")
    assert layer_figure(some_layers(results).drop(columns=column), rows) is not None
    figure = layer_figure(some_layers(results).assign(**{column: math.nan}), rows)
    assert figure is not None and figure_bytes(figure, "svg").startswith(b"<?xml")


@pytest.mark.parametrize("column", ["key", "index", "layer", "kind"])
def test_layers_that_cannot_be_placed_give_no_figure(results: pd.DataFrame, column: str) -> None:
    rows = of_case(results, "w8a8")
    assert layer_figure(some_layers(results).drop(columns=column), rows) is None
    assert layer_figure(pd.DataFrame(), rows) is None
    assert layer_figure(some_layers(results), rows.assign(status="failed")) is None
    weights = some_layers(results).query("kind == 'weight'")
    assert layer_figure(weights, rows) is None
