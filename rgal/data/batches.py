"""Turn uint8 images in memory into float batches on a device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rgal.data.dataset import ImageSet


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [0,1], on the same device.

    >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}, not uint8")  # floats would be divided by 255 twice
    return images.float() / 255


def evaluate_batches(
    images: ImageSet, batch: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order, as batches of float images and labels.

    Args:
        images: the images and their labels.
        batch: images in a batch; the last one may be smaller.
        device: where the batches are put.

    Yields:
        float32 images (n,C,H,W) in [0,1] and int64 labels (n,), with n <= `batch`.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    for pixels, labels in zip(
        torch.split(images.images, batch), torch.split(images.labels, batch), strict=True
    ):
        # Moved as bytes: a quarter of what float32 would take.
        yield to_float(pixels.to(device)), labels.to(device)
