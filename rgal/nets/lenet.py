"""LeNet-5 for any image size, a classifier without batch norm.

LeCun et al. 1998, with ReLU, padded convolutions and a global mean before the two linear layers. Methods that match
batch norm statistics cannot invert it; others can.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.nets.layers import initialise, pooled

PATTERN = r"lenet5"
NAMES = ("lenet5",)


class LeNet(nn.Module):
    """Classify images (N,C,H,W). The layers are the outputs of the three convolutions, before their ReLU."""

    layer_names: tuple[str, ...] = ("conv1", "conv2", "conv3")
    head_name: str = "fc2"

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.conv3 = nn.Conv2d(16, 120, 5, padding=2)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, ceil_mode=True)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, ceil_mode=True)
        return self.fc2(F.relu(self.fc1(pooled(F.relu(self.conv3(x))))))


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`."""
    return LeNet(classes, channels)
