"""ResNet-18/34 for small images, with the state_dict names of the DAFL and CMI checkpoints.

A 3×3 stride-1 stem without max-pool; widths 64, 128, 256, 512; head `linear`; projections `shortcut.0/.1`. He et al.
2016, "Deep residual learning for image recognition", table 1. Convolutions start as torch has them, U(-1, 1) / sqrt(fan
in), as in DAFL's and CMI's code; the other networks of this folder start as He et al. 2015.
"""

from __future__ import annotations

import re

from torch import nn

from rgal.nets.residual import ResidualNet

PATTERN = r"resnet(18|34)"
NAMES = ("resnet18", "resnet34")

_BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`."""
    widths = (64, 128, 256, 512)
    return ResidualNet(64, widths, _BLOCKS[match[1]], classes, channels, skip="shortcut", head="linear")
