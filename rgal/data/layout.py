"""Decide which files of a folder belong to which split."""

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
    """Yield every file under `root` in a fixed order, following links and leaving out hidden files and folders."""
    # Path.rglob does not enter linked folders. Hidden are, for instance, .git, .cache/huggingface and macOS's ._ files.
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def split_of(path: PurePath) -> str | None:
    """Tell which split a path relative to the root belongs to: "train", "test", "validation" or None.

    The file's name is looked at first, then the folders, the nearest first.

    >>> split_of(PurePath("train-00000-of-00004.parquet"))
    'train'
    >>> split_of(PurePath("default/validation/0000.parquet"))
    'validation'
    >>> split_of(PurePath("extra/0000.parquet"))
    """
    for part in (path.stem, *reversed(path.parent.parts)):
        for word in re.split(r"[^a-z0-9]+", part.lower()):
            for split, pattern in _SPLITS.items():
                if pattern.fullmatch(word):
                    return split
    return None


def train_and_test(splits: Mapping[str, Sequence[T]], root: Path) -> tuple[Sequence[T], Sequence[T]]:
    """Choose the training and the test split; "test" is preferred to "validation".

    Args:
        splits: files by the name of their split.
        root: the folder of the data set, for messages.

    Raises:
        UserError: one of the two is missing.

    >>> train_and_test({"train": ["a"], "validation": ["b"]}, Path("data"))
    (['a'], ['b'])
    """
    train = splits.get("train", ())
    test = splits.get("test", ()) or splits.get("validation", ())
    for files, wanted in ((train, "training split (train*)"), (test, "test split (test* or val*)")):
        if not files:
            present = ", ".join(sorted(name for name, files in splits.items() if files)) or "no split"
            raise UserError(f"'{root}' has no {wanted}; found: {present}")
    return train, test
