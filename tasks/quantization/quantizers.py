"""Quantizers as modules: of a weight, with a scale for each output channel, and of an activation, with one scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rgal.tasks.quantization.fake_quant import choose_qparams, fake_quantize, limits, mse_range
from rgal.tasks.quantization.scheme import Scheme

# Zero-points are stored under the name "zero": students that were saved before hold that key.


def positive(scale: Tensor) -> Tensor:
    """Return a learned scale as it is used: above 0, whatever the optimiser does to it."""
    return scale.abs().clamp_min(1e-12)


class WeightQuantizer(nn.Module):
    """Quantizes a weight with one scale and zero-point for each output channel.

    They follow the live weight in every call; if the range is "learned", the scales are parameters that start from
    the first weight's range, and the zero-points stay. While a `replacement` is set, it is what every call returns.

    Args:
        bits: width of the integers.
        scheme: how the range is chosen, and the gradient.
        weight: the first weight, which learned scales start from.
        axis: its dimension of output channels.
    """

    def __init__(self, bits: int, scheme: Scheme, weight: Tensor, axis: int = 0) -> None:
        super().__init__()
        self.bits, self.scheme, self.axis = bits, scheme, axis
        self.symmetric = scheme.weights_are_symmetric
        self.replacement: Tensor | None = None
        self.scale: nn.Parameter | None = None
        if scheme.weight_range == "learned":
            scale, zero_point = self._from_range(weight.detach())
            self.scale = nn.Parameter(scale)
            self.register_buffer("zero", zero_point)

    def _from_range(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows = weight.movedim(self.axis, 0).flatten(1).float()
        if self.scheme.weight_range == "minmax":
            low, high = rows.amin(1), rows.amax(1)
        else:
            low, high = mse_range(rows, self.bits, self.symmetric)
        return choose_qparams(low, high, self.bits, self.symmetric)

    def qparams(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return (scale, zero_point) for this weight, each (output channels,)."""
        if self.scale is None:
            with torch.no_grad():
                return self._from_range(weight)
        return positive(self.scale), self.get_buffer("zero")

    def _along_axis(self, values: Tensor, weight: Tensor) -> Tensor:
        """Reshape (output channels,) so that it broadcasts to the weight."""
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return values.view(shape)

    def forward(self, weight: Tensor) -> Tensor:
        if self.replacement is not None:
            return self.replacement
        scale, zero_point = (self._along_axis(v, weight) for v in self.qparams(weight))
        # LSQ's factor 1 / sqrt(values per scale * quant_max).
        factor = (weight.numel() / weight.shape[self.axis] * limits(self.bits, self.symmetric)[1]) ** -0.5
        return fake_quantize(
            weight, scale, zero_point, self.bits, self.symmetric, self.scheme.gradient, factor
        )

    def integers(self, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is stored of a weight.

        Args:
            weight: the weight as floats.
            scale: (output channels,), to be used instead of the quantizer's own.

        Returns:
            (q, scale, zero_point): int32 of the weight's shape, float32 and int32 of (output channels,).
        """
        own_scale, zero_point = (v.detach() for v in self.qparams(weight))
        scale = own_scale if scale is None else scale
        q = torch.round(weight.detach().float() / self._along_axis(scale, weight))
        q = q + self._along_axis(zero_point, weight)
        return q.clamp(*limits(self.bits, self.symmetric)).int(), scale, zero_point.int()


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor with one scale and zero-point, which calibration finds.

    While `calibrating` is true, every batch moves the range; otherwise the range is frozen. Before the first batch the
    quantizer is an identity (`ready` is false). While a `replacement` is set, it is what every call does. Moving
    averages are unbiased from the first batch t = 1 on,

        r += (x - r) (1 - m) / (1 - m^t),

    so that the average of a constant is that constant. (GDFQ's code corrects an already corrected value.)
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero: Tensor
    batches: Tensor

    def __init__(self, bits: int, scheme: Scheme) -> None:
        super().__init__()
        self.bits, self.scheme, self.symmetric = bits, scheme, scheme.symmetric_activations
        self.calibrating, self.ready = False, False
        self.replacement: Callable[[Tensor], Tensor] | None = None
        for name in ("low", "high", "zero"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        first_scale = torch.zeros(())  # 0: not calibrated yet
        if scheme.activation_range == "learned":
            self.scale = nn.Parameter(first_scale)
        else:
            self.register_buffer("scale", first_scale)

    def qparams(self) -> tuple[Tensor, Tensor]:
        """Return (scale, zero_point), both scalars; scale is 0 before the first batch unless it is learned."""
        learned = self.scheme.activation_range == "learned"
        return positive(self.scale) if learned else self.scale, self.zero

    def forward(self, x: Tensor) -> Tensor:
        if self.replacement is not None:
            return self.replacement(x)
        if self.calibrating:
            self.update_range(x)
        if not self.ready:
            return x
        scale, zero_point = self.qparams()
        # LSQ's factor 1 / sqrt(values per image * quant_max).
        factor = (max(1, x.numel()) / max(1, len(x)) * limits(self.bits, self.symmetric)[1]) ** -0.5
        return fake_quantize(x, scale, zero_point, self.bits, self.symmetric, self.scheme.gradient, factor)

    @torch.no_grad()
    def update_range(self, x: Tensor) -> None:
        """Move the range towards that of a batch of values, and the scale and the zero-point with it."""
        if not x.numel():
            return
        low, high = self._range_of(x.detach().flatten().float())
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
        scale, zero_point = choose_qparams(self.low, self.high, self.bits, self.symmetric)
        self.scale.copy_(scale)
        self.zero.copy_(zero_point)
        self.ready = True

    def _range_of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.scheme.activation_range
        if kind == "percentile":
            rank = max(1, round(len(values) * self.scheme.percentile / 100))
            low = values.kthvalue(len(values) - rank + 1).values
            return low, values.kthvalue(rank).values
        if kind in ("mse", "learned"):
            low, high = mse_range(values[None], self.bits, self.symmetric)
            return low[0], high[0]
        return values.min(), values.max()

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.ready = bool(self.batches > 0)
