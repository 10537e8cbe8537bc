"""Images, parquet shards and folders for the tests of rgal.data, and the checks they share."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rgal.core.errors import UserError
from rgal.data import ImageSet, load

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache: tests/data/conftest.py makes this a fixture of every test there."""
    monkeypatch.setenv("RGAL_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("RGAL_DATA", str(tmp_path / "downloads"))


def pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def encoded(array: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shard(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    columns: tuple[str, str] = ("image", "label"),
    class_names: Sequence[str] | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """A parquet file in the layout of Hugging Face."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None if data is None else {"bytes": data, "path": "x.png"} for data in images]
    table = pa.table(
        {columns[0]: pa.array(rows, kind), columns[1]: pa.array(labels, pa.int64()), **(extra or {})}
    )
    if class_names is not None:
        features = {columns[1]: {"names": list(class_names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def tiny(root: Path, classes: int = 2, per_class: int = 3, **options: Any) -> Path:
    """train-*.parquet with per_class images of each class, test-*.parquet with one; random pixels."""
    labels = [index % classes for index in range(classes * per_class)]
    shard(
        root / "train-0.parquet", [encoded(pixels(index)) for index in range(len(labels))], labels, **options
    )
    test = list(range(classes))
    shard(root / "test-0.parquet", [encoded(pixels(1000 + label)) for label in test], test, **options)
    return root


def image_folder(root: Path, test: str = "test", suffix: str = "png") -> Path:
    for split, count in (("train", 2), (test, 1)):
        for position, name in enumerate(("cat", "ant")):
            for index in range(count):
                path = root / split / name / f"{index}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(10 * position + index + (100 if split == test else 0))).save(path)
    return root


def fails(*fragments: str, name: str = "mine", **options: Any) -> str:
    """load() raises a UserError of exactly one line that contains every fragment."""
    with pytest.raises(UserError) as caught:
        load(name, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} not in {message!r}"
    return message


def rows(part: ImageSet) -> Counter[bytes]:
    return Counter(image.numpy().tobytes() for image in part.images)
