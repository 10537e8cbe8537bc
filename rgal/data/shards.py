"""Check that the Parquet files of a data set are all there, once: no shard missing, no second version beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from rgal.core.errors import UserError
from rgal.data.layout import split_of

_NUMBERED = re.compile(
    r"(?P<name>.*?)-?(?P<number>\d{3,6})-of-(?P<total>\d{3,6}).*"
)  # as Hugging Face names shards


def check_shards(root: Path, splits: Mapping[str, Sequence[Path]]) -> None:
    """Check the shards of each split of a folder.

    Raises:
        UserError: a shard is missing, a file is there twice, or a split is there in two versions or two data sets.
    """
    for split, files in splits.items():
        _check_configurations(root, split, files)
        _check_numbers(root, split, files)
        _check_copies(files)


def _check_configurations(root: Path, split: str, files: Sequence[Path]) -> None:
    """Refuse shards of one split in several folders, but for folders that are called as splits."""
    homes: dict[tuple[str, ...], Path] = {}
    for path in files:
        parts = path.parent.relative_to(root).parts
        homes.setdefault(tuple(part for part in parts if split_of(PurePath(part)) is None), path.parent)
    if len(homes) > 1:
        first, second = list(homes.values())[:2]
        raise UserError(
            f"'{root}': found '{split}' shards in '{first.relative_to(root)}' and '{second.relative_to(root)}', "
            f"expected one data set; name it: --data-root '{root / next(part for key in homes for part in key)}'"
        )


def _check_numbers(root: Path, split: str, files: Sequence[Path]) -> None:
    """Refuse a split of which a numbered shard is missing, and two versions of one split."""
    versions: dict[tuple[str, str], dict[int, Path]] = {}
    for path in files:
        match = _NUMBERED.fullmatch(path.stem)
        key = (match["name"], match["total"]) if match else ("", "")
        numbers = versions.setdefault(key, {})
        numbers[int(match["number"]) if match else len(numbers)] = path
    for (_, total), shards in versions.items():
        missing = [number for number in range(int(total or 0)) if number not in shards]
        if missing:
            there = next(iter(shards.values()))
            raise UserError(
                f"'{root}': shard {missing[0]} (from 0) of {int(total)} of '{there.name}' is missing, "
                f"{len(shards)} are there; was the download cut short?"
            )
    if len(versions) > 1:
        first, second = (next(iter(shards.values())).name for shards in list(versions.values())[:2])
        raise UserError(
            f"'{root}': found '{first}' and '{second}', two versions of split '{split}', expected one of them"
        )


def _check_copies(files: Iterable[Path]) -> None:
    by_size: dict[int, list[Path]] = {}
    for path in files:
        by_size.setdefault(path.stat().st_size if path.exists() else -1, []).append(path)
    for alike in by_size.values():
        seen: dict[str, Path] = {}
        for path in alike if len(alike) > 1 else ():
            other = seen.setdefault(_hash(path), path)
            if other is not path:
                raise UserError(f"'{path}' is a copy of '{other.name}', expected each shard once")


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:  # refused when it is read
        return str(path)
    return digest.hexdigest()
