"""The table of exported models against hand-computed numbers."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.reporting_builders import (
    case_trial,
    exported,
    exports_of,
    some_cases,
    some_results,
    write_tables,
)

results = pytest.fixture(some_cases)
MEASURED = list(exported(0.3, 1.0, 1.0))


def test_means_over_the_exported_trials_only(results: pd.DataFrame) -> None:
    shown = exports_of(results).cells().set_index(["Bits", "Method"])
    assert list(shown.index) == [("W8A8", "gdfq"), ("W4A4", "gdfq")]
    assert shown.loc[("W8A8", "gdfq")].to_dict() == {
        "Simulated top-1 (%)": "93.00",
        "ONNX top-1 (%)": "91.00",
        "Agreement (%)": "98.00",
        "Integer layers": "21 of 21",
        "File (MB)": "0.300",
        "File / float": "0.250",
        "b1 (ms)": "0.500",
        "b1 speed-up (×)": "2.00",
        "b64 (ms)": "22.5",
        "b64 speed-up (×)": "2.50",  # of 2 and 3, not 55 / 22.5
        "n": "2",
    }
    four = shown.loc[("W4A4", "gdfq")]
    assert four["Simulated top-1 (%)"] == "80.00"  # without the seed that was not exported
    assert (four["Integer layers"], four["b64 speed-up (×)"], four["n"]) == ("0 of 21", "0.50", "1")


def test_notes_name_the_rows_they_concern(results: pd.DataFrame) -> None:
    notes = exports_of(results).notes
    assert "Export of W4A4 (all): 4-bit activations run as float." in notes
    assert "Not exported: ptq, zeroq." in notes
    assert any("float model over exported model, same run" in note for note in notes)
    results.loc[results["method"] == "zeroq", "onnx_agreement"] = 1.0
    assert "Not exported: W8A8 (ptq); W4A4 (ptq, zeroq)." in exports_of(results).notes


def test_only_finished_trials_are_exported(results: pd.DataFrame) -> None:
    results.loc[results["case"] == "w4a4", "status"] = "interrupted"
    assert list(exports_of(results).numbers["case"]) == ["w8a8"]


@pytest.mark.parametrize("how", ["dropped", "nan", "failed", "empty"])
def test_nothing_exported_is_no_table_and_no_file(results: pd.DataFrame, how: str, tmp_path: Path) -> None:
    frame = {
        "dropped": results.drop(columns=MEASURED),
        "nan": results.assign(**dict.fromkeys(MEASURED, math.nan)),
        "failed": results.assign(status="failed"),
        "empty": pd.DataFrame(),
    }[how]
    assert not exports_of(frame).rows
    assert not [path for path in write_tables(frame, tmp_path) if "export" in path.name]


def test_files_stand_beside_the_accuracy_table(results: pd.DataFrame, tmp_path: Path) -> None:
    stem = "dfq_cifar10-resnet20-paper-placement_small"
    names = [path.name for path in write_tables(results, tmp_path)]
    ends = [f"{end}.{fmt}" for end in ("", "_export") for fmt in ("md", "csv", "tex")]
    assert names == [stem + end for end in (*ends[:3], "_compact.tex", *ends[3:])]
    assert "| W8A8" in (tmp_path / f"{stem}_export.md").read_text(encoding="utf-8")
    raw = pd.read_csv(tmp_path / f"{stem}_export.csv").set_index("case")
    assert raw.loc["w8a8", "speedup_64"] == 2.5 and raw.loc["w8a8", "file_ratio"] == pytest.approx(0.25)
    assert raw.loc["w8a8", "agreement_percent"] == pytest.approx(98.0)


@pytest.mark.parametrize("missing", MEASURED)
def test_a_missing_measurement_is_left_out(results: pd.DataFrame, missing: str) -> None:
    table = exports_of(results.drop(columns=missing))
    for fmt in ("md", "tex"):
        assert not re.search(r"\b(nan|none|null|inf)\b", table.text(fmt), re.IGNORECASE)
    shown = table.cells()
    assert ("b64 (ms)" in shown) == (missing != "latency_ms_64")
    assert ("b64 speed-up (×)" in shown) == (missing not in ("latency_ms_64", "float_latency_ms_64"))
    assert ("Integer layers" in shown) == (missing != "integer_layers")
    if missing == "layers":
        assert set(shown["Integer layers"]) == {"21", "0"}


def test_no_latency_no_note_on_it(results: pd.DataFrame) -> None:
    table = exports_of(results.drop(columns=["latency_ms_1", "latency_ms_64"]))
    assert not any("speed-up" in note for note in table.notes)


def test_trials_that_differ_in_integer_layers_have_a_decimal() -> None:
    both = [
        case_trial("w8a8", "gdfq", 0, seed, 90.0, **exported(0.3, 1.0, 1.0, integer_layers=20 + seed))
        for seed in (0, 1)
    ]
    shown = exports_of(pd.DataFrame(both)).cells()
    assert shown.loc[0, "Integer layers"] == "20.5 of 21"


def test_a_task_without_cases_has_no_case_column() -> None:
    frame = some_results().assign(task="dfq", **exported(0.5, 2.0, 3.0))
    table = exports_of(frame)
    assert list(table.cells()["Method"]) == ["scratch †", "deepinversion", "cmi", "cmi+rgal"]
    assert "case" not in pd.read_csv(io.StringIO(table.text("csv")))
    assert "Not exported: dafl." in table.notes


def test_latex_shares_headings(results: pd.DataFrame) -> None:
    text = exports_of(results).text("tex")
    for part in (r"\multicolumn{2}{c}{Batch 64}", r"speed-up (\ensuremath{\times})", "exported to ONNX"):
        assert part in text
    assert len(text.split(r"\midrule")) == 3


def test_several_settings_are_refused(results: pd.DataFrame) -> None:
    results.loc[0, "setting"] = "other"
    with pytest.raises(ValueError, match="one setting"):
        exports_of(results)
