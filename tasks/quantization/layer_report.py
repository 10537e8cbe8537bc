"""What quantization does to each layer: the ranges that were chosen, the ranges that occur, the error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rgal.tasks.quantization.fake_quant import ActivationQuantizer
from rgal.tasks.quantization.quantize import QuantizedLayer, QuantizedNet


def sqnr(signal: Tensor, quantized: Tensor) -> float | None:
    """Signal to quantization noise ratio in dB: 10 log10(sum x^2 / sum (x - x^)^2); None where it has no value."""
    noise = float((signal.double() - quantized.double()).square().sum())
    power = float(signal.double().square().sum())
    return 10 * math.log10(power / noise) if noise > 0 and power > 0 else None


@torch.no_grad()
def layer_report(student: QuantizedNet, images: Tensor) -> list[dict[str, Any]]:
    """One mapping a quantizer, weights and activations in the order of the forward pass.

    images: (N,C,H,W), normalised; the ranges that occur, and the errors of activations, are theirs.
    """
    rows: list[dict[str, Any]] = []

    def activation(name: str) -> Callable[..., None]:
        def hook(module: ActivationQuantizer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0]
            chosen = {"low": float(module.low), "high": float(module.high), "sqnr_db": sqnr(x, output)}
            seen = {"seen_low": float(x.min()), "seen_high": float(x.max())}
            rows.append({"layer": name, "kind": "activation", "bits": module.bits, **chosen, **seen})

        return hook

    def weight(name: str) -> Callable[..., None]:
        def hook(module: QuantizedLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if any(row["kind"] == "weight" and row["layer"] == name for row in rows):
                return  # a layer that runs twice
            w = module.weight
            chosen = {"low": float(w.min()), "high": float(w.max()), "sqnr_db": sqnr(w, module.quantizer(w))}
            seen = {"seen_low": None, "seen_high": None}
            rows.append({"layer": name, "kind": "weight", "bits": module.quantizer.bits, **chosen, **seen})

        return hook

    handles = [m.register_forward_hook(activation(name)) for name, m in student.activations().items()]
    handles += [m.register_forward_hook(weight(name)) for name, m in student.layers().items()]
    try:
        student(images)
    finally:
        for handle in handles:
            handle.remove()
    return [{"index": index, **row} for index, row in enumerate(rows)]
