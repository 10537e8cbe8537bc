"""Well-known data sets that are not on disk: images in the published numbers, so that a run can be planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from rgal.data import torchvision_sets
from rgal.data.dataset import Dataset, Decoded, ImageSet
from rgal.data.specs import data_spec


@dataclass(frozen=True)
class Size:
    """How many images a data set has, and of what kind.

    Attributes:
        shape: (C,H,W) as they are read; ImageNet's, which differ, at the size everyone uses.
        train, test: number of images; the split that is evaluated on stands for the second.
    """

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


SIZES = {
    "cifar10": Size((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": Size((3, 32, 32), 100, 50_000, 10_000),
    "mnist": Size((1, 32, 32), 10, 60_000, 10_000),
    "tiny_imagenet": Size((3, 64, 64), 200, 100_000, 10_000),
    "imagenet": Size((3, 224, 224), 1000, 1_281_167, 50_000),
}
NOTE = "not on disk: planned with the published number of images; keys, and what has been done, are not known"


def is_missing(name: str, root: Path | None) -> bool:
    """Tell whether a data set of known size was given no folder and is not where downloads are kept."""
    if root is not None or name not in SIZES:
        return False
    return (
        name not in torchvision_sets.SETS
        or not (torchvision_sets.kept_at() / torchvision_sets.SETS[name][1]).exists()
    )


def unread(name: str, size: int | None = None) -> Dataset:
    """Make a data set of known size without its images: labels in turn, and black images of one pixel for the others.

    Args:
        name: one of `SIZES`.
        size: pixels that images are resized to; None keeps their own size.

    >>> unread("cifar10").spec.shape, len(unread("cifar10").train)
    ((3, 32, 32), 50000)
    """
    known = SIZES[name]
    channels, height, width = known.shape
    shape = (channels, size or height, size or width)

    def part(count: int) -> ImageSet:
        return ImageSet(
            torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(count, channels, 1, 1),
            torch.arange(count) % known.classes,
        )

    one = ImageSet(torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    names = tuple(str(label) for label in range(known.classes))
    spec = data_spec(name, Decoded(one, one, names, "unread"))
    return Dataset(spec, part(known.train), part(known.test), (NOTE,))
