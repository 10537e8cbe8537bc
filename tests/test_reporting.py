"""Tables, plots and grids against hand-computed numbers; the same input must give the same bytes."""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

from rgal.errors import UserError
from rgal.files import slug, write_atomically
from rgal.reporting import curves as curve_module
from rgal.reporting import plots
from rgal.reporting.frames import groups
from rgal.reporting.grids import BLANK, GAP, class_grid, write_grid
from rgal.reporting.plots import curve_data, figure_bytes, write_plots
from rgal.reporting.reference import load_reference
from rgal.reporting.render import cells, count, latex_text, markdown_text, seconds
from rgal.reporting.tables import accuracy_table, render, write_tables

REFERENCE = Path(__file__).parents[1] / "benchmarks" / "reference"
CMI_README = "README of github.com/zju-vipa/CMI"


def trial(method: str, order: int, seed: int, last: float, **other: object) -> dict[str, object]:
    """One row of `results`, finished unless `other` says something else."""
    return {
        "key": f"{method}-{seed}",
        "task": "kd",
        "setting": "cifar10 wrn40_2 -> wrn16_1",
        "budget": "small",
        "dataset": "cifar10",
        "teacher": "wrn40_2",
        "student": "wrn16_1",
        "method": method,
        "order": order,
        "seed": seed,
        "status": "finished",
        "reason": "",
        "data_free": True,
        "last": last,
        "best": last + 5,
        "teacher_top1": 95.0,
        "images": 51200,
        "synthesis_steps": 80000,
        "student_steps": 40000,
        "synthesis_seconds": 1234.4,
        "student_seconds": 12.345,
        "image_note": "",
        **other,
    }


@pytest.fixture
def results() -> pd.DataFrame:
    """cmi 90, 92, 94 (mean 92, std 2); cmi+rgal once; deepinversion 1 of 2; dafl fails; scratch is real."""
    failed = {"status": "failed", "reason": "out of memory", "images": 0}
    return pd.DataFrame(
        [
            trial("cmi", 2, 0, 90.0),
            trial("cmi", 2, 1, 92.0, images=51201, synthesis_seconds=1235.4),
            trial("cmi", 2, 2, 94.0),
            trial("cmi+rgal", 3, 0, 93.456),
            trial("deepinversion", 1, 0, 80.0),
            trial("deepinversion", 1, 1, 10.0, status="interrupted"),
            trial("dafl", 0, 0, math.nan, **failed),
            trial("dafl", 0, 1, math.nan, **failed),
            trial("scratch", 9, 0, 91.5, data_free=False, images=0, synthesis_steps=0, synthesis_seconds=0.0),
        ]
    )


@pytest.fixture
def curves(results: pd.DataFrame) -> pd.DataFrame:
    """Four rounds a trial, ten seconds and 100 images each; cmi-2 lacks the third round."""
    rows = [
        {
            "key": row.key,
            "round": r,
            "seconds": 10.0 * r + row.seed,
            "images": 100 * r,
            "top1": row.last - 4 + r,
        }
        for row in results.itertuples()
        for r in (1, 2, 3, 4)
        if row.status == "finished" and not (row.key == "cmi-2" and r == 3)
    ]
    return pd.DataFrame(rows)


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("method")


# ---- tables -------------------------------------------------------------------------------------------------


def test_mean_std_drop_and_costs_are_the_hand_computed_ones(results: pd.DataFrame) -> None:
    row = by_method(accuracy_table(results)).loc["cmi"]
    assert row["top1_mean_percent"] == pytest.approx(92.0)
    assert row["top1_std_points"] == pytest.approx(2.0)  # sqrt((4 + 0 + 4) / 2)
    assert row["drop_points"] == pytest.approx(3.0)
    assert (row["finished"], row["planned"]) == (3, 3)
    assert row["images"] == pytest.approx(51200 + 1 / 3)
    assert row["synthesis_seconds"] == pytest.approx(1234.4 + 1 / 3)
    shown = cells(accuracy_table(results)).set_index("Method").loc["cmi"]
    assert list(shown) == ["92.00 ± 2.00", "3", "3.00", "51,200", "80,000", "40,000", "1,235", "12.3"]


def test_only_finished_trials_count(results: pd.DataFrame) -> None:
    table = accuracy_table(results)
    assert by_method(table).loc["deepinversion", "top1_mean_percent"] == 80.0
    shown = cells(table).set_index("Method")
    assert shown.loc["deepinversion", "n"] == "1 of 2"
    assert list(shown.loc["dafl"]) == ["", "0 of 2", "", "", "", "", "", ""]
    notes = " ".join(table.attrs["notes"])
    assert "dafl: 2 of 2 trials without a result (failed: out of memory)." in notes
    assert "deepinversion: 1 of 2 trials without a result (interrupted)." in notes


def test_a_finished_trial_without_an_accuracy_is_not_a_result() -> None:
    table = accuracy_table(pd.DataFrame([trial("cmi", 0, 0, math.nan), trial("cmi", 0, 1, 90.0)]))
    assert cells(table).loc[0, "n"] == "1 of 2"
    assert "(no accuracy)" in " ".join(table.attrs["notes"])


def test_one_trial_has_a_mean_and_no_spread(results: pd.DataFrame) -> None:
    table = accuracy_table(results)
    assert math.isnan(by_method(table).loc["cmi+rgal", "top1_std_points"])
    assert cells(table).set_index("Method").loc["cmi+rgal", "Top-1 (%)"] == "93.46"


def test_references_on_real_data_come_first_with_a_dagger_then_suite_order(results: pd.DataFrame) -> None:
    names = ["scratch †", "dafl", "deepinversion", "cmi", "cmi+rgal"]
    assert list(cells(accuracy_table(results))["Method"]) == names
    assert "† Trained on real data: a reference, not data-free." in accuracy_table(results).attrs["notes"]
    data_free = results[results["data_free"]]
    assert "†" not in render(accuracy_table(data_free), "md")


def test_the_caption_says_which_accuracy_and_names_the_teacher(results: pd.DataFrame) -> None:
    table = accuracy_table(results)
    assert table.attrs["caption"] == "cifar10 wrn40_2 → wrn16_1, budget small"
    assert "last evaluation, not the best" in table.attrs["notes"][0]
    assert "Teacher: 95.00 % top-1." in table.attrs["notes"]
    results.loc[0, "teacher_top1"] = 94.0
    assert "Teacher: 94.00 to 95.00 % top-1." in accuracy_table(results).attrs["notes"]


def test_image_notes_are_printed_once_for_all_methods_that_share_them(results: pd.DataFrame) -> None:
    results.loc[results["method"].isin(["cmi", "cmi+rgal"]), "image_note"] = "drawn anew, none kept"
    notes = accuracy_table(results).attrs["notes"]
    assert "Images of cmi, cmi+rgal: drawn anew, none kept." in notes


@pytest.mark.parametrize("missing", ["images", "teacher_top1", "order", "image_note", "reason", "data_free"])
def test_a_missing_column_is_left_blank(results: pd.DataFrame, missing: str) -> None:
    table = accuracy_table(results.drop(columns=missing), load_reference(REFERENCE))
    for fmt in ("md", "csv", "tex"):
        assert not re.search(r"\b(nan|none|null)\b", render(table, fmt), re.IGNORECASE)
    if missing == "images":
        assert set(cells(table)["Images"]) == {""}


@pytest.mark.parametrize(
    "empty", [pd.DataFrame(), pd.DataFrame(columns=["method", "status", "last", "setting"])]
)
def test_empty_frames_say_so(empty: pd.DataFrame, tmp_path: Path) -> None:
    table = accuracy_table(empty, load_reference(REFERENCE))
    assert "No finished trials." in render(table, "md")
    assert "No finished trials." in render(table, "tex")
    assert render(table, "csv").startswith("method,data_free,top1_mean_percent")
    assert write_tables(empty, tmp_path) == []
    assert write_plots(empty, pd.DataFrame(), tmp_path) == []


def test_all_failed_still_names_the_methods(results: pd.DataFrame) -> None:
    text = render(accuracy_table(results[results["status"] == "failed"]), "md")
    assert "No finished trials." in text
    assert "0 of 2" in text


def test_several_settings_are_refused_instead_of_averaged(results: pd.DataFrame) -> None:
    results.loc[0, "budget"] = "paper"
    with pytest.raises(ValueError, match="one budget"):
        accuracy_table(results)


def test_the_order_of_rows_changes_nothing(
    results: pd.DataFrame, curves: pd.DataFrame, tmp_path: Path
) -> None:
    reference = load_reference(REFERENCE)
    shuffled = results.sample(frac=1, random_state=3)
    first = write_tables(results, tmp_path / "a", reference) + write_plots(results, curves, tmp_path / "a")
    mixed = curves.sample(frac=1, random_state=4)
    second = write_tables(shuffled, tmp_path / "b", reference) + write_plots(shuffled, mixed, tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.suffix for path in first] == [".md", ".csv", ".tex", ".png", ".svg", ".png", ".svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_another_process_writes_the_same_bytes(
    results: pd.DataFrame, curves: pd.DataFrame, tmp_path: Path
) -> None:
    """Another hash seed and a matplotlibrc of the user's own must not show. Nor is pyplot ever imported."""
    results.to_json(tmp_path / "results.json")
    curves.to_json(tmp_path / "curves.json")
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nsavefig.facecolor: red\n")
    code = (
        "import sys, pandas as pd; from rgal.reporting import grids, plots, tables\n"
        "r, c = pd.read_json('results.json'), pd.read_json('curves.json')\n"
        "tables.write_tables(r, 'out'); plots.write_plots(r, c, 'out')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(REFERENCE.parents[1]), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    here = write_tables(results, tmp_path / "here") + write_plots(results, curves, tmp_path / "here")
    for path in here:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_csv_holds_one_quantity_a_column(results: pd.DataFrame) -> None:
    table = pd.read_csv(io.StringIO(render(accuracy_table(results, load_reference(REFERENCE)), "csv")))
    row = table.set_index("method").loc["cmi"]
    assert (row["top1_mean_percent"], row["top1_std_points"], row["finished"]) == (92.0, 2.0, 3)
    assert row["published_percent"] == 90.01
    assert row["published_source"].startswith(CMI_README)
    assert "±" not in render(accuracy_table(results), "csv")


def test_a_student_better_than_its_teacher_has_a_negative_drop() -> None:
    table = accuracy_table(pd.DataFrame([trial("cmi", 0, 0, 95.5)]))
    assert cells(table).loc[0, "Drop (points)"] == "−0.50"
    assert r"\ensuremath{-}0.50" in render(table, "tex")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (1.2345, "1.23"), (9.996, "10.0"), (12.345, "12.3"), (99.96, "100"),
     (12345.6, "12,346"), (math.nan, "")],
)  # fmt: skip
def test_seconds_have_three_digits_or_are_whole(value: float, text: str) -> None:
    assert seconds(value) == text


def test_counts_have_separators() -> None:
    assert [count(1234567.4), count(0.0), count(math.nan)] == ["1,234,567", "0", ""]


def test_latex_special_characters() -> None:
    assert latex_text("a_b 5% & #1 {x}") == r"a\_b 5\% \& \#1 \{x\}"
    assert latex_text("wrn16_2 -> wrn10_1 † ±") == (
        r"wrn16\_2 \ensuremath{\rightarrow} wrn10\_1 \ensuremath{^\dagger} \ensuremath{\pm}"
    )
    assert latex_text("rgal[follows=code]") == "rgal{[}follows=code{]}"
    assert latex_text("\\~^<é\x1b∀\n$") == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\ensuremath{<}é?? \$"
    )


def test_markdown_special_characters() -> None:
    assert markdown_text("wrn16_2 -> wrn10_1") == "wrn16_2 → wrn10_1"
    assert markdown_text("__init__ a|b *c* <d>\n`e`") == r"\_\_init\_\_ a\|b \*c\* \<d> \`e\`"
    assert markdown_text("rgal[follows=code]") == "rgal[follows=code]"
    assert markdown_text("[a](b)") == r"[a\](b)"


def nasty(results: pd.DataFrame) -> pd.DataFrame:
    reason = "RuntimeError: 100% of {x}_y & #1 \\ ~ ^ $ <a> | “é” ∀ \x1b[31m\n[2]"
    return pd.concat(
        [
            results.assign(reason=np.where(results["status"] == "failed", reason, "")),
            pd.DataFrame([trial("[first]|x_y[a=1%]", 0, 0, 50.0)]),
        ]
    )


def test_every_row_of_a_markdown_table_has_the_same_cells(results: pd.DataFrame) -> None:
    text = render(accuracy_table(nasty(results), load_reference(REFERENCE)), "md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}
    assert ":" not in rows[1].split("|")[2][:-1]  # numbers are aligned to the right
    assert rows[1].split("|")[2].endswith(":")


def test_latex_has_booktabs_rules_shared_headings_and_equal_rows(results: pd.DataFrame) -> None:
    text = render(accuracy_table(results, load_reference(REFERENCE)), "tex")
    for part in (r"\toprule", r"\bottomrule", r"\cmidrule(lr){6-7}", r"\multicolumn{2}{c}{Steps}"):
        assert part in text
    body = text.split(r"\midrule")
    assert len(body) == 3  # below the head, and between references and data-free methods
    assert "scratch" in body[1] and "dafl" in body[2]
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {9}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles_as_it_is(results: pd.DataFrame, tmp_path: Path) -> None:
    frames = {
        "nasty": nasty(results),
        "empty": pd.DataFrame(),
        "failed": results[results["method"] == "dafl"],
    }
    for name, frame in frames.items():
        text = render(accuracy_table(frame, load_reference(REFERENCE)), "tex")
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")


# ---- published numbers --------------------------------------------------------------------------------------


def test_published_numbers_stand_beside_the_measured_ones(results: pd.DataFrame) -> None:
    with_them, without = accuracy_table(results, load_reference(REFERENCE)), accuracy_table(results)
    published = by_method(with_them)["published_percent"]
    assert published["cmi"] == 90.01 and published["scratch"] == 91.12 and published["dafl"] == 65.71
    assert math.isnan(published["cmi+rgal"])  # a variant is not the published method
    measured = [name for name in with_them.columns if not name.startswith("published")]
    pd.testing.assert_frame_equal(with_them[measured], without[measured])
    note = with_them.attrs["notes"][-1]
    for part in (
        "not measured here",
        "Best test accuracy over epochs",
        "Published teacher: 94.87 %",
        CMI_README,
    ):
        assert part in note
    assert "Published (%)" in cells(with_them) and "Published (%)" not in cells(without)
    assert not any("Published" in note for note in without.attrs["notes"])


def test_other_pairs_and_data_have_no_published_number(results: pd.DataFrame) -> None:
    other = accuracy_table(results.assign(dataset="digits"), load_reference(REFERENCE))
    assert other["published_percent"].isna().all()
    assert not any("Published" in note for note in other.attrs["notes"])


def test_the_cmi_readme_is_the_primary_source() -> None:
    reference = load_reference(REFERENCE)
    pair = ("vgg11", "resnet18")
    value = reference.published("kd", "cifar100", *pair, "dafl")  # the Fast README prints 54.16
    assert value is not None and value[0] == 57.29 and value[1].startswith(CMI_README)
    fast = reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "fast_10")
    assert fast is not None and fast[0] == 89.29 and "Fast-Datafree" in fast[1]
    big = reference.published("kd", "imagenet", "resnet50", "resnet50", "deepinversion")
    assert big is not None and big[0] == 68.0
    assert reference.published("kd", "imagenet", "resnet50", "resnet18", "deepinversion") is None
    assert reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "rgal") is None
    assert reference.published("necil", "cifar10", "wrn40_2", "wrn16_1", "cmi") is None
    assert load_reference(REFERENCE / "kd.yaml") == reference


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [", "not valid YAML"),
        ("- 1", "expected a mapping, found list"),
        ("task: kd", "'tables' is missing, found: task"),
        ("task: kd\ntables: 3", "tables: expected a list, found int"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [ab], top1: {}}]", "teacher/student"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [1, 2]}}]", "needs 1 numbers"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [101]}}]", "found 101"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: ['9']}}]", "found '9'"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_wrong_reference_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kd.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_reference(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_reference_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.yaml: cannot read"):
        load_reference(tmp_path / "absent.yaml")


# ---- files --------------------------------------------------------------------------------------------------


def test_names_become_safe_file_names(results: pd.DataFrame, tmp_path: Path) -> None:
    assert slug("digits wrn16_2 -> wrn10_1") == "digits-wrn16_2-wrn10_1"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("→") == "unnamed"
    paths = write_tables(results.assign(setting="../x"), tmp_path)
    assert [path.parent for path in paths] == [tmp_path] * 3
    assert [path.name for path in write_tables(results, tmp_path)] == [
        f"kd_cifar10-wrn40_2-wrn16_1_small.{fmt}" for fmt in ("md", "csv", "tex")
    ]


def test_equal_slugs_do_not_overwrite_each_other() -> None:
    frame = pd.DataFrame({"task": "kd", "setting": ["a -> b", "a b", "c"], "budget": "small"})
    found = groups(frame)
    assert sorted(rows["setting"].item() for rows in found.values()) == ["a -> b", "a b", "c"]
    assert "kd_c_small" in found


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "new" / "table.md", b"old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


# ---- plots --------------------------------------------------------------------------------------------------


def test_curves_are_means_over_seeds_at_common_rounds(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    data = curve_data(curves, results, "seconds")
    cmi = data[data["method"] == "cmi"]
    assert list(cmi["round"]) == [1, 2, 4]  # one seed lacks the third
    assert list(cmi["x"]) == [11.0, 21.0, 41.0]  # 10 r + mean of seeds 0, 1, 2
    assert list(cmi["top1_mean"]) == [89.0, 90.0, 92.0]
    assert list(cmi["top1_std"]) == [2.0, 2.0, 2.0]
    assert list(cmi["n"]) == [3, 3, 3]
    assert list(data["method"].unique()) == [
        "deepinversion",
        "cmi",
        "cmi+rgal",
    ]  # no reference, nothing failed
    assert data[data["method"] == "cmi+rgal"]["top1_std"].isna().all()
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
    assert list(again["top1_mean"]) == [33.0]  # the later evaluation of a resumed trial


def test_a_method_without_images_is_named_and_not_drawn(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    curves.loc[curves["key"] == "cmi+rgal-0", "images"] = 0
    assert "cmi+rgal" not in set(curve_data(curves, results, "images")["method"])
    assert "cmi+rgal" in set(curve_data(curves, results, "seconds")["method"])
    axes = plots.accuracy_versus_images(curves, results).axes[0]
    assert axes.get_xlabel() == "Synthesised images\n(not shown: cmi+rgal)"


def test_levels_are_the_teacher_and_the_references(results: pd.DataFrame) -> None:
    levels = curve_module.level_data(results)
    assert [tuple(row) for row in levels.itertuples(index=False)] == [
        ("teacher", 95.0, "teacher"),
        ("scratch †", 91.5, "reference"),
    ]


def test_the_figure_draws_what_the_data_say(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    figure = plots.accuracy_versus_time(curves, results)
    axes = figure.axes[0]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["deepinversion", "cmi", "cmi+rgal"]
    assert axes.get_xlabel() == "Synthesis and student time (s)" and axes.get_ylabel() == "Test top-1 (%)"
    assert [text.get_text() for text in axes.texts] == ["scratch † 91.50", "teacher 95.00"]
    low, high = axes.get_ylim()
    assert low < 80 and high > 95  # the end of every curve, and the teacher
    looks = {(line.get_color(), line.get_marker()) for line in axes.get_lines()[:3]}
    assert len(looks) == 3


def test_a_method_looks_the_same_in_every_setting(results: pd.DataFrame) -> None:
    styles = plots.line_styles(results)
    assert list(styles) == ["dafl", "deepinversion", "cmi", "cmi+rgal"]
    names = [f"m{i:03}" for i in range(280)]
    many = plots.line_styles(pd.DataFrame([trial(name, 0, 0, 1.0) for name in names]))
    assert len(set(many.values())) == 280


def test_labels_are_moved_apart_and_stay_below_the_top() -> None:
    heights = plots.spread_out([10.0, 98.0, 98.1, 98.2], gap=2.0, limits=(0.0, 100.0))
    assert heights[0] == 10.0 and heights[-1] <= 100.0
    assert all(after - before >= 2.0 - 1e-9 for before, after in zip(heights, heights[1:], strict=False))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 20, 400])
def test_markers_are_few_and_the_last_point_has_one(n: int) -> None:
    for offset in range(9):
        points = plots.marked_points(n, offset)
        assert points[-1] == n - 1 and len(set(points)) == len(points) <= 9
        assert all(0 <= point < n for point in points)


def test_the_range_leaves_out_the_climb_from_chance_but_no_end() -> None:
    climb = [10.0, 50.0, *[90.0 + i / 10 for i in range(18)]]
    data = pd.DataFrame({"method": "cmi", "top1_mean": climb, "top1_std": math.nan})
    levels = pd.DataFrame({"label": ["teacher"], "top1": [95.0], "kind": ["teacher"]})
    low, high = curve_module.y_range(data, levels)
    assert 85 < low < 91.7 and 95 < high < 96
    low, _ = curve_module.y_range(data.assign(top1_mean=10.0), levels)
    assert low < 10


def test_methods_of_very_different_cost_get_a_logarithmic_axis(
    results: pd.DataFrame, curves: pd.DataFrame
) -> None:
    assert plots.accuracy_versus_time(curves, results).axes[0].get_xscale() == "linear"
    curves.loc[curves["key"] == "deepinversion-0", "seconds"] *= 100
    assert plots.accuracy_versus_time(curves, results).axes[0].get_xscale() == "log"


def test_figures_without_curves_say_so(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    for data, rows, message in (
        (pd.DataFrame(), pd.DataFrame(), "no finished trials"),
        (curves, results[results["status"] == "failed"], "no finished trials"),
        (curves, results[~results["data_free"]], "no curve to show"),
    ):
        figure = plots.accuracy_versus_time(data, rows)
        assert [text.get_text() for text in figure.axes[0].texts] == [message]
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_dollars_and_underscores_in_names_are_text(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    results["method"] = results["method"].replace("cmi", "$c_m$i")
    svg = figure_bytes(plots.accuracy_versus_time(curves, results), "svg").decode()
    assert "$c_m$i" in svg  # text stays text, also for a search in the page


def test_drawing_changes_no_global_setting(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    before = dict(matplotlib.rcParams)
    figure_bytes(plots.accuracy_versus_time(curves, results), "svg")
    assert dict(matplotlib.rcParams) == before


# ---- grids --------------------------------------------------------------------------------------------------


def pixels_of(figure_png: bytes) -> np.ndarray:
    return (matplotlib.image.imread(io.BytesIO(figure_png))[..., :3] * 255).round().astype(np.uint8)


def canvas_of(images: torch.Tensor, labels: torch.Tensor, **options: object) -> np.ndarray:
    """The grid's array of pixels, as drawn on the axes."""
    return np.asarray(class_grid(images, labels, **options).axes[0].images[0].get_array())  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_classes_and_missing_images_are_blank(channels: int) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 255, (4, channels, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([2, 0, 2, 2])
    canvas = canvas_of(images, labels, per_class=2, class_names=("a", "b", "c"))
    step = 64 + GAP  # an 8-pixel image is enlarged eightfold
    assert canvas.shape == (3 * step - GAP, 2 * step - GAP, 3)
    for row, column, index in ((0, 0, 1), (2, 0, 0), (2, 1, 2)):
        cell = canvas[row * step : row * step + 64, column * step : column * step + 64]
        expected = images[index].expand(3, 8, 8).permute(1, 2, 0).numpy()
        assert (cell[::8, ::8] == expected).all() and (cell[7::8, 7::8] == expected).all()
    for row, column in ((0, 1), (1, 0), (1, 1)):
        cell = canvas[row * step : row * step + 64, column * step : column * step + 64]
        assert (cell == BLANK).all()


def test_labels_of_rows() -> None:
    images, labels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([5, 1, 5])
    texts = [text.get_text() for text in class_grid(images, labels).axes[0].texts]
    assert texts == ["1", "5"]
    figure = class_grid(images, labels, classes=[5, 0], class_names=("zero", "one"), title="cmi_$x$")
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "zero", "cmi_$x$"]


def test_at_most_ten_classes() -> None:
    images, labels = torch.zeros(12, 1, 4, 4, dtype=torch.uint8), torch.arange(12)
    assert [t.get_text() for t in class_grid(images, labels).axes[0].texts] == [str(i) for i in range(10)]
    with pytest.raises(ValueError, match="at most 10 classes, got 11"):
        class_grid(images, labels, classes=range(11))


@pytest.mark.parametrize("title", ["", "a title"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 36)])
def test_no_pixel_is_resampled_and_bytes_repeat(
    shape: tuple[int, int, int], title: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    images, labels = torch.randint(0, 255, (30, *shape), dtype=torch.uint8), torch.arange(30) % 10
    names = [f"class number {i}" for i in range(10)]
    path, again = tmp_path / "new" / "grid.png", tmp_path / "again.png"
    png = write_grid(path, images, labels, 3, class_names=names, title=title).read_bytes()
    assert png == write_grid(again, images, labels, 3, class_names=names, title=title).read_bytes()
    canvas, drawn = canvas_of(images, labels, per_class=3), pixels_of(png)
    height, width = canvas.shape[:2]
    bottom, right = drawn.shape[0] - 2 * GAP, drawn.shape[1] - 2 * GAP
    assert (drawn[bottom - height : bottom, right - width : right] == canvas).all()


def test_an_empty_pool_gives_blank_rows() -> None:
    none = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    assert (
        canvas_of(none, torch.zeros(0, dtype=torch.int64), per_class=1, class_names=("a",)) == BLANK
    ).all()
    assert figure_bytes(class_grid(none, torch.zeros(0, dtype=torch.int64)), "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("images", "labels", "per_class", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), 8, "expected uint8"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), torch.zeros(2), 8, "1 or 3"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3), 8, "expected 2 labels"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), 0, "at least 1"),
    ],
)
def test_wrong_grids_are_refused(
    images: torch.Tensor, labels: torch.Tensor, per_class: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_grid(images, labels, per_class)
