"""Wide residual networks WRN-d-k, with the state_dict names of the original PyTorch port.

Zagoruyko & Komodakis 2016, "Wide residual networks": n = (d - 4) / 6 pre-activation blocks in each of three
stages of widths 16k, 32k, 64k. No dropout.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.nets.layers import conv, initialise, pooled

PATTERN = r"wrn([1-9][0-9]{0,2})_([1-9][0-9]?)"
NAMES = ("wrn10_1", "wrn16_1", "wrn16_2", "wrn40_1", "wrn40_2")


class _Block(nn.Module):
    """Compute y = s(x) + conv2(ReLU(bn2(conv1(a)))) with a = ReLU(bn1(x)).

    s(x) is x, or convShortcut(a) where the width changes.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = conv(width_in, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width)
        # In camel case, as in published checkpoints.
        self.convShortcut = conv(width_in, width, kernel=1, stride=stride) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        y: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class _Stage(nn.Module):
    """Chain residual blocks, which checkpoints call `layer`; the first one changes width and stride."""

    def __init__(self, width_in: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (_Block(width, width, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(_Block(width_in, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class WideResNet(nn.Module):
    """Classify images (N,C,H,W).

    The layers are the outputs of the stages: raw residual sums, before the final batch norm.

    Args:
        blocks: n, residual blocks of each stage.
        factor: k, by which the widths 16, 32 and 64 are multiplied. With k = 1 `block1` has no convShortcut.
        classes: number of logits.
        channels: channels of the images.
    """

    layer_names: tuple[str, ...] = ("block1", "block2", "block3")
    head_name: str = "fc"

    def __init__(self, blocks: int, factor: int, classes: int, channels: int) -> None:
        super().__init__()
        widths = (16 * factor, 32 * factor, 64 * factor)
        self.conv1 = conv(channels, 16)
        self.block1 = _Stage(16, widths[0], blocks, stride=1)
        self.block2 = _Stage(widths[0], widths[1], blocks, stride=2)
        self.block3 = _Stage(widths[1], widths[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(pooled(F.relu(self.bn1(x))))
        return logits


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`. Raises UserError if the depth is not 6n + 4."""
    depth, factor = int(match[1]), int(match[2])
    blocks, remainder = divmod(depth - 4, 6)
    if remainder or blocks < 1:
        raise UserError(
            f"net '{match[0]}': depth {depth} must be 6n + 4 with n >= 1: 10, 16, 22, 28, 34, 40, ..."
        )
    return WideResNet(blocks, factor, classes, channels)
