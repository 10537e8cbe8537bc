"""Which files of a folder belong to which split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from rgal.core.errors import UserError

T = TypeVar("T")

_SPLITS = {
    "train": re.compile(r"train(ing|set)?\d*"),
    "test": re.compile(r"test(ing|set)?\d*"),
    "validation": re.compile(r"val(id(ation)?)?\d*"),
}


def files_below(root: Path) -> Iterator[Path]:
    """Every file under `root` in a fixed order, through links, leaving out hidden files and folders."""
    # Path.rglob does not enter linked folders; hidden ones are .git, .cache/huggingface, ._ files of macOS.
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def split_of(path: PurePath) -> str | None:
    """'train', 'test' or 'validation' for a path relative to the root; None for none of them.

    The name counts first, then the nearest folder: `train-00000-of-00004.parquet`, `cifar10_test.parquet`,
    `default/validation/0000.parquet`.
    """
    for part in (path.stem, *reversed(path.parent.parts)):
        for word in re.split(r"[^a-z0-9]+", part.lower()):
            for split, pattern in _SPLITS.items():
                if pattern.fullmatch(word):
                    return split
    return None


def train_and_test(found: Mapping[str, Sequence[T]], root: Path) -> tuple[Sequence[T], Sequence[T]]:
    """The two splits among those `found`; test wins over validation. UserError if one is missing."""
    train = found.get("train", ())
    test = found.get("test", ()) or found.get("validation", ())
    for files, wanted in ((train, "training split (train*)"), (test, "test split (test* or val*)")):
        if not files:
            splits = ", ".join(sorted(name for name, files in found.items() if files)) or "no split"
            raise UserError(f"'{root}' has no {wanted}; found: {splits}")
    return train, test
