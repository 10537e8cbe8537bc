"""Decide which files of a folder belong to which split."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from rgal.core.errors import UserError

T = TypeVar("T")

_SPLITS = {
    "train": re.compile(r"train(ing|set)?\d*"),
    "test": re.compile(r"test(ing|set)?\d*"),
    "validation": re.compile(r"val(id(ation)?)?\d*"),
}

NO_TRAIN = (
    "there is no training split: a teacher needs given weights, and references on real images are left out"
)
NO_TEST = (
    "there is no labelled test split, so no accuracy is measured: students are judged on held-out synthesised images; "
    "--set evaluate_on=validation keeps a tenth of the training images for it"
)


def files_below(root: Path) -> Iterator[Path]:
    """Yield every file under `root` in a fixed order, following links and leaving out hidden files and folders."""
    # Path.rglob does not enter linked folders. Hidden are, for instance, .git, .cache/huggingface and macOS's ._ files.
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _check_loop(Path(folder, name))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _check_loop(folder: Path) -> None:
    """Refuse a link to a folder that it lies in: what is below it would be there again and again."""
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"'{folder}' is a link to a folder that it lies in, expected no loop; remove the link"
        )


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


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """Hold the files of both splits, and what was left out in choosing them."""

    train: Sequence[T]
    test: Sequence[T]
    notes: tuple[str, ...] = ()


def train_and_test(
    splits: Mapping[str, Sequence[T]],
    root: Path,
    test_split: str | None = None,
    labelled: Callable[[Sequence[T]], bool] = lambda files: True,
) -> Chosen[T]:
    """Choose the training and the test split; "test" is preferred to "validation" if it has labels.

    One of the two may be missing: what is then without data is said in a note.

    Args:
        splits: files by the name of their split.
        root: the folder of the data set, for messages.
        test_split: "test" or "validation", to take this one; None to choose.
        labelled: tells whether files have labels; asked only where there is a choice.

    Raises:
        UserError: both are missing, or the one that `test_split` names.

    >>> train_and_test({"train": ["a"], "validation": ["b"]}, Path("data")).test
    ['b']
    """
    present = [name for name in ("test", "validation") if splits.get(name)]
    notes = []
    if test_split:
        chosen = test_split
        notes += [f"the {name} split is left out" for name in present if name != chosen]
    elif len(present) == 2 and not labelled(splits["test"]):
        chosen = "validation"
        notes.append(
            "the test split has no labels and is left out: what is called test here is its validation split"
        )
    elif present == ["test"] and splits.get("train") and not labelled(splits["test"]):
        chosen = "validation"
        notes.append("the test split has no labels and is left out")
    else:
        chosen = present[0] if present else "test"
        notes += [f"the {name} split is left out; --test-split {name} takes it" for name in present[1:]]
    train, test = splits.get("train", ()), splits.get(chosen, ())
    if (test_split and not test) or not (train or test):
        kinds = {"test": "test split (test*)", "validation": "validation split (val*)"}
        wanted = (
            kinds[test_split] if test_split else "training split (train*) and no test split (test* or val*)"
        )
        there = ", ".join(sorted(name for name, files in splits.items() if files)) or "no split"
        raise UserError(f"'{root}' has no {wanted}; found: {there}")
    notes += [note for files, note in ((train, NO_TRAIN), (test, NO_TEST)) if not files]
    return Chosen(train, test, tuple(notes))
