"""Images of a pool that are too many for memory, in a file: as many bytes an image as it has pixels, in a row.

Images are written behind the last and read one by one, so that neither takes memory for more than a batch. A file that
is longer than a checkpoint says has images that a run added after it, and is cut back to it.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.files import check_may_write


class SpilledImages:
    """Keep uint8 images of one shape in a file, which is made if it is not there.

    Args:
        path: the file.
        shape: (C, H, W) of the images.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape, self.size = path, shape, prod(shape)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def write(self, images: Tensor, first: int) -> None:
        """Write images (N,C,H,W) into the rows from `first` on."""
        check_may_write()
        if not len(images):
            return
        content = images.cpu().contiguous().numpy().data.cast("B")
        place = first * self.size
        while content:
            written = os.pwrite(self._descriptor, content, place)
            content, place = content[written:], place + written

    def read(self, rows: Tensor) -> Tensor:
        """Return the images in these rows (N,), uint8 (N,C,H,W) on the host."""
        images = torch.empty(len(rows), *self.shape, dtype=torch.uint8)
        content = images.numpy().data.cast("B") if len(rows) else memoryview(b"")
        for at, row in enumerate(rows.tolist()):
            part = content[at * self.size : (at + 1) * self.size]
            if os.preadv(self._descriptor, [part], row * self.size) < self.size:
                raise OSError(f"{self.path}: no image {row} in it")
        return images

    def mapped(self, count: int) -> Tensor:
        """Return the first images, uint8 (count,C,H,W), as a private map of the file: what is read of it is loaded."""
        return torch.from_file(
            os.fspath(self.path), shared=False, size=count * self.size, dtype=torch.uint8
        ).view(count, *self.shape)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._descriptor)

    def cut(self, count: int) -> None:
        """Keep the first images of a file that a checkpoint speaks of.

        Raises:
            UserError: it has fewer.
        """
        found = os.fstat(self._descriptor).st_size // self.size
        if found < count:
            raise UserError(
                f"{self.path}: holds {found:,} of the {count:,} images that the checkpoint beside it speaks of; "
                "take that away to begin anew"
            )
        os.ftruncate(self._descriptor, count * self.size)
