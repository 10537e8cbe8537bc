"""Read image folders: root/{train,test or val}/class/*.png."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from rgal.core.errors import UserError
from rgal.data.assemble import assemble
from rgal.data.cache import cached
from rgal.data.dataset import Decoded, ImageSet
from rgal.data.decode import Example, decode_split, encoding_of
from rgal.data.layout import files_below, split_of, train_and_test

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

Splits = dict[str, list[Path]]


def image_files(root: Path) -> Splits:
    """List image files by split, for the folders of `root` that are named like a split; empty if there are none.

    Raises:
        UserError: an image lies outside a class folder.
    """
    splits: Splits = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        split = split_of(PurePath(folder.name))
        if split is None or folder.name.startswith("."):
            continue
        for path in files_below(folder):
            if path.suffix.lower() not in SUFFIXES:
                continue
            if path.parent == folder:
                raise UserError(
                    f"'{path}': found an image outside a class folder, "
                    f"expected '{folder}/<class>/{path.name}'"
                )
            splits.setdefault(split, []).append(path)
    return splits


def read(root: Path, splits: Splits, size: int | None, cache: Path) -> Decoded:
    """Decode an image folder, or take it from the cache. Classes are sorted by name.

    Args:
        root: the folder of the data set.
        splits: its files, from `image_files`.
        size: pixels that images are resized to, or None for their own size.
        cache: the folder of decoded data sets.

    Raises:
        UserError: a split is missing, a file is damaged, or a test image's class has no training image.
    """
    train, test = train_and_test(splits, root)
    names = sorted({_class_of(path, root) for path in train})
    for path in test:
        if _class_of(path, root) not in names:
            raise UserError(
                f"'{path}': found class '{_class_of(path, root)}', "
                f"expected one of the {len(names)} training classes ('{names[0]}', ...)"
            )

    def decode() -> Decoded:
        first, second = (_read_split(files, names, root, size) for files in (train, test))
        return assemble(first, second, names, root)

    decoded = cached(root, [*train, *test], size, cache, decode)
    return replace(decoded, encoding=_encoding(test[0]))


def _encoding(path: Path) -> str:
    """Return the file's encoding, or "" if it can no longer be read and the images come from the cache."""
    try:
        return encoding_of(path.read_bytes())
    except OSError:
        return ""


def _class_of(path: Path, root: Path) -> str:
    """Return the folder directly below the split; images may lie deeper, as in the original Tiny-ImageNet."""
    return path.relative_to(root).parts[1]


def _read_split(files: Sequence[Path], names: Sequence[str], root: Path, size: int | None) -> ImageSet:
    label = {name: index for index, name in enumerate(names)}

    def examples() -> Iterator[Example]:
        for path in files:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise UserError(f"'{path}' cannot be read: {error.strerror}") from error
            yield Example(data, label[_class_of(path, root)], f"'{path}'")

    return decode_split(examples(), len(files), size, f"'{root}'")
