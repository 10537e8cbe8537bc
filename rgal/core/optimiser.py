"""Optimisers of students, as data: step sizes, schedules, and the torch optimiser they stand for."""

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
    """Learning rate: linear rise over `rise` of the steps, then cosine to zero, a tenth after each quarter of the
    steps, piecewise constant, or constant. Stepped every step, where the public implementations step once an epoch.

    drops: of "steps", (share of the steps, factor on lr from there on), ascending.
    """

    lr: float = 0.1
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "quarters", "steps", "constant"] = "cosine"
    rise: float = 0.0
    drops: tuple[tuple[float, float], ...] = ()

    def learning_rate(self, step: int, total: int) -> float:
        """Of step 0 .. total - 1."""
        rise = self.rise * total
        if step < rise:
            return self.lr * (step + 1) / math.ceil(rise)
        if self.schedule == "constant":
            return self.lr
        done = (step - rise) / max(1.0, total - rise)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        drops = QUARTERS if self.schedule == "quarters" else self.drops
        return self.lr * next((factor for share, factor in reversed(drops) if done >= share), 1.0)

    def make(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(StudentOptimiser):
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
    """Adam with its usual moments; weight decay is added to the gradient (what PASS and its relatives train with)."""

    lr: float = 1e-3

    def make(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
