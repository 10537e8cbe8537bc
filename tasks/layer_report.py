"""What quantization does to each layer: the ranges that were chosen, the ranges that occur, the error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tasks.fake_quant import ActivationQuantizer
from tasks.quantize import QuantizedNet


def sqnr(signal: Tensor, quantized: Tensor) -> float | None:
    """Signal to quantization noise ratio in dB: 10 log10(sum x^2 / sum (x - x^)^2); None where it has no value."""
    noise = float((signal.double() - quantized.double()).square().sum())
    power = float(signal.double().square().sum())
    return 10 * math.log10(power / noise) if noise > 0 and power > 0 else None


@torch.no_grad()
def layer_report(student: QuantizedNet, images: Tensor) -> list[dict[str, Any]]:
    """One mapping a quantizer: activations in the order of the forward pass, then weights.

    images: (N,C,H,W), normalised; the ranges that occur, and the errors of activations, are theirs.
    """
    rows: list[dict[str, Any]] = []

    def watch(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, ActivationQuantizer)
            x = inputs[0]
            rows.append(
                {
                    "layer": name,
                    "kind": "activation",
                    "bits": module.bits,
                    "low": float(module.low),
                    "high": float(module.high),
                    "seen_low": float(x.min()),
                    "seen_high": float(x.max()),
                    "sqnr_db": sqnr(x, output),
                }
            )

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in student.activations().items()]
    try:
        student(images)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in student.layers().items():
        weight = layer.weight
        about = {"layer": name, "kind": "weight", "bits": layer.quantizer.bits}
        about |= {
            "low": float(weight.min()),
            "high": float(weight.max()),
            "seen_low": None,
            "seen_high": None,
        }
        rows.append(about | {"sqnr_db": sqnr(weight, layer.quantizer(weight))})
    return [{"index": index, **row} for index, row in enumerate(rows)]
