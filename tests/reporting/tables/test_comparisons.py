"""How tables print comparisons: the column against the strongest baseline, bold cells, and the plug-in table."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.published import load_reference
from rgal.reporting.tables.column import difference, signed
from rgal.reporting.tables.write import group_tables
from tests.helpers.increment_builders import increment_trial, some_increments
from tests.helpers.reporting_builders import (
    REFERENCE,
    accuracy_of,
    by_method,
    case_trial,
    compile_latex,
    needs_tex,
    plugins_of,
    some_cases,
    some_results,
    trial,
    write_tables,
)

TITLE = "vs best baseline (points)"


def compared() -> pd.DataFrame:
    """Against cmi at seeds 0 to 2 (90, 92, 94): rgal +1, +2, +3; zskt -1, 0, +1; dafl -5 at seed 1; late at seed 9."""
    rows = [trial("cmi", 0, seed, 90.0 + 2 * seed) for seed in range(3)]
    rows += [trial("rgal", 1, seed, 91.0 + 3 * seed, student_seconds=1246.745 + 12.345) for seed in range(3)]
    rows += [trial("zskt", 2, seed, 89.0 + 3 * seed) for seed in range(3)]
    rows += [trial("dafl", 3, 1, 87.0), trial("late", 4, 9, 20.0)]
    return pd.DataFrame([*rows, trial("scratch", 9, 0, 99.0, data_free=False)])


def plugins(results: pd.DataFrame) -> pd.DataFrame:
    return plugins_of(results).cells()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.2, "+1.20"), (-0.4, "−0.40"), (0.0, "0.00"), (0.001, "+0.00"), (-0.001, "−0.00"), (math.nan, "")],
)
def test_differences_have_a_sign(value: float, text: str) -> None:
    assert signed(value) == text


def test_a_difference_has_its_interval_behind_it_if_there_is_one() -> None:
    assert difference(1.2, 0.4, 2.0, 3, 0.01) == "+1.20 [+0.40, +2.00]"
    assert difference(1.2, math.nan, math.nan, 2, math.nan) == "+1.20 (n = 2)"
    assert difference(*[math.nan] * 5) == ""


def test_rows_are_compared_with_the_strongest_baseline() -> None:
    table = accuracy_of(compared())
    shown = table.cells().set_index("Method")[TITLE].to_dict()
    assert shown == {
        "scratch †": "",  # a reference
        "cmi": "",  # the strongest baseline itself, although rgal and scratch are better
        "rgal": "+2.00 [−0.48, +4.48]",
        "zskt": "0.00 [−2.48, +2.48]",
        "dafl": "−5.00 (n = 1)",  # one shared seed
        "late": "",  # no shared seed
    }
    notes = table.notes
    assert any(note.startswith("vs best baseline: ") and "top-1 (cmi)" in note for note in notes)


def test_bold_is_what_is_significant() -> None:
    """rgal +1, +2, +3 twice: a t value of 6.2, of two comparisons that could be printed; zskt -1, 0, +1 twice."""
    rows = [trial("cmi", 0, seed, 90.0) for seed in range(6)]
    rows += [trial("rgal", 1, seed, 91.0 + seed % 3) for seed in range(6)]
    (main,) = group_tables(pd.DataFrame([*rows, trial("dafl", 3, 1, 85.0)]))
    bold = main.bold()
    assert bold.shape == main.cells().shape and list(bold.columns) == list(main.cells().columns)
    methods = main.cells()["Method"]
    assert list(methods[bold[TITLE]]) == ["rgal"] and not bold.drop(columns=TITLE).to_numpy().any()
    assert " **+2.00 [+1.06, +2.94]** |" in main.text("md") and main.text("md").count("**") == 4
    tex = main.text("tex")
    assert r"\textbf{+2.00 {[}+1.06, +2.94{]}}" in tex and tex.count(r"\textbf") == 1
    assert r"\ensuremath{-}5.00 (n = 1)" in tex


def test_csv_holds_the_raw_comparison() -> None:
    raw = pd.read_csv(io.StringIO(accuracy_of(compared()).text("csv"))).set_index("method")
    names = [f"vs_best_{part}" for part in ("mean_points", "low_points", "high_points", "seeds", "baseline")]
    assert list(raw.loc["rgal", names]) == [2.0, pytest.approx(-0.484138), pytest.approx(4.484138), 3, "cmi"]
    assert raw.loc["late", "vs_best_seeds"] == 0 and math.isnan(raw.loc["late", "vs_best_mean_points"])
    assert raw.loc["cmi", "vs_best_baseline"] == "cmi" and math.isnan(raw.loc["cmi", "vs_best_seeds"])
    assert pd.isna(raw.loc["scratch", "vs_best_baseline"])


@pytest.mark.parametrize("alone", ["rgal", "cmi", "scratch"])
def test_nothing_to_compare_is_no_column_and_no_note(alone: str) -> None:
    results = compared()
    table = accuracy_of(results[results["method"] == alone])
    assert TITLE not in table.cells() and not any("baseline" in note for note in table.notes)


def test_cases_name_their_own_baselines() -> None:
    table = accuracy_of(some_cases())
    assert table.cells().set_index(["Bits", "Method"]).loc[("W8A8", "zeroq"), TITLE] == "−2.00 (n = 1)"
    assert any("(gdfq)" in note for note in table.notes)
    better = pd.DataFrame([*some_cases().to_dict("records"), case_trial("w8a8", "zeroq", 0, 1, 99.0)])
    notes = " ".join(accuracy_of(better).notes)
    assert "highest mean top-1 (W8A8: zeroq; W4A4: gdfq)" in notes


def test_increments_are_compared_by_their_aia() -> None:
    shown = accuracy_of(some_increments()).cells().set_index("Method")
    column = shown["AIA vs best baseline (points)"].to_dict()
    assert column == {
        "joint †": "",
        "pass": "",
        "fetril": "−2.00 (n = 1)",
        "abd": "",
        "abd+rgal": "+6.46 (n = 1)",
    }
    notes = " ".join(accuracy_of(some_increments()).notes)
    assert "highest mean AIA (abd)" in notes


def test_the_plugin_table_has_a_row_for_every_host_with_rgal() -> None:
    rows = [trial("plain", 4, seed, 88.0 + 2 * seed) for seed in (0, 1)]
    rows += [trial("plain+rgal[follows=code]", 5, 0, 89.0), trial("fast+rgal", 6, 0, 70.0)]
    results = pd.concat([compared(), pd.DataFrame(rows)])
    shown = plugins(results)
    assert list(zip(shown["Host"], shown["With RGAL"], strict=True)) == [
        ("plain", "rgal"),
        ("plain", "plain+rgal[follows=code]"),
    ]
    assert shown.iloc[0].to_dict() == {
        "Host": "plain",
        "With RGAL": "rgal",
        "Host top-1 (%)": "89.00 ± 1.41",
        "Top-1 with RGAL (%)": "94.00 ± 3.00",  # of three seeds
        "Top-1 difference (points)": "+3.50 (n = 2)",  # of the two that plain has too
        "Shared seeds": "2",
        "Time (×)": "2.00",
    }


def test_the_time_of_a_plugin_is_that_of_the_shared_seeds() -> None:
    rows = [trial("cmi", 0, 0, 90.0, synthesis_seconds=10.0, student_seconds=10.0)]
    rows += [trial("cmi+rgal", 1, 0, 91.0, synthesis_seconds=20.0, student_seconds=10.0)]
    rows += [trial("cmi+rgal", 1, 1, 91.0, synthesis_seconds=900.0, student_seconds=10.0)]
    assert list(plugins_of(pd.DataFrame(rows)).numbers["time_ratio"]) == [1.5]
    for frame in (
        pd.DataFrame(rows).drop(columns="student_seconds"),
        pd.DataFrame(rows).assign(synthesis_seconds=0.0, student_seconds=0.0),
        pd.DataFrame(rows).assign(seed=math.nan),
    ):
        assert "Time (×)" not in plugins(frame) and len(plugins(frame)) == 1


def test_on_a_cpu_the_time_of_a_plugin_is_that_of_the_processor() -> None:
    """Seconds of the clock measure what else ran; where one trial lacks those of the processor, they remain."""
    spent = {"synthesis_cpu_seconds": 10.0, "student_cpu_seconds": 10.0, "device": "cpu"}
    rows = [
        trial("cmi", 0, 0, 90.0, synthesis_seconds=10.0, student_seconds=10.0, **spent),
        trial("cmi+rgal", 1, 0, 91.0, synthesis_seconds=99.0, student_seconds=1.0, **spent),
    ]
    table = plugins_of(pd.DataFrame(rows))
    assert list(table.cells()["CPU time (×)"]) == ["1.00"]
    assert any(note.startswith("CPU time: seconds of the processor, all threads") for note in table.notes)
    for other in ({"device": "cuda"}, {"student_cpu_seconds": math.nan}):
        assert list(plugins(pd.DataFrame([rows[0], {**rows[1], **other}]))["Time (×)"]) == ["5.00"]


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ({"device": "cpu"}, "1.50"),
        ({"device": "cuda"}, "320"),  # seconds of its processor say little of a GPU
        ({"device": "cpu", "student_cpu_seconds": math.nan}, "320"),
    ],
)
def test_on_a_cpu_the_table_of_results_prints_seconds_of_the_processor(
    recorded: dict[str, object], shown: str
) -> None:
    """A trial that was held up is not called slow; the CSV has both."""
    spent = {"student_seconds": 320.0, "synthesis_cpu_seconds": 2.5, "student_cpu_seconds": 1.5}
    frame = pd.DataFrame([trial("cmi", 0, 0, 90.0, **(spent | recorded))])
    table = accuracy_of(frame)
    assert list(table.cells()["Student (s)"]) == [shown]
    assert any("those of the processor" in note for note in table.notes) == (shown == "1.50")
    assert pd.read_csv(io.StringIO(table.text("csv")))["student_seconds"][0] == 320.0


def test_plugins_stay_inside_their_case_and_keep_its_order() -> None:
    pairs = [
        case_trial(case, name, order, seed, top1 + seed)
        for case, top1 in (("w4a4", 70.0), ("w8a8", 90.0))
        for name, order in (("gdfq", 0), ("gdfq+rgal", 1))
        for seed in range(2)
        if not (case == "w8a8" and name == "gdfq" and seed == 1)
    ]
    shown = plugins(pd.DataFrame([*pairs, case_trial("w2a2", "gdfq+rgal", 1, 0, 50.0)]))
    assert list(shown["Bits"]) == ["W8A8", "W4A4"] and list(shown["Shared seeds"]) == ["1", "2"]
    assert list(shown["Top-1 difference (points)"]) == ["0.00 (n = 1)", "0.00 (n = 2)"]


def test_plugins_of_increments_have_aia_and_last() -> None:
    rows = [increment_trial("abd[source=cmi]", 0, seed, 60.0 + seed) for seed in range(2)]
    name = "abd[source=cmi]+rgal[spread=0.01]"
    rows += [{**increment_trial(name, 1, seed, 62.0 + seed), "last": 49.0 + seed} for seed in range(2)]
    row = plugins(pd.DataFrame(rows)).iloc[0]
    assert row["With RGAL"] == name
    assert row["AIA difference (points)"] == "+2.00 (n = 2)"
    assert row["Last difference (points)"] == "−1.00 (n = 2)"
    assert (row["Host last (%)"], row["Last with RGAL (%)"]) == ("50.50 ± 0.71", "49.50 ± 0.71")


def test_a_host_on_real_data_is_marked() -> None:
    rows = [trial(name, i, 0, 90.0, data_free=False) for i, name in enumerate(("real_kd", "real_kd+rgal"))]
    table = plugins_of(pd.DataFrame(rows))
    assert table.cells()["Host"].item() == "real_kd †"
    assert table.notes[-1].startswith("† Trained on real data")


@pytest.mark.parametrize("how", ["no pair", "host failed", "plug-in failed", "empty"])
def test_without_a_pair_there_is_no_plugin_table(how: str, tmp_path: Path) -> None:
    results = some_results()
    frame = {
        "no pair": results[results["method"] != "cmi+rgal"],
        "host failed": results.assign(status=results["status"].where(results["method"] != "cmi", "failed")),
        "plug-in failed": results.assign(
            status=results["status"].where(results["method"] != "cmi+rgal", "failed")
        ),
        "empty": pd.DataFrame(),
    }[how]
    assert not plugins_of(frame).rows
    assert not [path for path in write_tables(frame, tmp_path) if "plugin" in path.name]


def test_several_settings_are_refused() -> None:
    results = some_results()
    results.loc[0, "setting"] = "other"
    with pytest.raises(ValueError, match="one setting"):
        plugins_of(results)


@needs_tex
def test_wide_tables_compile_and_fit_on_the_sheet(tmp_path: Path) -> None:
    names = ("abd", "abd+rgal", "abd[source=cmi]", "abd[source=cmi]+rgal[spread=0.01,gather=0.02]")
    wide = [
        increment_trial(name, i, s, 40.0 + 10 * i - s * i) for i, name in enumerate(names) for s in range(3)
    ]
    for stem, frame in {"necil": pd.DataFrame(wide), "kd": compared()}.items():
        for path in write_tables(frame, tmp_path / stem, load_reference(REFERENCE)):
            if path.suffix == ".tex" and not path.stem.endswith("_compact"):
                compile_latex(path)


@pytest.mark.parametrize("missing", ["seed", "synthesis_seconds", "student_seconds", "data_free", "order"])
def test_a_missing_column_is_left_blank(missing: str) -> None:
    for table in group_tables(some_results().drop(columns=missing), load_reference(REFERENCE)):
        for fmt in ("md", "tex"):
            assert not re.search(r"\b(nan|none|null|inf)\b", table.text(fmt), re.IGNORECASE)  # type: ignore[arg-type]


def test_the_measured_numbers_beside_published_ones_are_described() -> None:
    reference = load_reference(REFERENCE)
    note = accuracy_of(some_results(), reference).notes[-1]
    assert "Best test accuracy over epochs" in note
    assert note.endswith("Measured beside it: the last evaluation, at the steps in the table.")
    stored = accuracy_of(some_results().assign(encoding="JPEG"), reference).notes[-1]
    assert stored.endswith("at the steps in the table, on images that are stored as JPEG.")
    failed = some_results().assign(status="failed")
    assert "Measured" not in accuracy_of(failed, reference).notes[-1]
    phases = accuracy_of(some_increments(), reference).notes[-1]
    assert "not the best over epochs" in phases and "the last evaluation" in phases
    assert by_method(accuracy_of(some_results(), reference)).loc["scratch", "published_percent"] == 91.12
