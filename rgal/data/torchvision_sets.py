"""Read CIFAR-10, CIFAR-100 and MNIST in the form in which torchvision downloads them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from rgal.core.errors import UserError
from rgal.data.dataset import Decoded, ImageSet, fingerprint
from rgal.data.decode import one_line

# Our name -> torchvision's class, and the folder it looks for below its root.
SETS = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
    "mnist": ("MNIST", "MNIST/raw"),
}
PATIENCE = 30  # seconds a download waits for a silent server; without it a blocked network hangs for minutes


def read(name: str, root: Path | None) -> Decoded:
    """Read a data set at its own size from `root`.

    Without `root` it is read from $RGAL_DATA or ~/.cache/rgal, and downloaded to there if it is missing.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    where = root or kept_at()
    try:
        return _read(name, where, download=False)
    except Exception as missing:  # not there, or damaged: torchvision raises many kinds
        if root is not None:
            raise UserError(
                f"'{where}': found no '{name}' ({one_line(missing)}), "
                f"expected *.parquet, train/<class>/*.png or {SETS[name][1]}/; "
                "leave out --data-root to download it"
            ) from missing
    try:
        with _timeout(PATIENCE):
            return _read(name, where, download=True)
    except (OSError, RuntimeError, ValueError, EOFError, HTTPException) as error:
        raise UserError(
            f"data set '{name}': found no '{where / SETS[name][1]}' and could not download it "
            f"({one_line(error)}); put it there, or give --data-root with a folder of parquet files or images"
        ) from error


def kept_at() -> Path:
    """Return where downloads are kept."""
    return Path(os.environ.get("RGAL_DATA") or "~/.cache/rgal").expanduser()


def _read(name: str, where: Path, download: bool) -> Decoded:
    from torchvision import datasets

    source = getattr(datasets, SETS[name][0])
    # The training split first, so that it is the one that a message names when both are missing.
    parts = [source(str(where), train=train, download=download) for train in (True, False)]
    train, test = (_image_set(part) for part in parts)
    return Decoded(train, test, tuple(parts[0].classes), fingerprint(train, test))


def _image_set(part: Any) -> ImageSet:
    """Convert torchvision's arrays, uint8 (N,H,W,3) in numpy or (N,H,W) in torch, to (N,C,H,W)."""
    images = torch.as_tensor(part.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return ImageSet(images.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64))


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Let sockets opened inside the block give up after `seconds` without an answer: torchvision has no such option."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
