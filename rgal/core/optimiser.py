"""Optimisers of students as data: the learning rate, its schedule, and the torch optimiser to make from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

QUARTERS = tuple((quarter / 4, 0.1**quarter) for quarter in (1, 2, 3))


@dataclass(frozen=True)
class StudentOptimiser:
    """Describe how a student's learning rate develops over its training.

    The rate changes with every step; the public implementations change it once an epoch.

    Args:
        lr: the highest learning rate.
        weight_decay: the l2 penalty that the optimiser adds.
        schedule: what follows the warm-up. "cosine" falls to zero, "quarters" divides by ten after each quarter of
            the remaining steps, "steps" follows `drops`, and "constant" stays at `lr`.
        lr_warmup: share of all steps, in [0,1], in which the learning rate rises linearly to `lr`.
        drops: only for "steps": pairs (share of the steps after the warm-up, factor), in ascending order. From that
            share on, the learning rate is `lr` times the factor.
    """

    lr: float = 0.1
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "quarters", "steps", "constant"] = "cosine"
    lr_warmup: float = 0.0
    drops: tuple[tuple[float, float], ...] = ()

    def learning_rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step, counted from 0 to `total` - 1.

        >>> spec = StudentOptimiser(lr=0.4, lr_warmup=0.5)
        >>> [round(spec.learning_rate(step, 8), 3) for step in range(8)]
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.341, 0.2, 0.059]
        """
        warmup = self.lr_warmup * total
        if step < warmup:
            return self.lr * (step + 1) / math.ceil(warmup)
        if self.schedule == "constant":
            return self.lr
        done = (step - warmup) / max(1.0, total - warmup)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        drops = QUARTERS if self.schedule == "quarters" else self.drops
        return self.lr * next((factor for share, factor in reversed(drops) if done >= share), 1.0)

    def set_rates(self, optimiser: torch.optim.Optimizer, step: int, total: int) -> None:
        """Set the learning rates of an optimiser's groups for a step, counted from 0 to `total` - 1."""
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate(step, total)

    def make(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        """Make the torch optimiser for these parameters. `fused`: update all of them in one kernel."""
        raise NotImplementedError

    def make_for(
        self, net: nn.Module, parameters: Sequence[nn.Parameter], fused: bool
    ) -> torch.optim.Optimizer:
        """Do as `make`, for optimisers that look at more of the student than its parameters."""
        return self.make(parameters, fused)


@dataclass(frozen=True)
class SGD(StudentOptimiser):
    """Train with stochastic gradient descent and momentum."""

    momentum: float = 0.9
    nesterov: bool = False

    def make(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=fused,
        )


@dataclass(frozen=True)
class StudentAdam(StudentOptimiser):
    """Train with Adam at torch's default moments, as PASS and its relatives do.

    Weight decay is added to the gradient.
    """

    lr: float = 1e-3

    def make(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
