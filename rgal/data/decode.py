"""Decode image files one at a time into one array of uint8 images."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rgal.core.errors import UserError
from rgal.data.dataset import ImageSet


@dataclass(frozen=True)
class Example:
    """Hold one encoded image, its label, and where it came from, in the words of an error message."""

    data: bytes
    label: int
    where: str


def one_line(error: BaseException) -> str:
    """Return the first sentence of a library's message, without the address of the object that Pillow read.

    >>> one_line(OSError("cannot identify image file <_io.BytesIO object at 0x7f00>. More"))
    'cannot identify image file'
    """
    message = re.sub(r" <_io\.\w+ object at 0x\w+>", "", " ".join(str(error).split()))
    return message.split(". ")[0].rstrip(".") or type(error).__name__


def encoding_of(data: bytes) -> str:
    """Return "JPEG" for the bytes of such an image, and "" for any other.

    >>> encoding_of(b"\\xff\\xd8\\xff\\xe0")
    'JPEG'
    """
    return "JPEG" if data.startswith(b"\xff\xd8\xff") else ""


def decode(data: bytes) -> Tensor:
    """Decode an image to uint8 (1,H,W) if it is stored as grayscale, else (3,H,W), without alpha.

    Raises whatever the decoder does for bytes that are no image.
    """
    import numpy as np
    from PIL import (
        Image,
    )  # torchvision's decoders are faster, but deprecated, and the result is cached anyway

    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode.startswith("I;16"):  # 65535 -> 255, rounded; Pillow's own conversion would clip
            wide = np.array(picture).astype(np.int32)
            pixels = ((wide + 128) // 257).astype(np.uint8)
        elif picture.mode == "F":
            raise ValueError("pixels are floats, of an unknown range")
        else:
            pixels = np.array(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def fit(images: Tensor, size: int | None) -> Tensor:
    """Resize uint8 images (...,C,H,W) to (...,C,size,size): the shorter side to `size`, then a centre crop.

    Resizing is bilinear with antialiasing. size None: the images as they are.

    >>> fit(torch.full((3, 40, 60), 7, dtype=torch.uint8), 32).shape
    torch.Size([3, 32, 32])
    """
    if size is None or images.shape[-2:] == (size, size):
        return images
    height, width = images.shape[-2:]
    short = min(height, width)
    new_height, new_width = size * height // short, size * width // short
    # As torchvision resizes, but in float32: its shortcut for bytes rounds differently on different CPUs.
    resized = interpolate(
        images.float().reshape(-1, *images.shape[-3:]),
        size=(new_height, new_width),
        mode="bilinear",
        antialias=True,
    )
    top, left = (new_height - size) // 2, (new_width - size) // 2
    square = resized[..., top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)
    return square.reshape(*images.shape[:-2], size, size)


def decode_split(examples: Iterable[Example], count: int, size: int | None, where: str) -> ImageSet:
    """Decode a split into one ImageSet: grayscale if all of its images are, else RGB.

    Args:
        examples: the encoded images.
        count: how many there are.
        size: pixels that all are resized to, or None for their own size.
        where: the split's place, for messages.

    Raises:
        UserError: there is no example, bytes are no image, or sizes differ while `size` is None.
    """
    images: Tensor | None = None
    labels = torch.empty(count, dtype=torch.int64)
    colour = False
    for position, example in enumerate(examples):
        image = fit(_decode_example(example), size)
        if images is None:
            # One array from the start: collecting and stacking would hold every image twice.
            images = torch.empty((count, 3, *image.shape[1:]), dtype=torch.uint8)
        if image.shape[1:] != images.shape[2:]:
            raise UserError(
                f"{example.where}: found an image of {_pixels(image)} pixels, expected {_pixels(images)} "
                "as before it; give --set image_size=... to resize them all"
            )
        images[position] = image  # grayscale is repeated over the three channels
        labels[position] = example.label
        colour = colour or image.shape[0] == 3
    if images is None:
        raise UserError(f"{where}: found no images, expected at least one")
    return ImageSet(images if colour else images[:, :1].clone(), labels)


def _decode_example(example: Example) -> Tensor:
    """Decode one example. Raises UserError that says which one does not decode."""
    try:
        return decode(example.data)
    except Exception as error:  # decoders raise whatever they meet in broken bytes
        raise UserError(
            f"{example.where}: found {len(example.data)} bytes that do not decode ({one_line(error)}), "
            "expected an image in a format that Pillow reads"
        ) from error


def _pixels(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"
