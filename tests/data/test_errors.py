"""rgal.data: each thing a user can get wrong is one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.data_builders import (
    encoded,
    fails,
    image_folder,
    pixels,
    shard,
    tiny,
)


def _no_rows(root: Path) -> None:
    shard(root / "train-0.parquet", [], [])


def _truncated(root: Path) -> None:
    path = root / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def _damaged(root: Path) -> None:
    path = root / "train-0.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196  # the first pages; the footer still reads
    path.write_bytes(bytes(data))


def _bad_row(root: Path) -> None:
    images = [encoded(pixels(1)), encoded(pixels(2)), encoded(pixels(3))[:40]]
    shard(root / "train-0.parquet", images, [0, 1, 0])


def _null_image(root: Path) -> None:
    shard(root / "train-0.parquet", [encoded(pixels(1)), None], [0, 1])


def _empty_image(root: Path) -> None:
    shard(root / "train-0.parquet", [encoded(pixels(1)), b""], [0, 1])


def _null_label(root: Path) -> None:
    shard(root / "test-0.parquet", [encoded(pixels(1))] * 3, [0, 1, None])


def _negative_label(root: Path) -> None:
    shard(root / "test-0.parquet", [encoded(pixels(1))] * 2, [0, -1])


def _no_label(root: Path) -> None:
    pq.write_table(pa.table({"image": [encoded(pixels(1))], "word": ["cat"]}), root / "train-0.parquet")


def _no_image(root: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), root / "train-0.parquet")


def _many_labels(root: Path) -> None:
    table = pa.table({"image": [encoded(pixels(1))], "breed": [0], "colour": [0]})
    pq.write_table(table, root / "train-0.parquet")


def _many_images(root: Path) -> None:
    data = encoded(pixels(1))
    pq.write_table(pa.table({"left": [data], "right": [data], "label": [0]}), root / "train-0.parquet")


def _gap(root: Path) -> None:
    shard(root / "train-0.parquet", [encoded(pixels(1))] * 3, [0, 1, 4])


def _identifiers(root: Path) -> None:
    shard(root / "train-0.parquet", [encoded(pixels(1))] * 2, [0, 2**60])


def _test_only_class(root: Path) -> None:
    shard(root / "test-0.parquet", [encoded(pixels(1))], [2])


def _other_columns(root: Path) -> None:
    shard(root / "train-1.parquet", [encoded(pixels(1))], [0], columns=("picture", "label"))


def _other_classes(root: Path) -> None:
    shard(root / "other" / "train-0.parquet", [encoded(pixels(1))], [0], class_names=["dog", "cat", "cow"])


def _gray_test(root: Path) -> None:
    shard(root / "test-0.parquet", [encoded(pixels(1, channels=1))] * 2, [0, 1])


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (_no_rows, ("train-0.parquet", "found no images", "expected")),
        (_truncated, ("train-0.parquet", "found", "expected")),
        (_damaged, ("train-0.parquet", "found", "expected")),
        (_bad_row, ("train-0.parquet", "row 2", "40 bytes", "(cannot identify image file)", "expected")),
        (_null_image, ("train-0.parquet", "row 1", "no image bytes")),
        (_empty_image, ("train-0.parquet", "row 1", "0 bytes")),
        (_null_label, ("test-0.parquet", "row 2", "label null", "expected")),
        (_negative_label, ("test-0.parquet", "row 1", "label -1", "expected")),
        (_no_label, ("train-0.parquet", "no label column", "word: string")),
        (_no_image, ("train-0.parquet", "no image column", "text: string")),
        (_many_labels, ("train-0.parquet", "breed, colour", "fine_label")),
        (_many_images, ("train-0.parquet", "left, right", "img")),
        (_gap, ("class 2 has no training image", "0 to 4")),
        (_identifiers, ("class 1 has no training image",)),
        (_test_only_class, ("class 2 has no training image",)),
        (_other_columns, ("train-1.parquet", "'picture'", "'image'", "train-0.parquet")),
        (_other_classes, ("'train' shards in '.' and 'other'", "expected one data set")),
        (_gray_test, ("RGB training images", "grayscale test images", "expected")),
    ],
)
def test_bad_parquet_is_one_line(
    tmp_path: Path, damage: Callable[[Path], None], fragments: tuple[str, ...]
) -> None:
    root = tiny(tmp_path / "set")
    damage(root)
    fails(*fragments, data_root=root)


def test_named_classes_must_fit_the_labels(tmp_path: Path) -> None:
    fails("'b'", "no training image", data_root=_named(tmp_path / "few", ["a", "b"], [0, 0]))
    fails("label 2", "expected 0 to 1", data_root=_named(tmp_path / "many", ["a", "b"], [0, 1, 2]))


def _named(root: Path, class_names: list[str], labels: list[int]) -> Path:
    shard(root / "train.parquet", [encoded(pixels(1))] * len(labels), labels, class_names=class_names)
    shard(root / "test.parquet", [encoded(pixels(2))], [0], class_names=class_names)
    return root


def test_missing_folders_and_splits(tmp_path: Path) -> None:
    fails(str(tmp_path / "nowhere"), "does not exist", data_root=tmp_path / "nowhere")
    (tmp_path / "file.parquet").write_bytes(b"")
    fails("file.parquet", "is a file", data_root=tmp_path / "file.parquet")
    (tmp_path / "empty").mkdir()
    fails("no images", "found nothing", "*.parquet", data_root=tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    fails("no images", "notes.txt", data_root=tmp_path / "empty")
    root = tiny(tmp_path / "half")
    (root / "test-0.parquet").unlink()
    fails("half", "no test split", "found: train", data_root=root, test_split="test")
    (root / "train-0.parquet").rename(root / "data.parquet")
    fails("half", "no training split", "no test split", "found: no split", data_root=root)
    root = image_folder(tmp_path / "images")
    for name in ("train", "test"):
        (root / name).rename(root / f"of_{name[:2]}")
    fails("no images", "found of_te, of_tr", "train/<class>/*.png", "or one of the two", data_root=root)


def test_a_name_never_leaves_the_data_root(tmp_path: Path) -> None:
    tiny(tmp_path / "outside")
    (tmp_path / "root").mkdir()
    fails("no images", name="../outside", data_root=tmp_path / "root")
    fails("no images", name="..", data_root=tmp_path / "root")
