"""Pools on disk: one safetensors file for programs, a folder of PNGs for people. Either can start another run.

    pool.safetensors                   images uint8 (N,C,H,W), targets int64 (N,), and where they come from
    pool/<class>-<name>/<number>.png   the same images; numbers are their places in the file

A pool that is read is untrusted input: nothing in it is executed, and its shape is checked before its pixels are read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.files import replacing, slug
from rgal.synthesis.pool import ImagePool

FILE, FOLDER = "pool.safetensors", "pool"
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name for such images
EXPECTED = f"expected {FILE}, the folder of a trial that kept its pool, or a folder of PNG or JPEG images"
Shape = tuple[int, int, int]


# Writing ------------------------------------------------------------------------------------------------------------


def save_pool(
    pool: ImagePool, folder: Path, about: Mapping[str, str], classes: int, class_names: Sequence[str] = ()
) -> None:
    """Write both forms into `folder`, over older ones; each is whole or absent, whenever the process is killed.

    about: metadata of the file. class_names: of the first classes; the others' folders have a number only.
    """
    images, targets = pool.images.cpu(), pool.targets.cpu()
    with replacing(folder / FILE) as temporary:
        save_file({"images": images, "targets": targets}, temporary, dict(about))
    half = folder / f".{FOLDER}.tmp"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    for number, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        below = half / class_folder(target, classes, class_names)
        below.mkdir(exist_ok=True)
        Image.fromarray(_as_picture(image)).save(below / f"{number:06d}.png")
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    os.replace(half, folder / FOLDER)


def class_folder(label: int, classes: int, class_names: Sequence[str]) -> str:
    """`07-truck`: padded, so that the order of the names is the order of the classes."""
    number = f"{label:0{len(str(classes - 1))}d}"
    return f"{number}-{slug(class_names[label])[:80]}" if label < len(class_names) else number


def _as_picture(image: Tensor) -> NDArray[np.uint8]:
    """uint8 (C,H,W) -> (H,W) for one channel, else (H,W,C)."""
    return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy()


# Reading ------------------------------------------------------------------------------------------------------------


def load_pool(path: Path, shape: Shape, classes: int) -> tuple[Tensor, Tensor | None]:
    """uint8 images (N, *shape) and int64 targets (N,), on the host; None for targets that nobody has written down.

    path: a .safetensors file, a trial's folder that holds one, or a folder of PNG or JPEG images: in class folders
    whose names begin with the class's number, else without labels. Images of a folder come in the order of the numbers
    in their names. UserError, one line, for anything that is no pool of such images.
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
    """12 hex digits over the images and their labels, whatever kind of file they came from."""
    digest = hashlib.sha256(f"{tuple(images.shape)} {targets is not None}".encode())
    for part in (images, targets):
        if part is not None:
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _read_tensors(path: Path, shape: Shape, classes: int) -> tuple[Tensor, Tensor]:
    wanted = f"'images' uint8 (N, {', '.join(map(str, shape))}) and 'targets' int64 (N,)"
    try:
        with safe_open(path, "pt") as file:
            found = {
                name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape()))
                for name in ("images", "targets")
                if name in file.keys()  # noqa: SIM118 (no mapping)
            }
            count = found.get("images", ("", ()))[1][:1]
            if found != {"images": ("U8", (*count, *shape)), "targets": ("I64", count)}:
                seen = ", ".join(f"'{name}' {kind} {size}" for name, (kind, size) in found.items())
                raise UserError(f"{path}: found {seen or 'neither images nor targets'}; expected {wanted}")
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
    images = torch.empty(
        len(paths), *shape, dtype=torch.uint8
    )  # one array from the start: no image is held twice
    for row, path in enumerate(paths):
        images[row] = _read_picture(path, shape)
    return images, None if flat else torch.tensor([labels[path] for path in paths])


def _is_trial(folder: Path) -> bool:
    return (folder / "trial.json").exists()


def _pictures(folder: Path) -> list[Path]:
    if _is_trial(folder):
        return []  # samples.png is for people to look at
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in found if not path.name.startswith(".")]


def _label(folder: Path, classes: int) -> int:
    """The number that a class folder's name begins with."""
    match = re.fullmatch(r"([0-9]{1,9})(-.*)?", folder.name)
    if match is None or int(match[1]) >= classes:
        raise UserError(
            f"{folder}: found a class folder '{folder.name}', expected NUMBER or NUMBER-NAME, 0 to {classes - 1}"
        )
    return int(match[1])


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """9-3.png before 10-1.png; images of equal names by their folders."""
    parts = re.split(r"([0-9]+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], str(path)


def _read_picture(path: Path, shape: Shape) -> Tensor:
    """uint8 (C,H,W), exactly as stored: nothing is resized or converted."""
    channels, height, width = shape
    wanted = f"{MODES[channels]} image of {width}x{height} pixels"
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            found = f"{picture.mode} image of {picture.width}x{picture.height} pixels"
            pixels = np.array(picture) if found == wanted else None
    except Exception as error:  # decoders raise whatever they meet in broken bytes
        raise UserError(f"{path}: not a PNG or JPEG image, or a damaged one; expected {wanted}") from error
    if pixels is None:
        raise UserError(f"{path}: found {found}; expected {wanted}")
    return torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)
