"""rgal.data: parquet shards, their columns and their splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rgal.data import load
from rgal.data.layout import split_of
from tests.helpers.data_builders import encoded, pixels, shard, tiny


def test_parquet_gives_the_pixels_and_labels_that_were_put_in(tmp_path: Path) -> None:
    data = load("mine", tiny(tmp_path / "set", classes=3))
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    for index in range(9):
        assert np.array_equal(data.train.images[index].permute(1, 2, 0).numpy(), pixels(index))
    assert data.train.labels.tolist() == [0, 1, 2] * 3
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.spec.class_names == ("0", "1", "2")


def test_shards_are_read_in_order_and_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgal.data.parquet.BATCH", 2)  # smaller than a shard
    for number in range(3):
        images = [encoded(pixels(5 * number + index)) for index in range(5)]
        shard(tmp_path / "set" / f"train-0000{number}-of-00003.parquet", images, [0, 1, 0, 1, number % 2])
    shard(tmp_path / "set" / "test.parquet", [encoded(pixels(99))], [0])
    data = load("mine", tmp_path / "set")
    expected = np.stack([pixels(index) for index in range(15)])
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), expected)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("columns", [("img", "fine_label"), ("picture", "labels"), ("x", "y")])
def test_odd_column_names_and_hugging_face_classes(tmp_path: Path, columns: tuple[str, str]) -> None:
    data = load("mine", tiny(tmp_path / "set", columns=columns, class_names=["no", "yes"]))
    assert data.spec.class_names == ("no", "yes")
    assert data.train.labels.tolist() == [0, 1] * 3


def test_other_columns_do_not_distract(tmp_path: Path) -> None:
    path = tmp_path / "set"
    for split, count in (("train", 4), ("test", 2)):
        extra = {
            "coarse_label": [7] * count,
            "caption": ["a"] * count,
            "__index_level_0__": list(range(count)),
            "score": [0.5] * count,
        }
        images = [encoded(pixels(index)) for index in range(count)]
        shard(path / f"{split}.parquet", images, [0, 1] * (count // 2), ("img", "fine_label"), extra=extra)
    assert load("mine", path).train.labels.tolist() == [0, 1, 0, 1]


def test_plain_binary_column(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = pa.table(
            {"jpg": pa.array([encoded(pixels(1))], pa.large_binary()), "cls": pa.array([0], pa.int8())}
        )
        pq.write_table(table, tmp_path / f"{split}.parquet")
    assert np.array_equal(load("mine", tmp_path).test.images[0].permute(1, 2, 0).numpy(), pixels(1))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00004.parquet", "train"),
        ("cifar10_training.parquet", "train"),
        ("test-00000-of-00001-abc.parquet", "test"),
        ("default/validation/0000.parquet", "validation"),
        ("train/valid-0.parquet", "validation"),
        ("Val.parquet", "validation"),
        ("train0/0.parquet", "train"),
        ("values.parquet", None),
        ("latest.parquet", None),
        ("constraint/extra.parquet", None),
    ],
)
def test_split_from_file_name_or_folder(path: str, split: str | None) -> None:
    assert split_of(Path(path)) == split


def test_test_wins_over_validation_and_root_names_say_nothing(tmp_path: Path) -> None:
    root = tmp_path / "test" / "set"  # a folder above the root must not turn everything into a test split
    shard(root / "data" / "train" / "0000.parquet", [encoded(pixels(1))], [0])
    shard(root / "data" / "validation" / "0000.parquet", [encoded(pixels(2))], [0])
    data = load("mine", root)
    assert np.array_equal(data.test.images[0].permute(1, 2, 0).numpy(), pixels(2))
    shard(root / "data" / "test" / "0000.parquet", [encoded(pixels(3))] * 2, [0, 0])
    assert len(load("mine", root).test) == 2


def test_one_root_for_several_sets(tmp_path: Path) -> None:
    tiny(tmp_path / "all" / "one", classes=2)
    tiny(tmp_path / "all" / "two", classes=3)
    assert load("two", tmp_path / "all").spec.classes == 3
    assert load("one", tmp_path / "all").spec.classes == 2
    assert load("one", tmp_path / "all").spec == load("one", tmp_path / "all" / "one").spec
