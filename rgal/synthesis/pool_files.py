"""Pools on disk: a safetensors file for programs, a folder of PNGs for people. Either can start another run.

    pool.safetensors                   images uint8 (N,C,H,W), targets int64 (N,), and where they come from
    pool/<class>-<name>/<number>.png   the same images; numbers are their positions in the file

A pool to read is untrusted input: nothing in it is executed, and its shape is checked before its pixels are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.files import check_may_write, replacing, slug
from rgal.synthesis.pool import ImagePool

FILE, FOLDER = "pool.safetensors", "pool"
PIECE = 1_000  # images that are written at a time
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name for such images
EXPECTED = f"expected {FILE}, the folder of a trial that kept its pool, or a folder of PNG or JPEG images"
Shape = tuple[int, int, int]


# Writing ------------------------------------------------------------------------------------------------------------


def save_pool(
    pool: ImagePool, folder: Path, metadata: Mapping[str, str], classes: int, class_names: Sequence[str] = ()
) -> None:
    """Write a pool in both forms, over older ones. Each form is complete or absent, even if the process is killed.

    Args:
        pool: the images and their labels.
        folder: an existing folder.
        metadata: where the images come from; stored in the safetensors file.
        classes: number of classes.
        class_names: names of the first classes; the folders of further classes have a number only.
    """
    images, targets = pool.images.cpu(), pool.targets.cpu()
    with replacing(folder / FILE) as temporary:
        _write_tensors(temporary, images, targets, metadata)
    check_may_write()
    half = folder / f".{FOLDER}.tmp"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    for number, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        below = half / class_folder(target, classes, class_names)
        below.mkdir(exist_ok=True)
        Image.fromarray(_as_picture(image)).save(below / f"{number:06d}.png")
    check_may_write()
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    os.replace(half, folder / FOLDER)


def _write_tensors(path: Path, images: Tensor, targets: Tensor, metadata: Mapping[str, str]) -> None:
    """Write images and labels in the format of safetensors, whose library would hold a copy of all in memory.

    The file is eight bytes with the length of the header, the header (JSON, padded with spaces), and the tensors, whose
    places the header counts from its own end: those of larger numbers first.
    """
    tensors = {"targets": (targets, "I64"), "images": (images, "U8")}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, (tensor, kind) in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor, _ in tensors.values():
            for part in tensor.split(PIECE):
                file.write(part.contiguous().numpy().data)


def class_folder(label: int, classes: int, class_names: Sequence[str]) -> str:
    """Name the folder of a class, with a padded number, so that names sort in the order of the classes.

    Args:
        label: the class.
        classes: number of classes, which sets the padding.
        class_names: names of the first classes.

    >>> class_folder(7, 20, ["plane"] * 7 + ["Fire truck"])
    '07-fire-truck'
    """
    number = f"{label:0{len(str(classes - 1))}d}"
    return f"{number}-{slug(class_names[label])[:80]}" if label < len(class_names) else number


def _as_picture(image: Tensor) -> NDArray[np.uint8]:
    """Convert uint8 (C,H,W) to (H,W) for one channel, else to (H,W,C)."""
    return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy()


# Reading ------------------------------------------------------------------------------------------------------------


def load_pool(path: Path, shape: Shape, classes: int) -> tuple[Tensor, Tensor | None]:
    """Read a pool.

    Args:
        path: a .safetensors file, a trial's folder that holds one, or a folder of PNG or JPEG images. Images are in
            class folders, whose names begin with the number of the class, or directly in the folder, without labels.
        shape: (C, H, W) that the images must have.
        classes: number of classes.

    Returns:
        uint8 images (N,C,H,W) and int64 labels (N,) on the host, or None if there are no labels. The images of a folder
        are ordered by the numbers in their names.

    Raises:
        UserError: the path holds anything but a pool of such images.
    """
    try:
        if path.is_dir():
            if (path / FILE).exists():
                return _read_tensors(path / FILE, shape, classes)
            return _read_folder(path, shape, classes)
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; {EXPECTED}")
        if path.suffix != ".safetensors" or not path.is_file():
            raise UserError(f"{path}: not a pool; {EXPECTED}")
        return _read_tensors(path, shape, classes)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from error


def pool_key(images: Tensor, targets: Tensor | None) -> str:
    """Hash images and labels to 12 hex digits, the same for either kind of file."""
    digest = hashlib.sha256(f"{tuple(images.shape)} {targets is not None}".encode())
    for part in (images, targets):
        if part is not None:
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _read_tensors(path: Path, shape: Shape, classes: int) -> tuple[Tensor, Tensor]:
    wanted = f"'images' uint8 (N, {', '.join(map(str, shape))}) and 'targets' int64 (N,)"
    try:
        with safe_open(path, "pt") as file:
            stored = {
                name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape()))
                for name in ("images", "targets")
                if name in file.keys()  # noqa: SIM118 (no mapping)
            }
            count = stored.get("images", ("", ()))[1][:1]
            if stored != {"images": ("U8", (*count, *shape)), "targets": ("I64", count)}:
                listing = ", ".join(f"'{name}' {kind} {size}" for name, (kind, size) in stored.items())
                raise UserError(f"{path}: found {listing or 'neither images nor targets'}; expected {wanted}")
            images, targets = file.get_tensor("images"), file.get_tensor("targets")
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file, or a damaged one; expected {wanted}") from error
    if not len(images):
        raise UserError(f"{path}: holds no images, expected at least one")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise UserError(f"{path}: found labels from {low} to {high}, expected 0 to {classes - 1}")
    return images, targets


def _read_folder(root: Path, shape: Shape, classes: int) -> tuple[Tensor, Tensor | None]:
    flat = _pictures(root)
    below = {f: _pictures(f) for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith(".")}
    labels = {path: _label(folder, classes) for folder, paths in below.items() for path in paths}
    if not flat and not labels:
        why = "a trial that kept no pool (--set keep_pool=true keeps it)" if _is_trial(root) else "no image"
        raise UserError(f"{root}: found {why}; {EXPECTED}")
    if flat and labels:
        raise UserError(
            f"{root}: found images beside class folders ('{flat[0].name}'); expected one or the other"
        )
    paths = sorted(flat or labels, key=_natural)
    # One array from the start: stacking a list would hold every image twice.
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)
    for row, path in enumerate(paths):
        images[row] = _read_picture(path, shape)
    return images, None if flat else torch.tensor([labels[path] for path in paths])


def _is_trial(folder: Path) -> bool:
    return (folder / "trial.json").exists()


def _pictures(folder: Path) -> list[Path]:
    if _is_trial(folder):
        return []  # samples.png is for people to look at
    pictures = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in pictures if not path.name.startswith(".")]


def _label(folder: Path, classes: int) -> int:
    """Read the number with which a class folder's name begins. Raises UserError if it is no class."""
    match = re.fullmatch(r"([0-9]{1,9})(-.*)?", folder.name)
    if match is None or int(match[1]) >= classes:
        raise UserError(
            f"{folder}: found a class folder '{folder.name}', expected NUMBER or NUMBER-NAME, 0 to {classes - 1}"
        )
    return int(match[1])


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts 9-3.png before 10-1.png, and images of equal names in the order of their folders."""
    parts = re.split(r"([0-9]+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], str(path)


def _read_picture(path: Path, shape: Shape) -> Tensor:
    """Read an image as uint8 (C,H,W). Raises UserError unless its size and channels are those of `shape`."""
    channels, height, width = shape
    wanted = f"{MODES[channels]} image of {width}x{height} pixels"
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            actual = f"{picture.mode} image of {picture.width}x{picture.height} pixels"
            pixels = np.array(picture) if actual == wanted else None
    except Exception as error:  # decoders raise whatever they meet in broken bytes
        raise UserError(f"{path}: not a PNG or JPEG image, or a damaged one; expected {wanted}") from error
    if pixels is None:
        raise UserError(f"{path}: found {actual}; expected {wanted}")
    return torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)
