"""The narrow three-stage CIFAR ResNets, with the state_dict names of the RepDistiller checkpoints.

Depth 6n + 2: three stages of n blocks, widths 16, 32, 64 (`x4`: 64, 128, 256 behind a stem of 32); head `fc`;
projections `downsample.0/.1`. He et al. 2016, "Deep residual learning for image recognition", section 4.2.
"""

from __future__ import annotations

import re

from torch import nn

from rgal.nets.layers import initialise
from rgal.nets.residual import ResidualNet

PATTERN = r"resnet(?:(8|14|20|32|44|56|110)|(8|32)x4)"
NAMES = (
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet8x4",
    "resnet32x4",
)


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`."""
    narrow, wide = match[1], match[2]
    stem, widths = (16, (16, 32, 64)) if narrow else (32, (64, 128, 256))
    blocks = (int(narrow or wide) - 2) // 6
    net = ResidualNet(stem, widths, (blocks,) * 3, classes, channels, skip="downsample", head="fc")
    initialise(net)
    return net
