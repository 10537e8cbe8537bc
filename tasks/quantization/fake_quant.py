"""Fake quantization: round values to the points that k-bit integers can stand for, and keep them as floats.

    q = clamp(round(x / scale) + zero_point, quant_min, quant_max),   x^ = (q - zero_point) * scale

The zero-point is an integer, so that 0 is always exact. Rounding is half to even and comes before the zero-point is
added, as in integer runtimes. Asymmetric: q in [0, 2^k - 1] covers [min(low, 0), max(high, 0)]. Symmetric: q in
[-(2^(k-1) - 1), 2^(k-1) - 1], zero-point 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rgal.tasks.quantization.scheme import Gradient

_CANDIDATES = 40  # of the search for the range with the least squared error
_SAMPLE = 65_536  # values that search looks at, at most


def limits(bits: int, symmetric: bool) -> tuple[int, int]:
    """Return the smallest and the largest integer of a quantizer, (quant_min, quant_max).

    >>> limits(4, symmetric=False)
    (0, 15)
    >>> limits(4, symmetric=True)
    (-7, 7)
    """
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric else (0, 2**bits - 1)


def choose_qparams(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Choose the scale and the zero-point that make the range [low, high] just representable.

    Args:
        low, high: ends of the ranges, of any common shape. They are widened to contain 0.
        bits: width k of the integers.
        symmetric: whether the zero-point is 0.

    Returns:
        (scale, zero_point), float32 and of the shape of `low`. A range of width 0 gets scale 1: zeros stay 0.

    >>> scale, zero_point = choose_qparams(torch.tensor(-1.0), torch.tensor(2.0), bits=2, symmetric=False)
    >>> float(scale), int(zero_point)
    (1.0, 1)
    """
    quant_min, quant_max = limits(bits, symmetric)
    low, high = low.float().clamp_max(0), high.float().clamp_min(0)
    # Halved, as the difference of huge ends is more than a float holds.
    scale = (
        torch.maximum(-low, high) / quant_max
        if symmetric
        else (high / 2 - low / 2) / ((quant_max - quant_min) / 2)
    )
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if symmetric:
        return scale, torch.zeros_like(scale)
    return scale, torch.round(-low / scale).clamp(quant_min, quant_max)


class _FakeQuantize(torch.autograd.Function):
    """The rounding of `fake_quantize`: x and scale have gradients, the zero-point is constant."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_min: int,
        quant_max: int,
        gradient: Gradient,
        grad_factor: float,
    ) -> Tensor:
        wide = x.float()
        q = torch.round(wide / scale).add_(zero_point)
        needs_inside = gradient == "clipped" or ctx.needs_input_grad[1]
        inside = (q >= quant_min) & (q <= quant_max) if needs_inside else torch.empty(0)
        q.clamp_(quant_min, quant_max).sub_(zero_point)
        ctx.save_for_backward(*((x, scale, q, inside) if ctx.needs_input_grad[1] else (inside,)))
        ctx.gradient, ctx.grad_factor = gradient, grad_factor
        return (q * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inside = ctx.saved_tensors[-1]
        grad_scale = None
        if ctx.needs_input_grad[1]:
            x, scale, q, _ = ctx.saved_tensors
            slope = torch.where(inside, q - x.float() / scale, q)
            grad_scale = (grad.float() * slope).sum_to_size(scale.shape) * ctx.grad_factor
        if ctx.gradient == "clipped":
            grad = grad * inside
        return grad, grad_scale, None, None, None, None, None


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    bits: int,
    symmetric: bool = False,
    gradient: Gradient = "identity",
    grad_factor: float = 1.0,
) -> Tensor:
    """Round x to the values that the quantizer can represent, with a straight-through gradient.

    The gradient of scale, if it requires one, is that of LSQ (Esser et al. 2020, equation 3): q - x/scale inside the
    range and the clipped q outside, both relative to the zero-point, times `grad_factor`.

    Args:
        x: values of any shape and float type.
        scale, zero_point: float32, of a shape that broadcasts to that of x.
        bits: width of the integers.
        symmetric: which integers there are, see `limits`.
        gradient: of x: the incoming one ("identity"), or 0 where x was clipped ("clipped", as torch's own operators).
        grad_factor: factor of the gradient of scale.

    Returns:
        The rounded values, of the shape and type of x.
    """
    quant_min, quant_max = limits(bits, symmetric)
    result: Tensor = _FakeQuantize.apply(x, scale, zero_point, quant_min, quant_max, gradient, grad_factor)
    return result


def mse_range(x: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Search the range with the least squared error among a * [min, max], a = 1/40, 2/40, ..., 1.

    Args:
        x: values (R, n); each row gets a range of its own. Long rows are sampled evenly.
        bits: width of the integers.
        symmetric: which integers there are, see `limits`.

    Returns:
        (low, high), each (R,).
    """
    low, high = x.amin(1), x.amax(1)
    stride = -(-x.shape[1] // _SAMPLE) | 1  # odd: an even one would see a few columns of an image only
    sample = x[:, ::stride]
    least_error = torch.full_like(low, float("inf"))
    best_low, best_high = low.clone(), high.clone()
    for numerator in range(_CANDIDATES, 0, -1):
        a = numerator / _CANDIDATES
        scale, zero_point = choose_qparams(a * low, a * high, bits, symmetric)
        rounded = fake_quantize(sample, scale[:, None], zero_point[:, None], bits, symmetric)
        error = (rounded - sample).square().mean(1)
        better = error < least_error
        least_error = torch.where(better, error, least_error)
        best_low = torch.where(better, a * low, best_low)
        best_high = torch.where(better, a * high, best_high)
    return best_low, best_high
