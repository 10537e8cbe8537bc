"""The post-activation residual network, of which `resnet` and `resnet_tiny` are two tables of widths."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.nets.layers import conv, initialise, pooled


class BasicBlock(nn.Module):
    """y = ReLU(bn2(conv2(ReLU(bn1(conv1 x)))) + s(x)); s: identity, or 1×1 conv + BN where shapes change.

    He et al. 2016, "Deep residual learning for image recognition", fig. 2 with option B.
    skip: the name of s in the state_dict, on which published checkpoints disagree.
    """

    def __init__(self, width_in: int, width: int, stride: int, skip: str) -> None:
        super().__init__()
        self.conv1 = conv(width_in, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = skip
        changes = stride != 1 or width_in != width
        project = (conv(width_in, width, kernel=1, stride=stride), nn.BatchNorm2d(width)) if changes else ()
        self.add_module(skip, nn.Sequential(*project))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut: Tensor = self.get_submodule(self.skip)(x)
        # Not in place: the sum's output is a layer that an observer keeps, and x may be one too.
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResidualNet(nn.Module):
    """Stem, stages `layer1`…`layerL`, spatial mean, linear head: images (N,C,H,W) -> logits (N, classes).

    stem: width of the first convolution. widths, blocks: one entry a stage; every stage but the first halves
    the map. skip, head: state_dict names of the projection shortcut and of the classifier.
    Layers are the stages' outputs, after their last ReLU.
    """

    layer_names: tuple[str, ...]
    head_name: str

    def __init__(
        self,
        stem: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        classes: int,
        channels: int,
        *,
        skip: str,
        head: str,
    ) -> None:
        super().__init__()
        self.layer_names = tuple(f"layer{i}" for i in range(1, len(widths) + 1))
        self.head_name = head
        self.conv1 = conv(channels, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        width_in = stem
        for name, width, count in zip(self.layer_names, widths, blocks, strict=True):
            first = BasicBlock(width_in, width, 1 if name == "layer1" else 2, skip)
            rest = (BasicBlock(width, width, 1, skip) for _ in range(count - 1))
            self.add_module(name, nn.Sequential(first, *rest))
            width_in = width
        self.add_module(head, nn.Linear(width_in, classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.get_submodule(self.head_name)(pooled(x))
        return logits
