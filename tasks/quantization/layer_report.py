"""What quantization does to each layer: the chosen ranges, the ranges that occur, and the error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rgal.tasks.quantization.quantized_net import QuantizedLayer, QuantizedNet
from rgal.tasks.quantization.quantizers import ActivationQuantizer


def sqnr(signal: Tensor, quantized: Tensor) -> float | None:
    """Return the signal to quantization noise ratio in dB, 10 log10(sum x^2 / sum (x - x^)^2).

    None if there is no noise or no signal.

    >>> sqnr(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
    20.0
    """
    noise = float((signal.double() - quantized.double()).square().sum())
    power = float(signal.double().square().sum())
    return 10 * math.log10(power / noise) if noise > 0 and power > 0 else None


@torch.no_grad()
def layer_report(student: QuantizedNet, images: Tensor) -> list[dict[str, Any]]:
    """Describe every quantizer of weights and activations, in the order of the forward pass.

    Args:
        student: the quantized network.
        images: (N,C,H,W), normalised. The ranges that occur, and the errors of activations, are measured on them.

    Returns:
        One row for each quantizer, with the keys index, layer, kind ("weight" or "activation"), bits, low and high
        (the chosen range), seen_low and seen_high (the range that occurs; None for weights) and sqnr_db.
    """
    rows: list[dict[str, Any]] = []

    def activation(name: str) -> Callable[..., None]:
        def hook(module: ActivationQuantizer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0]
            quantized = {"low": float(module.low), "high": float(module.high), "sqnr_db": sqnr(x, output)}
            occurring = {"seen_low": float(x.min()), "seen_high": float(x.max())}
            row = {"layer": name, "kind": "activation", "bits": module.bits}
            rows.append({**row, **quantized, **occurring})

        return hook

    def weight(name: str) -> Callable[..., None]:
        def hook(module: QuantizedLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if any(row["kind"] == "weight" and row["layer"] == name for row in rows):
                return  # a layer that runs twice
            w = module.weight
            quantized = {
                "low": float(w.min()),
                "high": float(w.max()),
                "sqnr_db": sqnr(w, module.quantizer(w)),
            }
            row = {"layer": name, "kind": "weight", "bits": module.quantizer.bits}
            rows.append({**row, **quantized, "seen_low": None, "seen_high": None})

        return hook

    handles = [m.register_forward_hook(activation(name)) for name, m in student.activations().items()]
    handles += [m.register_forward_hook(weight(name)) for name, m in student.layers().items()]
    try:
        student(images)
    finally:
        for handle in handles:
            handle.remove()
    return [{"index": index, **row} for index, row in enumerate(rows)]
