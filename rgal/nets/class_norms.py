"""A generator whose batch norms are told the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rgal.nets.generators import DoublingConv2d


class ClassNorm(nn.Module):
    """Normalise maps (N,C,H,W) over the batch, then scale and shift them by vectors of their labels (N,)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, shift = (table(labels)[:, :, None, None] for table in (self.scale, self.shift))
        return self.norm(x) * scale + shift


class ClassNormGenerator(nn.Module):
    """Map codes (N, latent) and labels (N,) to images (N, channels, size, size) in [0,1].

    The layers of `rgal.nets.generators.Generator`, with `ClassNorm` in place of batch norm (CPSC-DFKD, whose own has no
    norm before the first doubling's but one, and ends in tanh and a further norm).

    Args:
        latent: width of a code.
        classes: number of labels.
        channels, size: of the images; size is a multiple of 4.
        width: channels of the last hidden map.
    """

    def __init__(self, latent: int, classes: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.start = (2 * width, size // 4, size // 4)
        self.project = nn.Linear(latent, 2 * width * (size // 4) ** 2)
        self.doubled = nn.ModuleList([DoublingConv2d(2 * width, 2 * width), DoublingConv2d(2 * width, width)])
        self.norms = nn.ModuleList(
            [ClassNorm(channels_, classes) for channels_ in (2 * width, 2 * width, width)]
        )
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.norms[0](self.project(z).unflatten(1, self.start), labels)
        for doubled, norm in zip(self.doubled, list(self.norms)[1:], strict=True):
            x = nn.functional.leaky_relu(norm(doubled(x), labels), 0.2)
        return torch.sigmoid(self.last(x))
