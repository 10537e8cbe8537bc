"""A network as a user has it, and calls of the library that take a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import rgal
from rgal.core.seeding import global_seed

SHORT = {
    "budget": "smoke",
    "rounds": 2,
    "synthesis_steps": 2,
    "student_steps": 3,
    "synthesis_batch": 8,
    "batch": 8,
}


def stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class TwoBranches(nn.Module):
    """Two branches side by side, their maps joined; dropout, so that training draws from torch's own stream."""

    def __init__(self, classes: int = 4, width: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.left, self.right = stage(channels, width), stage(channels, width)
        self.top = stage(2 * width, 2 * width)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.top(torch.cat([self.left(x), self.right(x)], 1))
        return self.fc(self.drop(maps.mean((2, 3))))


def network(classes: int = 4, width: int = 4, seed: int = 0) -> TwoBranches:
    """Two branches whose batch norms have seen noise."""
    with global_seed("two branches", seed), torch.autocast("cpu", enabled=False):
        net = TwoBranches(classes, width)
        for _ in range(3):
            net(torch.randn(16, 1, 8, 8))
    return net


def teacher(net: nn.Module | None = None, **settings: Any) -> rgal.Teacher:
    given = {"image": (1, 8, 8), "classes": 4, "mean": 0.3, "std": 0.4, "flip": False} | settings
    return rgal.Teacher(network() if net is None else net, **given)


def pixels(count: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
