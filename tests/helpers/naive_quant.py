"""Slow, obvious versions of what quantization does: one number after the other, one formula a function.

Written from the formulas, not from the code under test.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def float32(value: float) -> float:
    """The nearest float32, infinity beyond the largest."""
    return ctypes.c_float(value).value


def integer_limits(bits: int, symmetric: bool) -> tuple[int, int]:
    """Return the smallest and the largest integer."""
    return (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def qparams_over(low: float, high: float, bits: int, symmetric: bool) -> tuple[float, int]:
    """Return (scale, zero-point) of the integers that cover low, high and 0; scale 1 if these are all 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (
        max(-low, high) / integer_limits(bits, symmetric)[1] if symmetric else (high - low) / (2**bits - 1)
    )
    return (scale, 0 if symmetric else round(-low / scale)) if scale > 0 else (1.0, 0)


def rounded(x: float, scale: float, zero_point: int, bits: int, symmetric: bool) -> tuple[float, float, bool]:
    """Return (x^, dx^/ds, whether x was inside) of one float32 number: x^ = (clamp(round(x/s) + z) - z) s."""
    low, high = integer_limits(bits, symmetric)
    quotient = float32(x / scale)
    q = (quotient if math.isinf(quotient) else round(quotient)) + zero_point  # Python rounds half to even
    inside = low <= q <= high
    level = min(max(q, low), high) - zero_point
    return float32(level * scale), level - quotient if inside else level, inside


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, symmetric: bool, gradient: str, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x^, gradient of x, gradient of scale), one element at a time; `upstream` is the gradient of x^."""
    channel = torch.arange(scale.numel()).view(scale.shape).expand(x.shape).flatten().tolist()
    scales, zero_points = scale.flatten().tolist(), zero_point.flatten().tolist()
    values, grads, parts = [], [], [[0.0] for _ in scales]
    for number, g, c in zip(x.float().flatten().tolist(), upstream.flatten().tolist(), channel, strict=True):
        value, slope, inside = rounded(number, scales[c], int(zero_points[c]), bits, symmetric)
        values.append(value)
        grads.append(g if inside or gradient == "identity" else 0.0)
        parts[c].append(g * slope)
    scale_grad = torch.tensor([math.fsum(p) for p in parts], dtype=torch.float64)
    tensors = (torch.tensor(v).view(x.shape).to(x.dtype) for v in (values, grads))
    return *tensors, scale_grad.view(scale.shape)


def square_error(values: Sequence[float], low: float, high: float, bits: int, symmetric: bool) -> float:
    """Return the squared error of rounding values to the integers that cover the range."""
    scale, zero_point = qparams_over(low, high, bits, symmetric)
    return math.fsum((rounded(v, scale, zero_point, bits, symmetric)[0] - v) ** 2 for v in values)


def best_range(values: Sequence[float], bits: int, symmetric: bool) -> tuple[float, float]:
    """Return a * [min, max] with the least squared error, a in 1, 39/40, ..., 1/40."""
    ranges = [(min(values) * a / 40, max(values) * a / 40) for a in range(40, 0, -1)]
    return min(ranges, key=lambda r: square_error(values, *r, bits, symmetric))


def moving_average(values: Sequence[float], momentum: float) -> float:
    """Return the bias-corrected average of Adam, sum_i (1-m) m^(t-i) x_i / (1 - m^t)."""
    t = len(values)
    total = math.fsum((1 - momentum) * momentum ** (t - 1 - i) * x for i, x in enumerate(values))
    return total / (1 - momentum**t)


def straight_through(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | float,
    limits: tuple[float, float],
    clipped: bool = False,
) -> Tensor:
    """Return x^ in float64, with the gradient of x, or of clamp(x) if `clipped`."""
    q = torch.round(x.detach() / scale) + zero_point
    outside = (q < limits[0]) | (q > limits[1])
    base = torch.where(outside, x.detach(), x) if clipped else x
    return base + ((q.clamp(*limits) - zero_point) * scale - x).detach()


def rows(weight: Tensor, axis: int) -> list[list[float]]:
    """Return the values of every output channel."""
    return [weight.select(axis, i).flatten().tolist() for i in range(weight.shape[axis])]


def along(values: Sequence[float], ndim: int, axis: int) -> Tensor:
    """Return one value for each channel, in a shape that broadcasts."""
    return torch.tensor(values, dtype=torch.float64).view([-1 if d == axis else 1 for d in range(ndim)])


def attention(
    x: Tensor,
    parts: dict[str, tuple[Tensor, Tensor]],
    heads: int,
    rounders: dict[str, Callable[[Tensor], Tensor]],
) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v through the output projection, an image and a head at a time.

    Args:
        x: (N,L,E), queries, keys and values at once.
        parts: weight and bias of q, k, v and out.
        heads: their number.
        rounders: what rounds q, k, v and the softmax.
    """
    rows = []
    for image in x:
        q, k, v = (rounders[n](image @ parts[n][0].T + parts[n][1]) for n in ("q", "k", "v"))
        d = x.shape[2] // heads
        joined = []
        for h in range(heads):
            columns = slice(h * d, (h + 1) * d)
            scores = torch.exp(q[:, columns] @ k[:, columns].T / math.sqrt(d))
            weights = rounders["softmax"](scores / scores.sum(1, keepdim=True))
            joined.append(weights @ v[:, columns])
        rows.append(torch.cat(joined, 1) @ parts["out"][0].T + parts["out"][1])
    return torch.stack(rows)
