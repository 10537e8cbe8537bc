"""The post-activation residual network; `resnet` and `resnet_tiny` fill in its widths and depths."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.nets.layers import conv, pooled


class PaddedShortcut(nn.Module):
    """Take every `stride`-th pixel and put as many zero channels before as behind: (N,C,H,W) -> (N,width,..).

    Option A of He et al. 2016, "Deep residual learning for image recognition", section 3.3; it has no parameters.

    >>> import torch
    >>> PaddedShortcut(1, 3, 2)(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (width - width_in) // 2
        self.behind = width - width_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


class BasicBlock(nn.Module):
    """Compute y = ReLU(bn2(conv2(ReLU(bn1(conv1 x)))) + s(x)).

    The shortcut s is the identity, or where shapes change a 1×1 convolution and batch norm (option B) or zero channels
    (option A). He et al. 2016, "Deep residual learning for image recognition", fig. 2.

    Args:
        width_in, width: channels of the input and of the output.
        stride: of the first convolution and of the shortcut.
        skip: the name of s in the state_dict, on which published checkpoints disagree.
        padded: whether s is option A.
    """

    def __init__(self, width_in: int, width: int, stride: int, skip: str, padded: bool = False) -> None:
        super().__init__()
        self.conv1 = conv(width_in, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = skip
        changes = stride != 1 or width_in != width
        project: tuple[nn.Module, ...] = ()
        if changes and padded:
            project = (PaddedShortcut(width_in, width, stride),)
        elif changes:
            project = (conv(width_in, width, kernel=1, stride=stride), nn.BatchNorm2d(width))
        self.add_module(skip, nn.Sequential(*project))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut: Tensor = self.get_submodule(self.skip)(x)
        # Not in place: the output is a layer that an observer keeps, and x may be one too.
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResidualNet(nn.Module):
    """Classify images (N,C,H,W) by a stem, stages `layer1` to `layerL`, the spatial mean and a linear head.

    The layers are the outputs of the stages, after their last ReLU. Weights start as torch has them.

    Args:
        stem: channels of the first convolution's output.
        widths: channels of each stage; every stage but the first halves the map.
        blocks: residual blocks of each stage.
        classes: number of logits.
        channels: channels of the images.
        skip, head: names in the state_dict of the projection shortcut and of the classifier.
        padded: whether shortcuts are padded with zero channels instead of projected.
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
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.layer_names = tuple(f"layer{i}" for i in range(1, len(widths) + 1))
        self.head_name = head
        self.conv1 = conv(channels, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        width_in = stem
        for name, width, count in zip(self.layer_names, widths, blocks, strict=True):
            first = BasicBlock(width_in, width, 1 if name == "layer1" else 2, skip, padded)
            rest = (BasicBlock(width, width, 1, skip) for _ in range(count - 1))
            self.add_module(name, nn.Sequential(first, *rest))
            width_in = width
        self.add_module(head, nn.Linear(width_in, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.get_submodule(self.head_name)(pooled(x))
        return logits
