"""The quantization task through the command line: options, cases, records, exports, and what can go wrong."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from tests.helpers.processor import EXACT
from tests.helpers.reporting_builders import count_drawings
from tests.helpers.suites import DFQ_SUITE, fails, leave_out_the_report

EXTRA = ("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite file and a results directory with one finished trial in each placement, and one more width."""
    folder = tmp_path_factory.mktemp("dfq")
    (folder / "suite.yaml").write_text(DFQ_SUITE)
    with pytest.MonkeyPatch.context() as patch:
        count_drawings(patch)
        assert call(folder, "--bits", "w8a8", "w4a4") == 0
        leave_out_the_report(patch)
        assert call(folder, "--bits", EXACT, "--set", "placement=deploy") == 0
    return folder


def call(folder: Path, *arguments: str) -> int:
    fixed = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / "results"), "--jobs", "0"]
    return cli.main([*fixed, *arguments])


def records(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any], Path]]:
    """(settings, result, folder) of every trial."""
    return [
        (
            json.loads((t / "trial.json").read_text())["settings"],
            json.loads((t / "result.json").read_text()),
            t,
        )
        for t in sorted((folder / "results" / "trials").iterdir())
    ]


def trial(folder: Path, bits: str, placement: str) -> tuple[dict[str, Any], Path]:
    return next(
        (result, where)
        for settings, result, where in records(folder)
        if settings["options"]["bits"] == bits and settings["options"]["placement"] == placement
    )


def test_every_width_is_a_trial_of_its_own(workplace: Path) -> None:
    settings = [s for s, _, _ in records(workplace)]
    assert sorted((s["case"], s["options"]["placement"]) for s in settings) == [
        ("w4a4", "paper"), (EXACT, "deploy"), ("w8a8", "paper"),
    ]  # fmt: skip
    assert {s["setting"] for s in settings} == {
        "digits wrn10_1, paper placement",
        "digits wrn10_1, deploy placement",
    }


def test_a_trial_records_its_size_and_its_layers(workplace: Path) -> None:
    wide, _ = trial(workplace, "w8a8", "paper")
    narrow, where = trial(workplace, "w4a4", "paper")
    assert narrow["model_mb"] < wide["model_mb"] < narrow["float_mb"] == wide["float_mb"]
    assert narrow["left_float"] == []
    layers = json.loads((where / "layers.json").read_text())["layers"]
    assert [row["index"] for row in layers] == list(range(len(layers)))
    assert len([row for row in layers if row["kind"] == "weight"]) == 10
    assert all(row["bits"] == 4 and row["low"] <= row["high"] for row in layers)


def test_tables_and_plots_have_the_widths(workplace: Path) -> None:
    (table,) = (workplace / "results" / "tables").glob("*paper*_smoke.md")
    text = table.read_text()
    assert "| Bits" in text and text.index("W8A8") < text.index("W4A4")
    assert "Model (MB)" in text
    plots = {p.name for p in (workplace / "results" / "plots").glob("*.png")}
    assert any(name.endswith("_cases.png") for name in plots)
    assert any(name.endswith("_w4a4_layers.png") for name in plots)


def test_common_draws_at_every_width(workplace: Path) -> None:
    """Methods are compared at several widths on the same draws: the teacher's images of the first round are equal."""
    (a, b) = (trial(workplace, bits, "paper")[1] / "metrics.jsonl" for bits in ("w8a8", "w4a4"))
    first = [json.loads(p.read_text().splitlines()[0]) for p in (a, b)]
    assert first[0]["bn"] == first[1]["bn"] and first[0]["oh"] == first[1]["oh"]


@pytest.mark.usefixtures("no_plots", "no_pictures")
def test_a_layer_left_in_float_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rgal.tasks.quantization import task as dfq
    from rgal.tasks.quantization.quantized_net import Coverage

    (tmp_path / "suite.yaml").write_text(DFQ_SUITE)
    original = dfq.quantized_student

    def incomplete(job: Any) -> Any:
        student = original(job)
        student.coverage = Coverage(student.coverage.quantized, ("block1.extra",), ())
        return student

    monkeypatch.setattr(dfq, "quantized_student", incomplete)
    assert call(tmp_path) == 0
    ((_, result, _),) = records(tmp_path)
    assert result["left_float"] == ["block1.extra"]
    (table,) = (tmp_path / "results" / "tables").glob("*_smoke.md")
    assert "block1.extra" in table.read_text()


BAD = {
    "one width": (["--bits", "w4"], "bits 'w4': expected wKaK"),
    "width 1": (["--bits", "w1a4"], "widths are 2 to 8"),
    "width 9": (["--bits", "w8a9"], "widths are 2 to 8"),
    "widths twice": (["--bits", "w4a4", "W4A4"], "w4a4 is given twice"),
    "unknown placement": (["--set", "placement=papr"], "placement: Input should be 'paper' or 'deploy'"),
    "unknown range": (["--set", "activation_range=minmx"], "activation_range: Input should be"),
    "unknown option": (["--set", "placemnt=deploy"], "did you mean 'placement'"),
    "percentile": (["--set", "percentile=20"], "percentile: Input should be greater than 50"),
    "student": (["--student", "resnet8"], "makes its student from the teacher"),
    "kd method": (["--methods", "scratch"], "method 'scratch' is not for task 'dfq'"),
    "unknown format": (["--export", "tflite"], "valid: onnx"),
    "unknown trial": (["--export-only", "0123456789ab"], "no such trial"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[name]
    assert expected in fails(workplace, capsys, *arguments)


def test_bits_are_no_option_of_distillation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--task", "kd", "--bits", "w4a4", "--results", str(tmp_path)]) == 2
    assert "options of task 'kd': none" in capsys.readouterr().err
    assert cli.main(["--task", "necil", "--export", "onnx", "--results", str(tmp_path)]) == 2
    assert "task 'necil' has nothing to export" in capsys.readouterr().err


def test_export_needs_the_extra(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    key = trial(workplace, EXACT, "deploy")[1].name
    assert "pip install -e .[onnx]" in fails(workplace, capsys, "--export-only", key)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_export_to_a_read_only_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, where = trial(workplace, "w4a4", "paper")
    where.chmod(0o500)
    try:
        assert "cannot be written" in fails(workplace, capsys, "--export-only", where.name)
    finally:
        where.chmod(0o755)


@pytest.mark.usefixtures("no_plots")
def test_export_of_a_finished_trial(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--export-only by key; --export for a whole suite leaves alone what is exported; the table shows it."""
    for name in EXTRA:
        pytest.importorskip(name)
    result, where = trial(workplace, EXACT, "deploy")
    assert call(workplace, "--export-only", where.name.rpartition("-")[2]) == 0
    measured = json.loads((where / "export.json").read_text())["measured"]
    assert measured["onnx_agreement"] >= 0.99
    assert measured["onnx_top1"] == pytest.approx(result["last"], abs=1.0)
    assert measured["integer_layers"] > 0
    before = (where / "export.json").stat().st_mtime_ns
    assert call(workplace, "--bits", EXACT, "--set", "placement=deploy", "--export", "onnx") == 0
    assert (where / "export.json").stat().st_mtime_ns == before
    (table,) = (workplace / "results" / "tables").glob("*deploy*_export.md")
    assert "Integer layers" in table.read_text()
    assert "Integer layers" in capsys.readouterr().out
