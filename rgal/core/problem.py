"""What a method is given: a teacher and a description of its images. There is no data in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Domain:
    """Describe the images that a network takes.

    Args:
        shape: (C, H, W).
        classes: number of classes.
        mean, std: normalisation of each channel, for pixels in [0,1].
        flip: whether a mirrored image keeps its label.
        crop_padding: pixels by which a random crop pads each side.
        source: who says how images are normalised, in words; `rgal.core.domain` makes domains that have it.

    >>> domain = Domain((1, 2, 2), classes=10, mean=(0.5,), std=(0.25,))
    >>> domain.normalise(torch.ones(1, 1, 2, 2)).unique().item()
    2.0
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = True
    crop_padding: int = 4
    source: str = field(default="", compare=False, repr=False)

    @cached_property
    def _constants(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def _mean_std(self, device: torch.device) -> tuple[Tensor, Tensor]:
        # Built once per device: a host-to-device copy in every step would be a hidden synchronisation.
        if device not in self._constants:
            mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.mean, self.std))
            self._constants[device] = (mean, std)
        return self._constants[device]

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images (N,C,H,W) in [0,1]: (images - mean) / std, per channel."""
        mean, std = self._mean_std(images.device)
        return (images - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """Undo `normalise`. The result is not clamped."""
        mean, std = self._mean_std(images.device)
        return images * std + mean

    def clip_normalised(self, images: Tensor) -> Tensor:
        """Clamp normalised images to the range that pixels in [0,1] have after normalisation."""
        mean, std = self._mean_std(images.device)
        return images.clamp(-mean / std, (1 - mean) / std)


@dataclass(frozen=True, eq=False)
class Problem:
    """Hold a frozen teacher and its domain: all that a synthesis method is given.

    Args:
        teacher: a classifier; it is frozen on construction.
        domain: the images that the teacher takes.
        device: where the teacher is.
    """

    teacher: nn.Module
    domain: Domain
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        freeze(self.teacher)


def freeze(net: nn.Module) -> None:
    """Put a network into evaluation mode and turn gradients of its parameters off."""
    net.eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.grad = None


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block, and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
