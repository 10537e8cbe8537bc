"""A few real images without labels: any files in any folders, resized and cut to what a network takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rgal.core.errors import UserError
from rgal.data.decode import decode, one_line
from rgal.data.folder import SUFFIXES
from rgal.data.layout import files_below


def read_unlabelled(root: Path, shape: tuple[int, int, int]) -> Tensor:
    """Decode every image below a folder to uint8 (N,C,H,W), in the order of their paths.

    An image is resized, with its sides in proportion, until it covers H x W, and cut around its centre. A grey image is
    repeated over three channels; a coloured one becomes its luma where the network takes one channel.

    Args:
        root: the folder, or one image.
        shape: (C, H, W).

    Raises:
        UserError: there is no image, or one does not decode.
    """
    if not root.exists():
        raise UserError(f"--calibration {root}: no such folder")
    every = list(files_below(root)) if root.is_dir() else [root]
    files = [path for path in every if path.suffix.lower() in SUFFIXES]
    if not files:
        found = Counter(path.suffix.lower() or "no ending" for path in every)
        what = ", ".join(f"{count} {ending}" for ending, count in found.most_common(3)) or "nothing"
        raise UserError(f"--calibration {root}: found {what}; expected images ({', '.join(SUFFIXES)})")
    images = torch.empty(len(files), *shape, dtype=torch.uint8)
    for row, path in enumerate(files):
        images[row] = fitted(_decoded(path), shape)
    return images


def _decoded(path: Path) -> Tensor:
    try:
        return decode(path.read_bytes())
    except Exception as error:  # decoders raise whatever they meet in broken bytes
        raise UserError(
            f"--calibration: '{path}' does not decode ({one_line(error)}); take it away"
        ) from error


def fitted(image: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Resize a uint8 image (C',H',W') to cover the last two of `shape`, cut its centre, and give it its channels.

    >>> fitted(torch.full((3, 20, 60), 7, dtype=torch.uint8), (1, 8, 16)).unique()
    tensor([7], dtype=torch.uint8)
    """
    channels, height, width = shape
    pixels = image.float()
    if channels == 1 and len(image) == 3:  # the weights of ITU-R 601, as Pillow has them
        pixels = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    scale = max(height / image.shape[1], width / image.shape[2])
    size = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    if size != tuple(image.shape[1:]):
        pixels = interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cut = pixels[:, top : top + height, left : left + width].round().clamp(0, 255).to(torch.uint8)
    return cut.expand(channels, height, width)


def images_key(images: Tensor) -> str:
    """Hash images to 12 hex digits."""
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()[:12]
