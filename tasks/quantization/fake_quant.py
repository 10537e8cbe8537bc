"""Fake quantization: values rounded to a grid of 2^k points and put back, so that a float network behaves as its
integer form would.

    q = clamp(round(x / s) + z, q_low, q_high),   x^ = (q - z) * s

s: step (scale), z: zero-point, an integer of the grid, so that 0 is always exact. Rounding is half to even and
comes before z is added, as the integer runtimes do it. Asymmetric: q in [0, 2^k - 1] over [min(low, 0), max(high, 0)].
Symmetric: q in [-(2^(k-1) - 1), 2^(k-1) - 1], z = 0. Weights have a step an output channel, activations one a tensor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError

Placement = Literal["paper", "deploy"]
Gradient = Literal["identity", "clipped"]
WeightRange = Literal["minmax", "mse", "learned"]
ActivationRange = Literal["ema", "minmax", "percentile", "mse", "learned"]
WIDTHS = range(2, 9)
_SHRINK = 40  # candidates of the search for the range with the least squared error
_SAMPLE = 65_536  # values that search looks at, at most


@dataclass(frozen=True)
class Bits:
    """Bit widths of weights and activations, written w4a8."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        match = re.fullmatch(r"w(\d+)a(\d+)", text.strip().lower())
        if not match:
            raise UserError(f"bits '{text}': expected wKaK, such as w4a4 or w4a8")
        bits = cls(int(match[1]), int(match[2]))
        if bits.weight not in WIDTHS or bits.activation not in WIDTHS:
            raise UserError(f"bits '{text}': widths are {WIDTHS[0]} to {WIDTHS[-1]}")
        return bits

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


@dataclass(frozen=True)
class Scheme:
    """How numbers are quantized; what is None follows the placement (see `rgal.tasks.quantization.quantize`).

    gradient: of rounding with respect to x: "identity" (the literature of this field) or "clipped" (0 outside the
    range). weight_range, activation_range: how ranges are found; "learned" makes the step a parameter (LSQ, Esser et
    al. 2020). momentum: of the moving averages. percentile: of the values, for either end of the range.
    """

    placement: Placement = "paper"
    symmetric_weights: bool | None = None
    symmetric_activations: bool = False
    gradient: Gradient = "identity"
    weight_range: WeightRange = "minmax"
    activation_range: ActivationRange = "ema"
    momentum: float = 0.9
    percentile: float = 99.9

    @property
    def weights_are_symmetric(self) -> bool:
        return self.placement == "deploy" if self.symmetric_weights is None else self.symmetric_weights


def limits(bits: int, symmetric: bool) -> tuple[int, int]:
    """(q_low, q_high) of the integer grid."""
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric else (0, 2**bits - 1)


def affine(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """(step, zero-point) of the grid over [low, high], elementwise. A range of width 0 gets step 1: zeros stay 0."""
    q_low, q_high = limits(bits, symmetric)
    low, high = low.float().clamp_max(0), high.float().clamp_min(0)
    # Halved, as the difference of huge ends is more than a float holds.
    scale = torch.maximum(-low, high) / q_high if symmetric else (high / 2 - low / 2) / ((q_high - q_low) / 2)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = torch.zeros_like(scale) if symmetric else torch.round(-low / scale).clamp(q_low, q_high)
    return scale, zero


class _FakeQuantize(torch.autograd.Function):
    """x and scale have gradients; zero is constant. `step_gradient` scales the gradient of the step."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero: Tensor,
        q_low: int,
        q_high: int,
        gradient: Gradient,
        step_gradient: float,
    ) -> Tensor:
        wide = x.float()
        q = torch.round(wide / scale).add_(zero)
        needed = gradient == "clipped" or ctx.needs_input_grad[1]
        inside = (q >= q_low) & (q <= q_high) if needed else torch.empty(0)
        q.clamp_(q_low, q_high).sub_(zero)
        ctx.save_for_backward(*((x, scale, q, inside) if ctx.needs_input_grad[1] else (inside,)))
        ctx.gradient, ctx.step_gradient = gradient, step_gradient
        return (q * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inside = ctx.saved_tensors[-1]
        grad_scale = None
        if ctx.needs_input_grad[1]:
            x, scale, q, _ = ctx.saved_tensors
            slope = torch.where(inside, q - x.float() / scale, q)
            grad_scale = (grad.float() * slope).sum_to_size(scale.shape) * ctx.step_gradient
        if ctx.gradient == "clipped":
            grad = grad * inside
        return grad, grad_scale, None, None, None, None, None


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor,
    bits: int,
    symmetric: bool = False,
    gradient: Gradient = "identity",
    step_gradient: float = 1.0,
) -> Tensor:
    """x of any shape and float type on the grid; scale, zero: float32, of a shape that broadcasts to x's.

    Gradient of x: the incoming one ("identity"), or 0 where x was clipped ("clipped", as torch's own operators).
    Gradient of scale, if it requires one: LSQ's, q - x/s inside and the clipped q outside (both relative to z),
    times `step_gradient`.
    """
    low, high = limits(bits, symmetric)
    result: Tensor = _FakeQuantize.apply(x, scale, zero, low, high, gradient, step_gradient)
    return result


def shrunk_range(x: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The range a * [min, max], a in (0, 1], with the least squared error, for every row of x (R, n): two (R,)."""
    low, high = x.amin(1), x.amax(1)
    stride = -(-x.shape[1] // _SAMPLE) | 1  # odd: an even one would see a few columns of an image only
    sample = x[:, ::stride]
    best = torch.full_like(low, float("inf"))
    found = low.clone(), high.clone()
    for step in range(_SHRINK, 0, -1):
        a = step / _SHRINK
        scale, zero = affine(a * low, a * high, bits, symmetric)
        rounded = fake_quantize(sample, scale[:, None], zero[:, None], bits, symmetric)
        error = (rounded - sample).square().mean(1)
        better = error < best
        best = torch.where(better, error, best)
        found = torch.where(better, a * low, found[0]), torch.where(better, a * high, found[1])
    return found


def positive(step: Tensor) -> Tensor:
    """A learned step as it is used: above 0, whatever the optimiser does to it."""
    return step.abs().clamp_min(1e-12)


class WeightQuantizer(nn.Module):
    """A step an output channel, from the live weight in every call, or learned from where the first weight puts it.

    axis: the output channels' dimension. weight: for "learned", to start from.
    """

    def __init__(self, bits: int, scheme: Scheme, weight: Tensor, axis: int = 0) -> None:
        super().__init__()
        self.bits, self.scheme, self.axis = bits, scheme, axis
        self.symmetric = scheme.weights_are_symmetric
        self.scale: nn.Parameter | None = None
        if scheme.weight_range == "learned":
            scale, zero = self._from_range(weight.detach())
            self.scale = nn.Parameter(scale)
            self.register_buffer("zero", zero)

    def _from_range(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows = weight.movedim(self.axis, 0).flatten(1).float()
        if self.scheme.weight_range == "minmax":
            low, high = rows.amin(1), rows.amax(1)
        else:
            low, high = shrunk_range(rows, self.bits, self.symmetric)
        return affine(low, high, self.bits, self.symmetric)

    def grid(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(step, zero-point), each (output channels,)."""
        if self.scale is None:
            with torch.no_grad():
                return self._from_range(weight)
        return positive(self.scale), self.get_buffer("zero")

    def _along_axis(self, values: Tensor, weight: Tensor) -> Tensor:
        """(output channels,) in a shape that broadcasts to the weight's."""
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return values.view(shape)

    def forward(self, weight: Tensor) -> Tensor:
        scale, zero = (self._along_axis(v, weight) for v in self.grid(weight))
        share = (weight.numel() / weight.shape[self.axis] * limits(self.bits, self.symmetric)[1]) ** -0.5
        return fake_quantize(weight, scale, zero, self.bits, self.symmetric, self.scheme.gradient, share)

    def integers(self, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(q as int32 of weight's shape, step, zero-point): what is stored of a weight. scale: another step."""
        own, zero = (v.detach() for v in self.grid(weight))
        scale = own if scale is None else scale
        q = torch.round(weight.detach().float() / self._along_axis(scale, weight))
        q = q + self._along_axis(zero, weight)
        return q.clamp(*limits(self.bits, self.symmetric)).int(), scale, zero.int()


class ActivationQuantizer(nn.Module):
    """One step for a tensor. While `tracking`, every batch moves the range; before the first it is an identity.

    Moving averages are unbiased from the first batch on: r += (x - r) (1 - m) / (1 - m^t), so that the average of a
    constant is that constant. (The public code of this field corrects an already corrected value.)
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero: Tensor
    batches: Tensor

    def __init__(self, bits: int, scheme: Scheme) -> None:
        super().__init__()
        self.bits, self.scheme, self.symmetric = bits, scheme, scheme.symmetric_activations
        self.tracking, self.ready = False, False
        for name in ("low", "high", "zero"):
            self.register_buffer(name, torch.zeros(()))  # a step of 0: not measured yet
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        if scheme.activation_range == "learned":
            self.scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("scale", torch.zeros(()))

    @property
    def step(self) -> Tensor:
        """What values are divided by."""
        return positive(self.scale) if self.scheme.activation_range == "learned" else self.scale

    def forward(self, x: Tensor) -> Tensor:
        if self.tracking:
            self.track(x)
        if not self.ready:
            return x
        share = (max(1, x.numel()) / max(1, len(x)) * limits(self.bits, self.symmetric)[1]) ** -0.5
        return fake_quantize(x, self.step, self.zero, self.bits, self.symmetric, self.scheme.gradient, share)

    @torch.no_grad()
    def track(self, x: Tensor) -> None:
        """Take a batch of values into the range."""
        if not x.numel():
            return
        low, high = self._range(x.detach().flatten().float())
        self.batches += 1
        if self.scheme.activation_range == "minmax":
            first = self.batches == 1
            self.low.copy_(torch.where(first, low, torch.minimum(self.low, low)))
            self.high.copy_(torch.where(first, high, torch.maximum(self.high, high)))
        else:
            m = self.scheme.momentum
            share = (1 - m) / (1 - m ** self.batches.double())  # in float32 the first one is not quite 1
            self.low.add_((low - self.low) * share)
            self.high.add_((high - self.high) * share)
        scale, zero = affine(self.low, self.high, self.bits, self.symmetric)
        self.scale.copy_(scale)
        self.zero.copy_(zero)
        self.ready = True

    def _range(self, values: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.scheme.activation_range
        if kind == "percentile":
            keep = max(1, round(len(values) * self.scheme.percentile / 100))
            low = values.kthvalue(len(values) - keep + 1).values
            return low, values.kthvalue(keep).values
        if kind in ("mse", "learned"):
            low, high = shrunk_range(values[None], self.bits, self.symmetric)
            return low[0], high[0]
        return values.min(), values.max()

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        super()._load_from_state_dict(*arguments, **more)
        self.ready = bool(self.batches > 0)
