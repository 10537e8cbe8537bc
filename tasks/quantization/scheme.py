"""How a network is quantized: bit widths (`Bits`) and everything else that can be chosen (`Scheme`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rgal.core.errors import UserError

Placement = Literal["paper", "deploy"]
Gradient = Literal["identity", "clipped"]
WeightRange = Literal["minmax", "mse", "learned"]
ActivationRange = Literal["ema", "minmax", "percentile", "mse", "learned"]
WIDTHS = range(2, 9)


@dataclass(frozen=True)
class Bits:
    """Bit widths of weights and activations, written as in w4a8."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read widths such as "w4a8"; case and surrounding blanks do not matter.

        >>> Bits.parse("W4A8")
        Bits(weight=4, activation=8)
        >>> str(Bits(weight=4, activation=8))
        'w4a8'

        Raises:
            UserError: the text has another form, or a width is not in 2 to 8.
        """
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
    """Choices that are common to all quantizers of a network.

    Attributes:
        placement: which tensors are quantized, see `rgal.tasks.quantization.placement`.
        symmetric_weights: whether the zero-point of weights is 0; None leaves it to the placement.
        symmetric_activations: whether the zero-point of activations is 0.
        gradient: of rounding with respect to its input: "identity" (the literature of data-free quantization) or
            "clipped" (0 outside the range).
        weight_range, activation_range: how ranges are chosen. "learned" makes the scale a parameter (LSQ, Esser et
            al. 2020).
        momentum: of the moving averages of activation ranges.
        percentile: share in % of the values that a "percentile" range keeps at either end.
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
