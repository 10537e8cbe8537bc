"""Gradient inundation: stretch steps until they change enough of the integers that quantized weights stand for.

Choi et al., "It's All In the Teacher: Zero-Shot Quantization Brought Closer to the Teacher" (AIT), CVPR 2022, arXiv
2203.17008.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.optimiser import SGD

Codes = Callable[[Tensor], Tensor]
CAREFUL_STEPS, CAREFUL_FACTOR = 200, 100.0  # an epoch of AIT's code, in which no step is stretched further
LARGEST_FACTOR = 2.0**20  # our bound: without one, a gradient of 0 would be doubled for ever
BISECTIONS = 5


def stretch(changed: Callable[[float], float], wanted: float, largest: float) -> float:
    """Find the factor of a step at which the share `wanted` of all integers changes.

    The factor 1 if that changes enough. Else it is doubled until it does, or until it is above `largest`, and the last
    interval is halved five times, or until the share is right to a hundredth; the last factor tried is returned.

    Args:
        changed: the share of integers that change, for a factor.
        wanted: the share that should change.
        largest: where doubling ends.

    >>> stretch(lambda factor: factor / 1000, 0.09, 1e6)
    90.0
    """
    if changed(1.0) >= wanted:
        return 1.0
    high = 2.0
    while high <= largest and changed(high) < wanted:
        high *= 2
    low, factor = high / 2, high
    for _ in range(BISECTIONS):
        factor = (low + high) / 2
        share = changed(factor)
        if abs(share - wanted) < wanted / 100:
            break
        low, high = (factor, high) if share < wanted else (low, factor)
    return factor


class InundatedSGD(torch.optim.SGD):
    """Take nesterov steps, stretched until the share `threshold` of a quantized weight's integers changes.

    The share follows the learning rate's fall. Every try of a factor asks the device for a number.

    Args:
        groups: parameter groups, of which the first holds the weights that `codes` knows.
        lr, momentum: as of SGD.
        codes: for every such weight, the integers that a tensor in its place would be stored as.
        threshold: share of the integers that a step should change at the learning rate `lr`.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float,
        momentum: float,
        weight_decay: float,
        codes: Mapping[nn.Parameter, Codes],
        threshold: float,
    ) -> None:
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True)
        self.codes, self.threshold, self.first_lr = codes, threshold, lr
        for group in self.param_groups:
            group["taken"] = 0  # kept with the optimiser's state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step."""
        group = self.param_groups[0]
        before = [parameter.clone() for parameter in group["params"]]
        super().step(closure)
        largest = CAREFUL_FACTOR if group["taken"] < CAREFUL_STEPS else LARGEST_FACTOR
        group["taken"] += 1
        wanted = self.threshold * group["lr"] / self.first_lr
        for parameter, weight in zip(group["params"], before, strict=True):
            if parameter.grad is None:
                continue
            gradient = parameter.grad + group["weight_decay"] * weight
            move = group["lr"] * (gradient + group["momentum"] * self.state[parameter]["momentum_buffer"])
            codes = self.codes[parameter]
            stored = codes(weight)

            def changed(factor: float) -> float:
                return float((codes(weight - factor * move) != stored).double().mean())  # noqa: B023

            parameter.copy_(weight - stretch(changed, wanted, largest) * move)


@dataclass(frozen=True)
class Inundation(SGD):
    """Train a quantized network by `InundatedSGD`.

    Attributes:
        threshold: share of a weight's integers that a step should change, before the learning rate falls.
    """

    weight_decay: float = 0.0
    nesterov: bool = True
    threshold: float = 1e-3

    def make_for(
        self, net: nn.Module, parameters: Sequence[nn.Parameter], fused: bool
    ) -> torch.optim.Optimizer:
        integers = getattr(net, "codes", None)
        if not callable(integers):
            raise UserError("this optimiser counts the integers of quantized weights: it is for --task dfq")
        codes: Mapping[nn.Parameter, Codes] = integers()
        weights = [parameter for parameter in parameters if parameter in codes]
        rest = [parameter for parameter in parameters if parameter not in codes]
        groups = [{"params": weights}, {"params": rest}] if rest else [{"params": weights}]
        return InundatedSGD(groups, self.lr, self.momentum, self.weight_decay, codes, self.threshold)
