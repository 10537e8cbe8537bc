"""The three-stage CIFAR ResNets without projections, with the state_dict names of the most used CIFAR-10 checkpoints.

Depth 6n + 2: three stages of n blocks, widths 16, 32, 64; shortcuts padded with zero channels (option A); the head is
`linear`. He et al. 2016, "Deep residual learning for image recognition", section 4.2: these are its own CIFAR-10
networks. Names are those of akamaster/pytorch_resnet_cifar10. RepDistiller's, with projections, are in `resnet_tiny`.
"""

from __future__ import annotations

import re

from torch import nn

from rgal.nets.layers import initialise
from rgal.nets.residual import ResidualNet

PATTERN = r"resnet(20|32|44|56|110|1202)a"
NAMES = ("resnet20a", "resnet32a", "resnet44a", "resnet56a", "resnet110a", "resnet1202a")


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`."""
    blocks = (int(match[1]) - 2) // 6
    widths = (16, 32, 64)
    net = ResidualNet(
        16, widths, (blocks,) * 3, classes, channels, skip="shortcut", head="linear", padded=True
    )
    initialise(net)
    return net
