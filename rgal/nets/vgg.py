"""VGG-8/11/13 with batch norm, with the state_dict names of the RepDistiller checkpoints.

Simonyan & Zisserman 2015, "Very deep convolutional networks", without the fully connected stack: five blocks,
global mean, one linear `classifier`.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.nets.layers import initialise, pooled

PATTERN = r"vgg(8|11|13)"
NAMES = ("vgg8", "vgg11", "vgg13")

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {"8": (1, 1, 1, 1, 1), "11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2)}


def _block(width_in: int, width: int, convolutions: int) -> nn.Sequential:
    """Chain conv, BN, ReLU, conv, BN, … without the last ReLU, so that indices are those of the checkpoints."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        width_in = width
    return nn.Sequential(*layers[:-1])


def _halved(x: Tensor) -> Tensor:
    """Max-pool 2×2, unless a side has only one pixel left."""
    return F.max_pool2d(x, 2) if min(x.shape[-2:]) >= 2 else x


class VGG(nn.Module):
    """Classify images (N,C,H,W).

    Max-pools follow blocks 0 to 2, and block 3 only for images of 64 pixels: at 32 the last two blocks share a 4×4 map.
    The layers are the outputs of the blocks *before* their ReLU, which is outside the blocks in these checkpoints.

    Args:
        convolutions: how many each block has.
        classes: number of logits.
        channels: channels of the images.
    """

    layer_names: tuple[str, ...] = ("block0", "block1", "block2", "block3", "block4")
    head_name: str = "classifier"

    def __init__(self, convolutions: tuple[int, ...], classes: int, channels: int) -> None:
        super().__init__()
        width_in = channels
        for name, width, count in zip(self.layer_names, _WIDTHS, convolutions, strict=True):
            self.add_module(name, _block(width_in, width, count))
            width_in = width
        self.classifier = nn.Linear(width_in, classes)
        initialise(self)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        pools = 4 if x.shape[2] == 64 else 3
        for index, name in enumerate(self.layer_names):
            x = F.relu(self.get_submodule(name)(x))
            if index < pools:
                x = _halved(x)
        logits: Tensor = self.classifier(pooled(x))
        return logits


def build(match: re.Match[str], classes: int, channels: int) -> nn.Module:
    """Build the network for a name that matched `PATTERN`."""
    return VGG(_CONVOLUTIONS[match[1]], classes, channels)
