"""The report of each layer: ranges, errors, order; and a student that is left as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.tasks.quantization.layer_report import layer_report, sqnr
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import QuantizedNet
from tests.helpers import naive_quant, small
from tests.helpers.quant_builders import IMAGE, PLACEMENTS, W4A4, build, pictures, student_of


def slow_sqnr(signal: Tensor, quantized: Tensor) -> float | None:
    """10 log10(sum x^2 / sum (x - x^)^2), one number at a time."""
    pairs = list(zip(signal.flatten().tolist(), quantized.flatten().tolist(), strict=True))
    noise = math.fsum((a - b) ** 2 for a, b in pairs)
    power = math.fsum(a * a for a, _ in pairs)
    return 10 * math.log10(power / noise) if noise and power else None


# Signal to noise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sqnr_is_the_formula(noise: float, dtype: torch.dtype) -> None:
    x = (3 * small.randn(4, 5, 6)).to(dtype)
    y = (x + noise * small.randn(4, 5, 6, seed=1)).to(dtype)
    wanted = slow_sqnr(x, y)
    assert sqnr(x, y) == (wanted if wanted is None else pytest.approx(wanted, rel=1e-9))


def test_sqnr_by_hand() -> None:
    assert sqnr(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])) == pytest.approx(20.0)
    assert sqnr(torch.tensor([1.0]), torch.tensor([0.0])) == 0
    assert sqnr(torch.full((1000,), 1e30), torch.full((1000,), 0.9e30)) == pytest.approx(20, abs=1e-4)


def test_sqnr_has_no_value_without_noise_or_without_signal() -> None:
    x = small.randn(7)
    for signal, quantized in ((x, x), (torch.zeros(3), torch.ones(3)), (torch.zeros(2), torch.zeros(2))):
        assert sqnr(signal, quantized) is None
    assert sqnr(torch.empty(0), torch.empty(0)) is None


# Layers ---------------------------------------------------------------------------------------------------------


def executed(student: QuantizedNet, x: Tensor) -> list[tuple[str, str, Tensor, Tensor]]:
    """(kind, name, values, quantized values), in the order of calls."""
    calls: list[tuple[str, str, Tensor, Tensor]] = []
    handles = []

    def watch(module: nn.Module, kind: str, name: str) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            calls.append((kind, name, args[0].clone(), output.clone()))

        handles.append(module.register_forward_hook(hook))

    for name, layer in student.layers().items():
        watch(layer.quantizer, "weight", name)
    for name, quantizer in student.activations().items():
        watch(quantizer, "activation", name)
    with torch.no_grad():
        student(x)
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["resnet8", "wrn10_1", "lenet5"])
def test_layer_report_rows_are_weights_and_activations_in_forward_order(name: str, placement: str) -> None:
    student = student_of(build(name), placement)
    x = 1.5 * pictures(2, seed=4)
    rows, calls = layer_report(student, x), executed(student, x)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert len(rows) == len(student.layers()) + len(student.activations())
    assert [(row["kind"], row["layer"]) for row in rows] == [call[:2] for call in calls]
    for row, (kind, layer, value, rounded) in zip(rows, calls, strict=True):
        assert row["sqnr_db"] == pytest.approx(slow_sqnr(value, rounded), rel=1e-6)
        ends = (value.min().item(), value.max().item())
        if kind == "weight":
            assert (row["low"], row["high"], row["bits"]) == (*ends, 4)
            assert row["seen_low"] is row["seen_high"] is None
        else:
            quantizer = student.activations()[layer]
            assert (row["seen_low"], row["seen_high"], row["bits"]) == (*ends, quantizer.bits)
            assert (row["low"], row["high"]) == (quantizer.low.item(), quantizer.high.item())
    assert any(row["seen_high"] > row["high"] for row in rows if row["kind"] == "activation")


def test_sqnr_of_more_bits_is_higher() -> None:
    """Every bit is worth 6 dB."""
    weight = small.randn(500)
    ratios = {}
    for bits in (4, 6, 8):
        scale, zero_point = naive_quant.qparams_over(float(weight.min()), float(weight.max()), bits, False)
        rounded = [naive_quant.rounded(w, scale, zero_point, bits, False)[0] for w in weight.tolist()]
        ratios[bits] = sqnr(weight, torch.tensor(rounded))
    assert ratios[6] - ratios[4] == pytest.approx(12, abs=1.5)
    assert ratios[8] - ratios[6] == pytest.approx(12, abs=1.5)


class Twice(nn.Module):
    """One convolution in two places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(torch.relu(self.conv(x)))).mean((2, 3)))


def test_layer_report_of_a_weight_used_twice() -> None:
    rows = layer_report(student_of(Twice()), pictures())
    kinds = [(row["kind"], row["layer"]) for row in rows if row["kind"] == "weight"]
    assert kinds == [("weight", "conv"), ("weight", "fc")]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]


def test_layer_report_before_calibration_has_no_noise() -> None:
    rows = layer_report(quantize(build("lenet5"), IMAGE, W4A4), pictures())
    assert all(row["sqnr_db"] is None for row in rows if row["kind"] == "activation")
    assert all(row["sqnr_db"] > 5 for row in rows if row["kind"] == "weight")


# What is left ---------------------------------------------------------------------------------------------------


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.mark.parametrize("images", [IMAGE, (7, 16, 16)], ids=["right", "wrong"])
def test_layer_report_leaves_nothing_on_the_student(images: tuple[int, int, int]) -> None:
    """Also after images that it cannot take."""
    student = student_of(build("resnet8"), "deploy").requires_grad_(True)
    before, x = small.snapshot(student), small.randn(2, *images)
    foreign = student.activations()["conv1"].register_forward_hook(lambda *_: None)
    if images == IMAGE:
        layer_report(student, x)
    else:
        with pytest.raises(RuntimeError):
            layer_report(student, x)
    assert hooks(student) == 1
    foreign.remove()
    small.assert_same(small.snapshot(student), before)
    assert all(p.grad is None and p.requires_grad for p in student.parameters())
