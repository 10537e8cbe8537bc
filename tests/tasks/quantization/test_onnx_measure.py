"""What is measured of exported models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rgal.data.batches import to_float
from rgal.data.dataset import ImageSet
from rgal.tasks.quantization import onnx_measure
from rgal.tasks.quantization.onnx_file import ExportInfo
from rgal.tasks.quantization.onnx_measure import measure, note, simulated
from rgal.tasks.quantization.runtime import open_session, run
from tests.helpers import small
from tests.helpers.onnx_builders import DOMAIN, ready, tiny
from tests.helpers.processor import EXACT


def test_note_says_what_does_not_run_as_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_measure, "sums_bytes_exactly", lambda: True)

    def of(bits: str, placement: str, integers: int, net: nn.Module | None = None) -> str:
        return note(ready(net or tiny(), bits, placement=placement), ExportInfo(Path(), 0.0, 5), integers)

    assert of("w8a8", "deploy", 5) == ""
    assert of("w8a8", "deploy", 5, small.network("wrn10_1", DOMAIN)) == "4 batch norms run in float"
    assert of("w8a8", "deploy", 4) == "4 of 5 layers run as integers"
    assert of("w8a8", "paper", 0) == "paper placement: 0 of 5 layers run as integers"
    wanted = "w4a8: weights stored in 4 bits, computed in float by ONNX Runtime: simulated"
    assert of("w4a8", "deploy", 0) == wanted

    monkeypatch.setattr(onnx_measure, "sums_bytes_exactly", lambda: False)
    overflow = "8-bit sums overflow on this processor, which has no VNNI: w7a8 would be exact"
    assert of("w8a8", "deploy", 5) == overflow
    assert of("w8a8", "deploy", 4) == f"4 of 5 layers run as integers; {overflow}"
    assert of("w7a8", "deploy", 5) == of("w8a7", "deploy", 5) == ""
    assert "overflow" not in of("w8a8", "paper", 0)


def test_measure_leaves_networks_and_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_measure, "_SECONDS", 0.02)
    net = tiny()
    student = ready(net, EXACT).train()
    images = (small.rand(300, *DOMAIN.shape) * 255).to(torch.uint8)
    with torch.no_grad():
        labels = student(DOMAIN.normalise(to_float(images))).argmax(1)
        logits = net(DOMAIN.normalise(to_float(images)))
    labels[:75] = (labels[:75] + 1) % 4
    state, code, modules = small.snapshot(student), student.graph.code, dict(student.named_modules())

    actual = measure(student, net, DOMAIN, images, labels, tmp_path)

    assert set(actual) == {
        *("onnx_top1", "onnx_agreement", "onnx_mb", "onnx_float_mb", "integer_layers", "layers", "onnx_note"),
        *("latency_ms_1", "latency_ms_64", "float_latency_ms_1", "float_latency_ms_64"),
    }
    assert actual["onnx_top1"] == pytest.approx(75, abs=1)
    assert actual["onnx_agreement"] >= 0.99
    assert actual["onnx_mb"] * 1e6 == (tmp_path / "model.onnx").stat().st_size
    assert actual["onnx_float_mb"] * 1e6 == (tmp_path / "model_float.onnx").stat().st_size
    assert (actual["integer_layers"], actual["layers"], actual["onnx_note"]) == (2, 2, "")
    assert all(value > 0 for key, value in actual.items() if "latency" in key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model_float.onnx"]
    torch.testing.assert_close(run(open_session(tmp_path / "model_float.onnx"), to_float(images)), logits)
    small.assert_same(student.state_dict(), state)
    assert student.graph.code == code
    assert dict(student.named_modules()) == modules
    assert all(module.training for module in student.modules())
    assert capfd.readouterr() == ("", "")


def test_simulated_classes_are_those_of_full_precision() -> None:
    student = ready(tiny()).train()
    images = (small.rand(70, *DOMAIN.shape) * 255).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        actual = simulated(student, DOMAIN, ImageSet(images, torch.zeros(70, dtype=torch.int64)))
    with torch.no_grad():
        assert torch.equal(actual, student(DOMAIN.normalise(to_float(images))).argmax(1))
    assert student.training
