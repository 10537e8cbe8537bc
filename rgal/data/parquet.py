"""Read Parquet shards of encoded images and labels, as Hugging Face writes them, under any column names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError
from rgal.data.assemble import assemble
from rgal.data.cache import cached
from rgal.data.dataset import Decoded, ImageSet
from rgal.data.decode import Example, decode_split, encoding_of, one_line
from rgal.data.label_columns import LabelKind, label_column, label_reader
from rgal.data.layout import files_below, split_of, train_and_test
from rgal.data.shards import check_shards

IMAGE_NAMES = ("image", "img")
_IDENTIFIERS = 20  # training images from which on as many classes as images are no classes
BATCH = 1024  # rows of encoded images in memory at a time


@dataclass(frozen=True)
class _Columns:
    """Name the columns of images and labels in a shard. All shards of a data set have the same."""

    image: str
    label: str
    kind: LabelKind
    class_names: tuple[str, ...] | None


def parquet_files(root: Path) -> list[Path]:
    """List all `*.parquet` files below `root`."""
    return [path for path in files_below(root) if path.suffix == ".parquet"]


def read(
    root: Path, files: Sequence[Path], size: int | None, cache: Path, test_split: str | None = None
) -> Decoded:
    """Decode the shards of a data set, or take them from the cache.

    Args:
        root: the folder of the data set.
        files: its shards, from `parquet_files`.
        size: pixels that images are resized to, or None for their own size.
        cache: the folder of decoded data sets.
        test_split: "test" or "validation", which is then evaluated on; None to choose.

    Raises:
        UserError: there is no split, a shard is missing, there twice or damaged, or one has no images or labels.
    """
    splits: dict[str, list[Path]] = {}
    stray: list[Path] = []
    for path in files:
        split = split_of(path.relative_to(root))
        (stray if split is None else splits.setdefault(split, [])).append(path)
    chosen = train_and_test(splits, root, test_split, _has_labels)
    check_shards(root, {"train": chosen.train, "test": chosen.test})
    train, test = chosen.train, chosen.test
    decoded = cached(root, [*train, *test], size, cache, lambda: _decode(root, train, test, size))
    shown = (test or train)[0]
    first = next(_rows(shown, _columns(shown)), None)
    notes = chosen.notes
    if stray:
        notes += (
            f"{len(stray)} Parquet files of no split are left out, such as '{stray[0].relative_to(root)}'",
        )
    return replace(decoded, encoding=encoding_of(first[0]) if first and first[0] else "", notes=notes)


def _has_labels(files: Sequence[Path]) -> bool:
    """Tell whether the first shard of a split has a column of labels, and the first row a label."""
    try:
        first = next(_rows(files[0], _columns(files[0])), None)
    except UserError:
        return False
    return first is not None and first[1] is not None and first[1] != -1


def _decode(root: Path, train: Sequence[Path], test: Sequence[Path], size: int | None) -> Decoded:
    """Decode the splits that there are, one shard and one batch of rows at a time."""
    learnt, kind = (train, "training") if train else (test, "test")
    columns = _columns(learnt[0])
    for path in (*train, *test):
        other = _columns(path)
        if other != columns:
            raise UserError(
                f"'{path}': found {_describe(other)}, expected {_describe(columns)} as in '{learnt[0].name}'; "
                "one folder holds one data set"
            )
    if columns.kind != "integer" and columns.class_names is None:
        columns = replace(columns, class_names=_names_in(learnt, columns))
    first, second = (_read_split(files, columns, size) if files else None for files in (train, test))
    decoded = assemble(first, second, columns.class_names, root)
    rows = len(decoded.parts[0])
    if columns.class_names is None and len(decoded.class_names) == rows and rows > _IDENTIFIERS:
        raise UserError(
            f"'{root}': every {kind} image has a label of its own in '{columns.label}', expected classes; "
            "is it a number of the row? call the column of labels 'label'"
        )
    return decoded


def _names_in(files: Sequence[Path], columns: _Columns) -> tuple[str, ...] | None:
    """List the classes of a column of names, sorted; of truth values both. None: labels are numbers."""
    if columns.kind == "bool":
        return ("False", "True")
    if columns.kind == "float":
        return None
    names = {
        label for path in files for _, labels in _batches(path, columns, images=False) for label in labels
    }
    return tuple(sorted(str(name) for name in names if name is not None))


def _describe(columns: _Columns) -> str:
    names = columns.class_names
    classes = "" if names is None else f" of {len(names)} classes ({names[0]!r}, ...)"
    return f"images in '{columns.image}' and labels in '{columns.label}'{classes}"


def _read_split(files: Sequence[Path], columns: _Columns, size: int | None) -> ImageSet:
    count = sum(_open(path).metadata.num_rows for path in files)
    examples = (example for path in files for example in _examples(path, columns))
    return decode_split(examples, count, size, f"'{files[0]}'")


def _open(path: Path) -> Any:
    """Open a shard as a pyarrow.parquet.ParquetFile. Raises UserError if that fails."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"'{path}': found no readable Parquet file ({one_line(error)}), expected a complete one; "
            "was the download cut short?"
        ) from error


def _examples(path: Path, columns: _Columns) -> Iterator[Example]:
    """Yield the rows of one shard. Raises UserError for a damaged shard or a row without an image or a label."""
    number = label_reader(columns.kind, columns.label, columns.class_names)
    for row, (data, label) in enumerate(_rows(path, columns)):
        where = f"'{path}', row {row} (from 0)"
        if data is None:
            raise UserError(f"{where}: found no image bytes in '{columns.image}', expected an encoded image")
        try:
            yield Example(data, number(label), where)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error


def _rows(path: Path, columns: _Columns) -> Iterator[tuple[bytes | None, Any]]:
    """Yield the image bytes and the label of every row of one shard."""
    for images, labels in _batches(path, columns):
        yield from zip(images, labels, strict=True)


def _batches(
    path: Path, columns: _Columns, images: bool = True
) -> Iterator[tuple[list[bytes | None], list[Any]]]:
    """Yield the image bytes and labels of one shard, BATCH rows at a time; with `images` False, labels alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = [columns.image, columns.label] if images else [columns.label]
    batches = _open(path).iter_batches(batch_size=BATCH, columns=wanted)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"'{path}': found damaged data ({one_line(error)}), expected a complete Parquet file"
            ) from error
        if batch is None:
            return
        labels = batch.column(columns.label).to_pylist()
        if not images:
            yield [], labels
            continue
        pictures = batch.column(columns.image)
        if pa.types.is_struct(pictures.type):
            pictures = pc.struct_field(pictures, "bytes")  # None where the struct itself is null
        yield pictures.to_pylist(), labels


def _columns(path: Path) -> _Columns:
    """Find the image and the label column of a shard by their types."""
    schema = _open(path).schema_arrow
    images = [field.name for field in schema if _holds_bytes(field.type)]
    image = _only(path, schema, images)
    label, kind = label_column(path, schema)
    return _Columns(image, label, kind, _class_names(schema, label) if kind == "integer" else None)


def _holds_bytes(kind: Any) -> bool:
    """Tell whether an Arrow type can hold encoded images: binary, or a struct with a binary field `bytes`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _only(path: Path, schema: Any, candidates: Sequence[str]) -> str:
    """Choose the image column: one with a usual name, or the only one. Raises UserError, listing the columns."""
    for name in IMAGE_NAMES:
        if name in candidates:
            return name
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UserError(
            f"'{path}': found several columns that may be the image ({', '.join(candidates)}), "
            f"expected one, or one called {', '.join(IMAGE_NAMES)}"
        )
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise UserError(
        f"'{path}': found no image column, expected one of bytes or struct{{bytes, ...}}; columns: {columns}"
    )


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Read class names from Hugging Face's metadata in the schema, info.features.<label>.names, or None."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) and names else None
