"""Figures of class-incremental learning and the phases they are drawn from, against hand-computed values."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from rgal.reporting.figures.increments import accuracy_per_phase, end_data, old_and_new, phase_data
from rgal.reporting.figures.style import GREY, figure_bytes, line_styles
from rgal.reporting.figures.write import write_plots
from rgal.reporting.report import render
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import PHASE_COLUMNS, load_phases, load_records, make_frames
from tests.helpers.increment_builders import (
    COUNTS,
    STEM,
    increment_trial,
    some_increments,
    some_phases,
    stored_trial,
)
from tests.helpers.reporting_builders import some_curves, some_results

results = pytest.fixture(some_increments)
phases = pytest.fixture(some_phases)


def loaded(root: Path) -> pd.DataFrame:
    return load_phases(Store(root), make_frames(load_records(Store(root)))[0])


def test_phases_are_percentages_of_the_images(tmp_path: Path) -> None:
    stored_trial(tmp_path, increment_trial("abd", 0, 1, 60.0), COUNTS)
    frame = loaded(tmp_path)
    assert list(frame.columns) == PHASE_COLUMNS
    assert list(frame["classes"]) == [4, 6] and list(frame["phase"]) == [0, 1]
    assert list(frame["top1"]) == [75.0, pytest.approx(55.0)]  # 33 of 60, not the mean of 60 and 45
    assert math.isnan(frame["old_top1"][0]) and frame["old_top1"][1] == pytest.approx(60.0)
    assert list(frame["new_top1"]) == [75.0, pytest.approx(45.0)]
    assert set(frame["method"]) == {"abd"} and set(frame["seed"]) == {1} and set(frame["key"]) == {"abd_1"}


def test_only_finished_trials_with_phases_have_rows(tmp_path: Path) -> None:
    stored_trial(tmp_path, increment_trial("abd", 0, 0, 60.0), None)
    stored_trial(tmp_path, increment_trial("pass", 1, 0, 60.0, status="failed"), COUNTS)
    (stored_trial(tmp_path, increment_trial("lwf", 2, 0, 60.0), COUNTS) / "result.json").unlink()
    assert loaded(tmp_path).empty and list(loaded(tmp_path).columns) == PHASE_COLUMNS
    stored_trial(tmp_path, increment_trial("fetril", 3, 0, 60.0), COUNTS)
    frame = loaded(tmp_path)
    assert list(frame["method"]) == ["fetril", "fetril"]
    elsewhere = make_frames(load_records(Store(tmp_path)))[0].assign(key="gone")
    assert load_phases(Store(tmp_path), elsewhere).empty


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "3", '{"phases": 5}', '{"phases": {"phase": 0}}', '{"phases": null}', '{"phases": ["a", [1]]}',
     '{"layers": []}', '{"phases": [NaN]}'],
)  # fmt: skip
def test_foreign_files_have_no_phases(tmp_path: Path, text: str) -> None:
    stored_trial(tmp_path, increment_trial("abd", 0, 0, 60.0), text)
    assert loaded(tmp_path).empty


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": [[24, 40], [21, 20]]},  # more than there are
        {"tasks": [[24, 40], [-1, 20]]},
        {"tasks": [[24, 40], [0, 0]]},
        {"tasks": [[24, 40], [9.0, 20]]},
        {"tasks": [[24, 40], [True, 20]]},
        {"tasks": [[24, 40], ["9", "20"]]},
        {"tasks": [[24, 40], [9, math.nan]]},
        {"tasks": [[24, 40], [9, 20, 1]]},
        {"tasks": [[24, 40], 9]},
        {"tasks": [[24, 40]]},  # a task is missing
        {"tasks": [[24, 40], [9, 10**400]]},
        {"tasks": {"0": [24, 40]}},
        {"tasks": None},
        {"phase": "1"},
        {"phase": -1},
        {"phase": 1.0},
        {"phase": None},
        {"classes": 0},
        {"classes": "six"},
        {"classes": 10**400},
    ],
)
def test_malformed_counts_lose_their_phase_only(tmp_path: Path, change: dict[str, Any]) -> None:
    stored_trial(
        tmp_path,
        increment_trial("abd", 0, 0, 60.0),
        json.dumps({"phases": [COUNTS[0], {**COUNTS[1], **change}]}),
    )
    frame = loaded(tmp_path)
    assert list(frame["phase"]) == [0] and list(frame["top1"]) == [75.0]


def test_a_phase_recorded_twice_counts_as_the_later(tmp_path: Path) -> None:
    stored_trial(tmp_path, increment_trial("abd", 0, 0, 60.0), [*COUNTS, {**COUNTS[0], "tasks": [[10, 40]]}])
    assert sorted(loaded(tmp_path)["top1"]) == [25.0, pytest.approx(55.0)]


def test_phase_data_are_the_hand_computed_ones(results: pd.DataFrame, phases: pd.DataFrame) -> None:
    data = phase_data(phases, results)
    assert list(data["method"].unique()) == [
        "joint",
        "fetril",
        "abd",
        "abd+rgal",
    ]  # pass has no finished trial
    abd = data[data["method"] == "abd"]
    assert list(abd["x"]) == [50, 60, 70] and list(abd["round"]) == [0, 1, 2]
    assert list(abd["mean"]) == [72.0, 62.0, 52.0] and list(abd["std"]) == [2.0, 2.0, 2.0]
    assert list(abd["n"]) == [3, 3, 3] and data[data["method"] == "joint"]["std"].isna().all()
    missing = phases[~((phases["key"] == "abd-1") & (phases["phase"] == 1))]
    assert list(phase_data(missing, results).query("method == 'abd'")["x"]) == [50, 70]


def test_end_data_are_those_of_the_last_phase(results: pd.DataFrame, phases: pd.DataFrame) -> None:
    data = end_data(phases, results).set_index("method")
    abd = data.loc["abd"]
    assert list(abd[["old_mean", "old_std", "new_mean", "new_std"]]) == [42.0, 2.0, 67.0, 2.0]
    assert abd["n"] == 3 and math.isnan(data.loc["joint", "old_std"])
    cut = phases[~((phases["key"] == "abd-1") & (phases["phase"] == 2))]
    abd = end_data(cut, results).set_index("method").loc["abd"]
    assert (abd["n"], abd["old_mean"]) == (2, 42.0) and abd["old_std"] == pytest.approx(math.sqrt(8))


def test_the_figure_of_the_phases_draws_what_the_data_say(
    results: pd.DataFrame, phases: pd.DataFrame
) -> None:
    figure = accuracy_per_phase(phases, results)
    axes = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "joint †",
        "fetril",
        "abd",
        "abd+rgal",
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Classes seen", "Test top-1 on all classes seen (%)")
    joint, fetril, abd, _ = axes.get_lines()
    assert list(abd.get_xdata()) == [50, 60, 70] and list(abd.get_ydata()) == [72.0, 62.0, 52.0]
    assert to_hex(joint.get_color()) == GREY and joint.get_markerfacecolor() == "white"
    assert fetril.get_color() == line_styles(results)["fetril"].colour
    band = axes.collections[2].get_paths()[0].vertices  # of abd
    assert band[:, 1].min() == 50.0 and band[:, 1].max() == 74.0
    low, high = axes.get_ylim()
    assert low < 48 and 95.5 < high <= 101  # fetril's end and joint's start
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "60", "70"]


def test_many_phases_have_few_ticks_with_the_last(results: pd.DataFrame) -> None:
    one = results[results["key"] == "abd-0"]
    rows = [{"key": "abd-0", "phase": p, "classes": 40 + p, "top1": 90.0 - p} for p in range(61)]
    ticks = list(accuracy_per_phase(pd.DataFrame(rows), one).axes[0].get_xticks())
    assert len(ticks) <= 11 and ticks[-1] == 100 and set(ticks) <= set(range(40, 101))


def test_the_bars_are_the_old_and_new_classes(results: pd.DataFrame, phases: pd.DataFrame) -> None:
    figure = old_and_new(phases, results)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["joint †", "fetril", "abd", "abd+rgal"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["old classes (earlier phases)", "new classes (last phase)"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([65.5, 38.0, 42.0, 46.456, 90.5, 63.0, 67.0, 71.456])
    hatches = [bar.get_hatch() for bar in axes.patches]
    assert set(hatches[:4]) != set(hatches[4:])  # apart without colour too
    old, new = (container for container in axes.containers if hasattr(container, "has_xerr"))
    ends = [segment[:, 0].tolist() for segment in old.lines[2][0].get_segments() if len(segment)]
    assert ends == [[40.0, 44.0]]  # whiskers of abd alone
    assert len([segment for segment in new.lines[2][0].get_segments() if len(segment)]) == 1
    assert axes.get_ylim()[0] > axes.get_ylim()[1] and axes.get_xlim()[0] == 0


def test_only_a_base_phase_has_no_old_classes(results: pd.DataFrame, phases: pd.DataFrame) -> None:
    base = phases[phases["phase"] == 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = [accuracy_per_phase(base, results), old_and_new(base, results)]
        assert all(figure_bytes(figure, "png").startswith(b"\x89PNG") for figure in figures)
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["50"]
    assert end_data(base, results)["old_mean"].isna().all()


def test_figures_without_phases_are_left_out(results: pd.DataFrame, phases: pd.DataFrame) -> None:
    for draw in (accuracy_per_phase, old_and_new):
        assert draw(pd.DataFrame(), pd.DataFrame()) is None
        assert draw(phases, results.assign(status="failed")) is None
        assert draw(pd.DataFrame(), results) is None


def test_means_over_several_cases_or_settings_are_refused(
    results: pd.DataFrame, phases: pd.DataFrame
) -> None:
    for draw in (accuracy_per_phase, old_and_new):
        with pytest.raises(ValueError, match="expected one case, found"):
            draw(phases, results.assign(case=[f"c{seed}" for seed in results["seed"]]))
        with pytest.raises(ValueError, match="expected one budget, found"):
            draw(phases, results.assign(budget=[f"b{seed}" for seed in results["seed"]]))


@pytest.mark.usefixtures("svg_alone")
def test_groups_with_phases_have_their_own_figures(
    results: pd.DataFrame, phases: pd.DataFrame, tmp_path: Path
) -> None:
    kd = some_results().query("method == 'cmi'")
    both, curves = pd.concat([results, kd], ignore_index=True), some_curves(kd)
    paths = write_plots(both, curves, tmp_path / "a", phases=phases)
    kinds = [path.name.removeprefix(f"{STEM}_") for path in paths if path.name.startswith(STEM)]
    assert kinds == [f"{name}.{fmt}" for name in ("phases", "old_new") for fmt in ("png", "svg")]
    others = [path.name for path in paths if path.name.startswith("kd") and path.suffix == ".png"]
    assert [name.rpartition("_")[2] for name in others] == ["time.png", "images.png"]
    shuffled = [frame.sample(frac=1, random_state=4) for frame in (results, phases)]
    for path in write_plots(shuffled[0], curves, tmp_path / "b", phases=shuffled[1]):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("drawings")
def test_a_store_of_phases_is_rendered(tmp_path: Path) -> None:
    for seed in (0, 1):
        stored_trial(tmp_path, increment_trial("abd", 0, seed, 60.0 + seed), COUNTS)
    rendered = render(Store(tmp_path))
    assert "60.50 ± 0.71" in rendered.text and "63.80" in rendered.tables[0].read_text(encoding="utf-8")
    assert [path.stem for path in rendered.plots if path.suffix == ".png"] == [
        f"{STEM}_phases",
        f"{STEM}_old_new",
    ]
