"""Data sets in memory: the bundled digits, torchvision's sets, parquet shards and image folders.

data = load("cifar10", data_root="/data/cifar10")
data.train.images      # uint8 (50000, 3, 32, 32)
data.close_training_data()
data.train             # DataFirewallError: from here on the run is data-free
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from rgal.core.errors import UserError, nearest
from rgal.data import digits, folder, parquet, torchvision_sets
from rgal.data.batches import evaluate_batches, to_float
from rgal.data.cache import cache_folder
from rgal.data.dataset import DataFirewallError, Dataset, DataSpec, Decoded, ImageSet, fingerprint
from rgal.data.decode import fit
from rgal.data.sources import Splits, added, data_source, read_source
from rgal.data.specs import data_spec

__all__ = [
    "DataFirewallError",
    "DataSpec",
    "Dataset",
    "ImageSet",
    "Splits",
    "added",
    "data_source",
    "evaluate_batches",
    "load",
    "names",
    "to_float",
]


def names() -> tuple[str, ...]:
    """List the data sets that can be loaded without --data-root."""
    return ("digits", *torchvision_sets.SETS, *added())


def load(
    name: str,
    data_root: str | Path | None = None,
    size: int | None = None,
    cache: str | Path | None = None,
    test_split: str | None = None,
) -> Dataset:
    """Load both splits of a data set into memory, or the one that there is.

    Args:
        name: one of `names()`, or with `data_root` a name of your own.
        data_root: a folder of parquet shards, of train|test/class/image files, or of torchvision's files. If it has
            a folder called `name`, that folder is read instead. Not needed for `names()`.
        size: pixels; images are resized to size x size (shorter side, then centre crop). None keeps their own size.
        cache: where decoded images are kept; by default $RGAL_CACHE or ~/.cache/rgal/decoded.
        test_split: "test" or "validation": which split of a folder is evaluated on. None takes the test split, or the
            validation split where the test split is missing or has no labels.

    Raises:
        UserError: something is missing, damaged or not as expected.

    >>> digits = load("digits")
    >>> digits.train.images.shape, digits.spec.classes
    (torch.Size([1297, 1, 8, 8]), 10)
    """
    if size is not None and size < 1:
        raise UserError(f"image size is {size}; expected at least 1 pixel")
    root = None if data_root is None else Path(data_root).expanduser()
    if test_split is not None and test_split not in ("test", "validation"):
        raise UserError(f"--test-split {test_split}: {nearest(test_split, ('test', 'validation'))}")
    read = _read(name, root, _decode_size(name, size), cache_folder(cache), test_split)
    decoded = _finish(name, read, size)
    return Dataset(data_spec(name, decoded), decoded.train, decoded.test, decoded.notes)


def _read(name: str, root: Path | None, size: int | None, cache: Path, test_split: str | None) -> Decoded:
    """Find the source of a data set by its name and read it."""
    if name == "digits":
        if root is not None:
            raise UserError(
                f"data set 'digits' comes with scikit-learn; --data-root '{root}' needs another name"
            )
        return digits.read()
    if name in added():
        return read_source(added()[name], root)
    if root is None:
        if name not in torchvision_sets.SETS:
            raise UserError(
                f"unknown data set '{name}'; {nearest(name, names())}; "
                "with --data-root any folder of parquet files or images can be given a name of your own"
            )
        return torchvision_sets.read(name, None)
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise UserError(f"--data-root '{root}' {state}; expected a folder of parquet files or images")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(
            f"--data-root '{root}' cannot be opened: no permission; expected a folder you may read"
        )
    return _read_below(name, root, size, cache, test_split)


def _read_below(name: str, root: Path, size: int | None, cache: Path, test_split: str | None) -> Decoded:
    """Read the data set from `root`/`name`, else from `root`: parquet, else image folders, else torchvision's files."""
    # A name becomes a path only when it is a single word.
    plain = name not in ("", ".", "..") and Path(name).name == name
    for place in [root / name, root] if plain and (root / name).is_dir() else [root]:
        shards = parquet.parquet_files(place)
        if shards:
            return parquet.read(place, shards, size, cache, test_split)
        found = folder.image_files(place)
        if found.splits:
            return folder.read(found, size, cache, test_split)
    if name in torchvision_sets.SETS:
        return torchvision_sets.read(name, root)
    entries = sorted(path.name for path in root.iterdir())
    listing = f"{', '.join(entries[:5])}{', ...' if len(entries) > 5 else ''}" if entries else "nothing"
    raise UserError(
        f"no images in '{root}': found {listing}, "
        "expected *.parquet or train/<class>/*.png and test/<class>/*.png, or one of the two"
    )


def _decode_size(name: str, size: int | None) -> int | None:
    """Return the size to decode at. MNIST is padded to 32 pixels, not stretched, so it is decoded at its own size."""
    return None if name == "mnist" and size == 32 else size


def _finish(name: str, decoded: Decoded, size: int | None) -> Decoded:
    """Resize splits that came at their own size, and pad MNIST's 28x28 images to 32x32 with a black border."""
    border = name == "mnist" and size in (None, 32) and decoded.parts[0].images.shape[2:] == (28, 28)

    def finish(part: ImageSet | None) -> ImageSet | None:
        if part is None:
            return None
        images = torch.nn.functional.pad(part.images, (2, 2, 2, 2)) if border else part.images
        if size is not None and images.shape[-2:] != (size, size):
            # In pieces: resizing works in float32, four times the memory of the images.
            images = torch.cat([fit(piece, size) for piece in torch.split(images, 1024)])
        return ImageSet(images, part.labels)

    finished = replace(decoded, train=finish(decoded.train), test=finish(decoded.test))
    if finished.parts[0].images is decoded.parts[0].images:
        return decoded
    return replace(finished, fingerprint=fingerprint(finished.train, finished.test))
