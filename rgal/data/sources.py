"""Data sets of plug-ins: a function that reads one, registered under a name.

@data_source("scans", mean=(0.3,), std=(0.2,), flip=False)
def scans(root: Path | None) -> Splits:
    return Splits(train_images, train_labels, test_images, test_labels)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.data import torchvision_sets
from rgal.data.assemble import assemble
from rgal.data.dataset import Decoded, ImageSet
from rgal.data.layout import NO_TEST, NO_TRAIN


@dataclass(frozen=True)
class Splits:
    """Hold what a plug-in's function returns: both splits of a data set, or one, with None for the other's images.

    Args:
        train_images, test_images: uint8 (N,C,H,W) with C 1 or 3, all of one size.
        train_labels, test_labels: integers (N,) from 0.
        class_names: in the order of the labels; None uses the labels themselves.
    """

    train_images: Tensor | None
    train_labels: Tensor | None
    test_images: Tensor | None
    test_labels: Tensor | None
    class_names: Sequence[str] | None = None


@dataclass(frozen=True)
class Source:
    """Hold a registered function and what is known about its images.

    Args:
        name: the data set's name.
        read: the function; it is given --data-root, or None.
        module: where it is defined.
        mean, std: normalisation of each channel, for pixels in [0,1]; None means 0.5.
        flip: whether a mirrored image keeps its label.
    """

    name: str
    read: Callable[[Path | None], Splits]
    module: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    flip: bool = True


_SOURCES: dict[str, Source] = {}


def added() -> Mapping[str, Source]:
    """Return the data sets that plug-ins have registered, by name."""
    return dict(sorted(_SOURCES.items()))


def data_source(
    name: str, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None, flip: bool = True
) -> Callable[[Callable[[Path | None], Splits]], Callable[[Path | None], Splits]]:
    """Register the decorated function, (--data-root or None) -> `Splits`, as a data set.

    Args:
        name: the name to load it by.
        mean, std: normalisation of each channel, for pixels in [0,1]; None means 0.5.
        flip: whether a mirrored image keeps its label.

    Raises:
        ValueError: the name is taken.
    """

    def register(read: Callable[[Path | None], Splits]) -> Callable[[Path | None], Splits]:
        if name == "digits" or name in torchvision_sets.SETS:
            raise ValueError(f"data set '{name}' is one of rgal's own; give yours another name")
        if name in _SOURCES and _SOURCES[name].module != read.__module__:
            raise ValueError(f"a data set '{name}' exists already, in {_SOURCES[name].module}")
        _SOURCES[name] = Source(name, read, read.__module__, mean, std, flip)
        return read

    return register


def read_source(source: Source, root: Path | None) -> Decoded:
    """Call a plug-in's function and check what it returns.

    Raises:
        UserError: it is not `Splits`, or images or labels are not as described there.
    """
    where = f"data set '{source.name}' ({source.module})"
    splits = source.read(root)
    if not isinstance(splits, Splits):
        raise UserError(f"{where}: returned a {type(splits).__name__}, expected rgal.data.Splits")
    train = _image_set(splits.train_images, splits.train_labels, f"{where}: training split")
    test = _image_set(splits.test_images, splits.test_labels, f"{where}: test split")
    if train is None and test is None:
        raise UserError(f"{where}: found neither training nor test images, expected one of them at least")
    decoded = assemble(train, test, splits.class_names, Path(source.name))
    missing = [note for part, note in ((train, NO_TRAIN), (test, NO_TEST)) if part is None]
    return replace(decoded, notes=tuple(missing))


def _image_set(images: Tensor | None, labels: Tensor | None, where: str) -> ImageSet | None:
    if images is None and labels is None:
        return None
    if not isinstance(images, Tensor) or images.ndim != 4 or images.dtype != torch.uint8:
        raise UserError(f"{where}: images are {_kind(images)}, expected uint8 (N,C,H,W)")
    if images.shape[1] not in (1, 3) or not images.numel():
        raise UserError(f"{where}: images are {_kind(images)}, expected at least one, of 1 or 3 channels")
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.shape != images.shape[:1]
    ):
        raise UserError(f"{where}: labels are {_kind(labels)}, expected integers ({len(images)},)")
    if int(labels.min()) < 0:
        raise UserError(f"{where}: found label {int(labels.min())}, expected 0 or more")
    return ImageSet(images, labels.to(torch.int64))


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
