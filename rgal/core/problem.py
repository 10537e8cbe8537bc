"""What a method may know: a teacher and the shape of its inputs. There is no data in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Domain:
    """The image domain a network was made for.

    shape: (C, H, W). mean, std: per-channel normalisation of images in [0,1].
    flip: whether a horizontal flip keeps the label. crop_padding: pixels of random-crop padding.
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = True
    crop_padding: int = 4

    @cached_property
    def _constants(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def _mean_std(self, device: torch.device) -> tuple[Tensor, Tensor]:
        # Built once a device: a host-to-device copy in every step would be a hidden synchronisation.
        if device not in self._constants:
            mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.mean, self.std))
            self._constants[device] = (mean, std)
        return self._constants[device]

    def normalise(self, images: Tensor) -> Tensor:
        """(N,C,H,W) in [0,1] -> zero mean and unit deviation under the domain's statistics."""
        mean, std = self._mean_std(images.device)
        return (images - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`; the result is not clamped."""
        mean, std = self._mean_std(images.device)
        return images * std + mean

    def clip_normalised(self, images: Tensor) -> Tensor:
        """Clamp normalised images to what pixels in [0,1] can be."""
        mean, std = self._mean_std(images.device)
        return images.clamp(-mean / std, (1 - mean) / std)


@dataclass(frozen=True, eq=False)
class Problem:
    """A frozen teacher and its domain: all that a synthesis method is given."""

    teacher: nn.Module
    domain: Domain
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        freeze(self.teacher)


def freeze(net: nn.Module) -> None:
    """Evaluation mode, and no gradient ever reaches the parameters."""
    net.eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.grad = None


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode is put back afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
