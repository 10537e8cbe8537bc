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
from rgal.data.layout import files_below, split_of, train_and_test

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "fine_label", "labels")
BATCH = 1024  # rows of encoded images in memory at a time


@dataclass(frozen=True)
class _Columns:
    """Name the columns of images and labels in a shard. All shards of a data set have the same."""

    image: str
    label: str
    class_names: tuple[str, ...] | None


def parquet_files(root: Path) -> list[Path]:
    """List all `*.parquet` files below `root`."""
    return [path for path in files_below(root) if path.suffix == ".parquet"]


def read(root: Path, files: Sequence[Path], size: int | None, cache: Path) -> Decoded:
    """Decode the shards of a data set, or take them from the cache.

    Args:
        root: the folder of the data set.
        files: its shards, from `parquet_files`.
        size: pixels that images are resized to, or None for their own size.
        cache: the folder of decoded data sets.

    Raises:
        UserError: a split is missing, or a shard is damaged or has no images or labels.
    """
    splits: dict[str, list[Path]] = {}
    for path in files:
        split = split_of(path.relative_to(root))
        if split is not None:
            splits.setdefault(split, []).append(path)
    train, test = train_and_test(splits, root)
    decoded = cached(root, [*train, *test], size, cache, lambda: _decode(root, train, test, size))
    first = next(_examples(test[0], _columns(test[0])), None)
    return replace(decoded, encoding=encoding_of(first.data) if first else "")


def _decode(root: Path, train: Sequence[Path], test: Sequence[Path], size: int | None) -> Decoded:
    """Decode both splits, one shard and one batch of rows at a time."""
    columns = _columns(train[0])
    for path in (*train, *test):
        other = _columns(path)
        if other != columns:
            raise UserError(
                f"'{path}': found {_describe(other)}, expected {_describe(columns)} as in '{train[0].name}'; "
                "one folder holds one data set"
            )
    return assemble(
        _read_split(train, columns, size), _read_split(test, columns, size), columns.class_names, root
    )


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
    row = 0
    for images, labels in _batches(path, columns):
        for data, label in zip(images, labels, strict=True):
            where = f"'{path}', row {row} (from 0)"
            if data is None:
                raise UserError(
                    f"{where}: found no image bytes in '{columns.image}', expected an encoded image"
                )
            if label is None or label < 0:
                raise UserError(
                    f"{where}: found label {'null' if label is None else label} in '{columns.label}', "
                    "expected an integer from 0; a split without labels cannot be used"
                )
            yield Example(data, label, where)
            row += 1


def _batches(path: Path, columns: _Columns) -> Iterator[tuple[list[bytes | None], list[int | None]]]:
    """Yield the image bytes and labels of one shard, BATCH rows at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    batches = _open(path).iter_batches(batch_size=BATCH, columns=[columns.image, columns.label])
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"'{path}': found damaged data ({one_line(error)}), expected a complete Parquet file"
            ) from error
        if batch is None:
            return
        images = batch.column(columns.image)
        if pa.types.is_struct(images.type):
            images = pc.struct_field(images, "bytes")  # None where the struct itself is null
        yield images.to_pylist(), batch.column(columns.label).to_pylist()


def _columns(path: Path) -> _Columns:
    """Find the image and the label column of a shard by their types."""
    import pyarrow as pa

    schema = _open(path).schema_arrow
    images = [field.name for field in schema if _holds_bytes(field.type)]
    integers = [
        field.name for field in schema if pa.types.is_integer(field.type) and not field.name.startswith("__")
    ]  # `__index_level_0__` is the row index that pandas leaves behind
    image = _only(path, schema, "image", "bytes or struct{bytes, ...}", images, IMAGE_NAMES)
    label = _only(path, schema, "label", "integers", integers, LABEL_NAMES)
    return _Columns(image, label, _class_names(schema, label))


def _holds_bytes(kind: Any) -> bool:
    """Tell whether an Arrow type can hold encoded images: binary, or a struct with a binary field `bytes`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _only(
    path: Path, schema: Any, purpose: str, kind: str, candidates: Sequence[str], usual: Sequence[str]
) -> str:
    """Choose the candidate with a usual name, or the only one. Raises UserError, listing the columns."""
    for name in usual:
        if name in candidates:
            return name
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UserError(
            f"'{path}': found several columns that may be the {purpose} ({', '.join(candidates)}), "
            f"expected one, or one called {', '.join(usual)}"
        )
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise UserError(f"'{path}': found no {purpose} column, expected one of {kind}; columns: {columns}")


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Read class names from Hugging Face's metadata in the schema, info.features.<label>.names, or None."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) and names else None
