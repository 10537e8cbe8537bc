"""Tables of a task with cases, such as bit widths: one row a (case, method), and nothing new without cases."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.published import load_reference
from rgal.reporting.results import ResultGroup, cases
from rgal.reporting.tables.notes import row_names
from tests.helpers.reporting_builders import (
    REFERENCE,
    accuracy_of,
    case_trial,
    compile_latex,
    exports_of,
    needs_tex,
    some_cases,
    some_results,
    trial,
    write_tables,
)

results = pytest.fixture(some_cases)

KD_MARKDOWN = """\
| Method        |    Top-1 (%) |      n |   vs best baseline (points) |\
   Drop (points) |   Images |   Synthesis steps |   Student steps |\
   Synthesis (s) |   Student (s) |   Published (%) |    Its teacher (%) |
|:--------------|-------------:|-------:|----------------------------:|\
----------------:|---------:|------------------:|----------------:|\
----------------:|--------------:|----------------:|-------------------:|
| scratch †     |        91.50 |      1 |                             |\
            3.50 |        0 |                 0 |          40,000 |\
               0 |          12.3 |           91.12 | 94.87 (ours +0.13) |
"""
KD_NOTES = [
    "Top-1: test accuracy at the last evaluation, not the best. Drop: teacher minus student. Seconds are those of the "
    "clock, whatever else the machine did meanwhile. Mean ± sample standard "
    "deviation over the n finished trials; other columns: means over the same trials.",
    "Teacher: 95.00 % top-1.",
    "vs best baseline: mean difference to the data-free method without RGAL that has the highest mean top-1 (cmi), "
    "over the seeds that both have finished. In brackets: its 95 % t interval, from 3 shared seeds (n) on; bold: "
    "p < 0.05 in a paired t test from 5 shared seeds on, after Holm's correction for 3 possible comparisons.",
    "† Trained on real data: a reference, not data-free.",
    "dafl: 2 of 2 trials without a result (failed: out of memory).",
    "deepinversion: 1 of 2 trials without a result (interrupted).",
    "Published: not measured here. Best test accuracy over epochs, on the original data and pair, with the "
    "authors' own teacher and budget. Source: README of github.com/zju-vipa/CMI "
    "(Fang et al., IJCAI 2021, arXiv:2105.08584), results table 1 (80,000 student steps in its scripts). Measured "
    "beside it: the last evaluation, at the steps in the table.",
]
KD_CSV = (
    "method,data_free,top1_mean_percent,top1_std_points,finished,planned,vs_best_mean_points,vs_best_low_points,"
    "vs_best_high_points,vs_best_seeds,vs_best_holm_p,vs_best_baseline,drop_points,images,synthesis_steps,student_steps,synthesis_seconds,student_seconds,published_percent,published_source,published_teacher_percent,published_teacher_difference_points"
)


@pytest.mark.parametrize(
    "unknown",
    [{}, {"case": math.nan}, {"case": ""}, {"case": None, "case_order": math.nan, "case_title": math.nan},
     {"model_mb": math.nan, "float_mb": math.nan, "latency_ms_64": math.nan, "onnx_top1": math.nan}],
)  # fmt: skip
def test_tables_without_cases_are_as_they_were(unknown: dict[str, object], tmp_path: Path) -> None:
    frame = some_results().assign(**unknown)
    table = accuracy_of(frame, load_reference(REFERENCE))
    assert KD_MARKDOWN in table.text("md") and table.notes == KD_NOTES
    assert table.text("csv").splitlines()[0] == KD_CSV
    tex = table.text("tex")
    assert r"\begin{tabular}{lrrrrrrrrrrr}" in tex and r"\medskip\small" in tex and "[landscape," in tex
    written = [path for path in write_tables(frame, tmp_path) if "_compact" not in path.name]
    assert [path.suffix for path in written] == [".md", ".csv", ".tex"] * 2


def test_rows_follow_the_cases_then_the_methods(results: pd.DataFrame) -> None:
    shown = accuracy_of(results).cells()
    assert list(shown.columns[:2]) == ["Bits", "Method"]
    expected = [(case, name) for case in ("W8A8", "W4A4") for name in ("ptq †", "zeroq", "gdfq")]
    assert list(zip(shown["Bits"], shown["Method"], strict=True)) == expected


def test_means_stay_inside_a_case(results: pd.DataFrame) -> None:
    table = accuracy_of(results).numbers.set_index(["case", "method"])
    assert table.loc[("w8a8", "gdfq"), "top1_mean_percent"] == 93.0
    assert table.loc[("w4a4", "gdfq"), "top1_mean_percent"] == 82.0
    assert table.loc[("w4a4", "gdfq"), "drop_points"] == 13.0
    assert table.loc[("w4a4", "gdfq"), "top1_std_points"] == pytest.approx(math.sqrt(8))
    assert list(table["model_mb"].dropna()) == [0.25, 0.25, 0.25, 0.125, 0.125]


def test_a_method_that_failed_in_a_case_keeps_its_row(results: pd.DataFrame) -> None:
    table = accuracy_of(results)
    row = table.cells().set_index(["Bits", "Method"]).loc[("W4A4", "zeroq")]
    assert row["n"] == "0 of 1" and row["Top-1 (%)"] == "" and row["Model (MB)"] == ""
    assert "zeroq at W4A4: 1 of 1 trials without a result (failed: out of memory)." in table.notes


def test_equal_failures_in_several_cases_share_a_line() -> None:
    failed = {"status": "failed", "reason": "out of memory"}
    frame = pd.DataFrame([case_trial(case, "gdfq", 0, 0, math.nan, **failed) for case in ("w8a8", "w4a4")])
    table = accuracy_of(frame)
    assert len(table.rows) == 2 and "No finished trials." in table.notes
    assert "gdfq at W8A8, W4A4: 1 of 1 trials each without a result (failed: out of memory)." in (table.notes)


def test_notes_say_what_is_compared(results: pd.DataFrame) -> None:
    notes = accuracy_of(results).notes
    assert "Drop: teacher minus student." in notes[0]
    assert "Float model: 1.000 MB." in notes
    latency = next(note for note in notes if note.startswith("Speed-up"))
    assert "ONNX Runtime, batch 64, float model over exported model, same run" in latency


def test_the_speed_up_is_the_mean_of_the_trials_quotients(results: pd.DataFrame) -> None:
    """One number for one thing: it is the speed-up of the table of exported models."""
    shown = accuracy_of(results).cells().set_index(["Bits", "Method"])["Speed-up (×)"]
    assert shown["W8A8", "gdfq"] == "2.50"  # 50/25 and 60/20
    assert shown["W4A4", "gdfq"] == "0.50" and shown["W8A8", "zeroq"] == ""
    exports = exports_of(results).cells().set_index(["Bits", "Method"])["b64 speed-up (×)"]
    assert all(shown[row] == text for row, text in exports.items())
    results["latency_ms_64"] = 0.0
    assert "Speed-up (×)" not in accuracy_of(results).cells()


@pytest.mark.parametrize(
    ("missing", "title"),
    [
        ("model_mb", "Model (MB)"),
        ("latency_ms_64", "Speed-up (×)"),
        ("float_latency_ms_64", "Speed-up (×)"),
    ],
)
def test_a_column_is_printed_only_where_a_number_is_known(
    results: pd.DataFrame, missing: str, title: str
) -> None:
    for frame in (results.drop(columns=missing), results.assign(**{missing: math.nan})):
        table = accuracy_of(frame)
        assert title not in table.cells()
        assert not any(note.startswith(title.split(" (")[0]) for note in table.notes)
        assert not re.search(r"\b(nan|none|null)\b", table.text("md"), re.IGNORECASE)


def test_the_size_of_the_float_model_may_be_unknown(results: pd.DataFrame) -> None:
    table = accuracy_of(results.drop(columns="float_mb"))
    assert "Model: weights packed at their bit width." in table.notes


def test_one_case_keeps_its_column_and_no_title_is_needed(results: pd.DataFrame) -> None:
    one = results[results["case"] == "w4a4"].drop(columns=["case_order", "case_title"])
    assert list(accuracy_of(one).cells()["Case"].unique()) == ["W4A4"]


def test_cases_without_an_order_follow_their_names(results: pd.DataFrame) -> None:
    assert list(cases(results)) == ["w8a8", "w4a4"]
    assert list(cases(results.assign(case_order=math.nan))) == ["w4a4", "w8a8"]
    assert list(cases(pd.DataFrame())) == [] and list(cases(some_results())) == [""]


def test_csv_has_the_raw_case_first(results: pd.DataFrame) -> None:
    table = pd.read_csv(io.StringIO(accuracy_of(results).text("csv")))
    assert table.columns[0] == "case" and list(table["case"].unique()) == ["w8a8", "w4a4"]
    row = table.set_index(["case", "method"]).loc[("w8a8", "gdfq")]
    assert row["speedup_64"] == pytest.approx((2 + 3) / 2) and row["float_mb"] == 1.0


def test_rules_between_cases_and_shorter_ones_inside(results: pd.DataFrame) -> None:
    text = accuracy_of(results).text("tex")
    assert r"\begin{tabular}{llrrrrrrrrrrr}" in text
    _, first, second = text.split(r"\midrule")  # below the head, and between the cases
    assert "W8A8" in first and "W4A4" not in first and "W8A8" not in second
    for case in (first, second):
        above, below = case.split(r"\cmidrule(l){2-13}")
        assert "ptq" in above and "zeroq" in below and "gdfq" in below


def test_the_rows_of_a_remark_are_named_briefly(results: pd.DataFrame) -> None:
    every = list(ResultGroup(results).rows)
    assert row_names([("w8a8", "gdfq"), ("w4a4", "gdfq")], every) == "gdfq"
    assert row_names([("w4a4", name) for name in ("ptq", "zeroq", "gdfq")], every) == "W4A4 (all)"
    assert row_names([("w8a8", "gdfq"), ("w4a4", "zeroq")], every) == "W8A8 (gdfq); W4A4 (zeroq)"
    assert row_names([("", "cmi")], list(ResultGroup(some_results()).rows)) == "cmi"


def test_image_notes_name_the_cases_they_concern(results: pd.DataFrame) -> None:
    results["image_note"] = results["case"].map({"w8a8": "", "w4a4": "kept from W8A8"})
    results.loc[results["method"] == "zeroq", "image_note"] = "one batch"
    notes = accuracy_of(results).notes
    assert "Images of W4A4 (ptq, gdfq): kept from W8A8." in notes
    assert "Images of W8A8 (zeroq): one batch." in notes  # at W4A4 it failed


def test_rows_with_and_without_a_case_stay_apart(results: pd.DataFrame) -> None:
    mixed = pd.concat([results, pd.DataFrame([trial("gdfq", 1, 5, 50.0)])])
    mixed = mixed.assign(task="dfq", setting="s")
    table = accuracy_of(mixed).numbers.set_index(["case", "method"])
    assert table.loc[("", "gdfq"), "top1_mean_percent"] == 50.0
    assert table.loc[("w8a8", "gdfq"), "top1_mean_percent"] == 93.0


@needs_tex
def test_latex_with_cases_compiles_as_it_is(results: pd.DataFrame, tmp_path: Path) -> None:
    many = pd.concat([results.assign(case=f"[w{i}_a&4]", case_order=i) for i in range(12)])
    for name, frame in {"few": results, "many": many}.items():
        for path in write_tables(frame, tmp_path / name, load_reference(REFERENCE)):
            if path.suffix == ".tex" and not path.stem.endswith("_compact"):
                compile_latex(path)
