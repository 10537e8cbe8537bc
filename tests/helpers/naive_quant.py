"""Slow, obvious versions of what quantization does: one number after the other, one formula a function.

Written from the formulas, not from the code under test.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def float32(value: float) -> float:
    """The nearest float32, infinity beyond the largest."""
    return ctypes.c_float(value).value


def grid_ends(bits: int, symmetric: bool) -> tuple[int, int]:
    return (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def grid_over(low: float, high: float, bits: int, symmetric: bool) -> tuple[float, int]:
    """(step, zero-point) of a grid that reaches from low to high and over 0; step 1 over nothing."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(-low, high) / grid_ends(bits, symmetric)[1] if symmetric else (high - low) / (2**bits - 1)
    return (step, 0 if symmetric else round(-low / step)) if step > 0 else (1.0, 0)


def on_grid(x: float, step: float, zero: int, bits: int, symmetric: bool) -> tuple[float, float, bool]:
    """(x^, dx^/ds, whether x was inside) of one float32 number: x^ = (clamp(round(x/s) + z) - z) s."""
    low, high = grid_ends(bits, symmetric)
    quotient = float32(x / step)
    q = (quotient if math.isinf(quotient) else round(quotient)) + zero  # Python rounds half to even
    inside = low <= q <= high
    level = min(max(q, low), high) - zero
    return float32(level * step), level - quotient if inside else level, inside


def fake_quantize(
    x: Tensor, step: Tensor, zero: Tensor, bits: int, symmetric: bool, gradient: str, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(x^, gradient of x, gradient of step), one element after the other; `upstream` is the gradient of x^."""
    channel = torch.arange(step.numel()).view(step.shape).expand(x.shape).flatten().tolist()
    steps, zeros = step.flatten().tolist(), zero.flatten().tolist()
    values, grads, parts = [], [], [[0.0] for _ in steps]
    for number, g, c in zip(x.float().flatten().tolist(), upstream.flatten().tolist(), channel, strict=True):
        value, slope, inside = on_grid(number, steps[c], int(zeros[c]), bits, symmetric)
        values.append(value)
        grads.append(g if inside or gradient == "identity" else 0.0)
        parts[c].append(g * slope)
    step_grad = torch.tensor([math.fsum(p) for p in parts], dtype=torch.float64)
    tensors = (torch.tensor(v).view(x.shape).to(x.dtype) for v in (values, grads))
    return *tensors, step_grad.view(step.shape)


def square_error(values: Sequence[float], low: float, high: float, bits: int, symmetric: bool) -> float:
    step, zero = grid_over(low, high, bits, symmetric)
    return math.fsum((on_grid(v, step, zero, bits, symmetric)[0] - v) ** 2 for v in values)


def best_range(values: Sequence[float], bits: int, symmetric: bool) -> tuple[float, float]:
    """Of a * [min, max], a = 1, 39/40, ..., 1/40, the one with the least squared error."""
    ranges = [(min(values) * a / 40, max(values) * a / 40) for a in range(40, 0, -1)]
    return min(ranges, key=lambda r: square_error(values, *r, bits, symmetric))


def moving_average(values: Sequence[float], momentum: float) -> float:
    """sum_i (1-m) m^(t-i) x_i / (1 - m^t), the bias-corrected average of Adam."""
    t = len(values)
    total = math.fsum((1 - momentum) * momentum ** (t - 1 - i) * x for i, x in enumerate(values))
    return total / (1 - momentum**t)


def straight_through(
    x: Tensor, step: Tensor | float, zero: Tensor | float, ends: tuple[float, float], clipped: bool = False
) -> Tensor:
    """x^ in float64, with the gradient of x, or of clamp(x) if `clipped`."""
    q = torch.round(x.detach() / step) + zero
    outside = (q < ends[0]) | (q > ends[1])
    base = torch.where(outside, x.detach(), x) if clipped else x
    return base + ((q.clamp(*ends) - zero) * step - x).detach()


def rows(weight: Tensor, axis: int) -> list[list[float]]:
    """The values of every output channel."""
    return [weight.select(axis, i).flatten().tolist() for i in range(weight.shape[axis])]


def along(values: Sequence[float], ndim: int, axis: int) -> Tensor:
    """A value a channel, in a shape that broadcasts."""
    return torch.tensor(values, dtype=torch.float64).view([-1 if d == axis else 1 for d in range(ndim)])
