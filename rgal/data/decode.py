"""From encoded bytes to uint8 images, one at a time, into one array."""

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
    """One encoded image, its label, and where it came from, as an error message should say it."""

    data: bytes
    label: int
    where: str


def one_line(error: BaseException) -> str:
    """The first sentence of a library's message, without the address of the object Pillow read from."""
    message = re.sub(r" <_io\.\w+ object at 0x\w+>", "", " ".join(str(error).split()))
    return message.split(". ")[0].rstrip(".") or type(error).__name__


def encoding_of(data: bytes) -> str:
    """ "JPEG" for an image that was compressed with loss, "" for any other."""
    return "JPEG" if data.startswith(b"\xff\xd8\xff") else ""


def decode(data: bytes) -> Tensor:
    """uint8 (1, H, W) for an image stored as grayscale, else (3, H, W); no alpha. Raises when it cannot.

    Pillow: torchvision's decoders are faster, but deprecated, and the result is cached anyway.
    """
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode.startswith("I;16"):  # 65535 -> 255, rounded; Pillow's own conversion would clip
            wide = np.array(picture).astype(np.int32)
            pixels = ((wide + 128) // 257).astype(np.uint8)
        else:
            pixels = np.array(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def fit(images: Tensor, size: int | None) -> Tensor:
    """uint8 (..., C, H, W) to (..., C, size, size): antialiased, shorter side to `size`, then centre crop."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    height, width = images.shape[-2:]
    short = min(height, width)
    new_height, new_width = size * height // short, size * width // short
    # torchvision's resize without its shortcut for bytes, which rounds differently from one CPU to another.
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
    """Decode `count` examples into one ImageSet: RGB if any of them is, grayscale if all are.

    Raises UserError for no example, bytes that are no image, or several image sizes while `size` is None.
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
    """decode(), with an error that says which example."""
    try:
        return decode(example.data)
    except Exception as error:  # decoders raise whatever they meet in broken bytes
        raise UserError(
            f"{example.where}: found {len(example.data)} bytes that do not decode ({one_line(error)}), "
            "expected a PNG, JPEG, WEBP, GIF or BMP image"
        ) from error


def _pixels(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"
