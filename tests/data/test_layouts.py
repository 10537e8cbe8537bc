"""Data as people have it: layouts that load, with what was left out in words, or one line that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, features

from rgal.data import load
from tests.helpers.data_builders import encoded, fails, image_folder, pixels, shard, tiny


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpeg": "JPEG", ".jpg": "JPEG"}.get(path.suffix.lower(), "PNG")
    path.write_bytes(encoded(pixels(seed), kind))
    return path


def split(root: Path, name: str, classes: tuple[str, ...] = ("ant", "cat"), each: int = 2) -> None:
    for position, kind in enumerate(classes):
        for index in range(each):
            picture(root / name / kind / f"{kind}{index}.png", 10 * position + index)


def numbered(root: Path, name: str, total: int, missing: tuple[int, ...] = ()) -> None:
    for number in set(range(total)) - set(missing):
        images = [encoded(pixels(10 * number + index)) for index in range(2)]
        shard(root / f"{name}-{number:05}-of-{total:05}.parquet", images, [0, 1])


# Layouts that load: what is built, the number of classes, of training and of test images, and what the notes say.


def tiny_imagenet(root: Path) -> None:
    """Its own zip: boxes beside training images, a table for validation, a test split without labels."""
    top = root / "tiny-imagenet-200"
    for position, wnid in enumerate(("n01443537", "n01629819")):
        for index in range(2):
            picture(top / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 10 * position + index)
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text("x 1 2 3 4\n")
        picture(top / "val" / "images" / f"val_{position}.JPEG", position)
        picture(top / "test" / "images" / f"test_{position}.JPEG", position)
    table = "val_0.JPEG\tn01629819\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t0\t1\t2\t3\n"
    (top / "val" / "val_annotations.txt").write_text(table)
    (top / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")


def kaggle_imagenet(root: Path) -> None:
    """Three levels down, with a CSV of classes and boxes at the top."""
    place = root / "ILSVRC" / "Data" / "CLS-LOC"
    split(place, "train", ("n01440764", "n03995372"))
    for index in range(2):
        picture(place / "val" / f"ILSVRC2012_val_0000000{index}.JPEG", index)
        picture(place / "test" / f"ILSVRC2012_test_0000000{index}.JPEG", index)
    rows = [
        "ILSVRC2012_val_00000000,n03995372 85 1 499 272",
        "ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 5 6 7 8",
    ]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")


def hub_imagenet(root: Path) -> None:
    """Shards of the Hub: labels of the test split are -1."""
    for name, labels in (("train", [0, 1, 1]), ("validation", [1, 0]), ("test", [-1, -1])):
        images = [encoded(pixels(index), "JPEG") for index in range(len(labels))]
        shard(
            root / "data" / f"{name}-00000-of-00001.parquet",
            images,
            labels,
            class_names=["tench", "goldfish"],
        )


def hub_without_test_labels(root: Path) -> None:
    """The test split has no column of labels at all."""
    numbered(root, "train", 1)
    numbered(root, "validation", 1)
    table = pa.table({"image": pa.array([encoded(pixels(1))])})
    pq.write_table(table, root / "test-00000-of-00001.parquet")


def tables(root: Path) -> None:
    """Flat folders, each beside a table of names without suffixes."""
    for name in ("train", "test"):
        for index in range(4):
            picture(root / name / f"{name}{index}.png", index)
        rows = "\n".join(f"{name}{index},{'wild cat' if index % 2 else 'dog'}" for index in range(4))
        (root / f"{name}.csv").write_text(f"id,breed\n{rows}\n")


def left_out(root: Path) -> None:
    split(root, "train")
    split(root, "test")
    (root / "train" / "cat" / "raw.heic").write_bytes(b"x")
    (root / "train" / "cat" / "raw2.heic").write_bytes(b"x")
    (root / "train" / "zebra").mkdir()


def both(root: Path) -> None:
    for name in ("train", "val", "test"):
        split(root, name, each=3 if name == "val" else 2)


def stray(root: Path) -> None:
    tiny(root)
    shutil.copy(root / "test-0.parquet", root / "extra.parquet")


def linked(root: Path) -> None:
    """A split and a class are links to elsewhere."""
    split(root / "store", "a")
    split(root / "store", "test")
    (root / "set").mkdir()
    (root / "set" / "train").symlink_to(root / "store" / "a")
    (root / "set" / "test").mkdir()
    (root / "set" / "test" / "ant").symlink_to(root / "store" / "test" / "ant")
    (root / "set" / "test" / "cat").symlink_to(root / "store" / "test" / "cat")
    shutil.move(root / "store", root.parent / "elsewhere")
    for link in [root / "set" / "train", *(root / "set" / "test").iterdir()]:
        target = str(link.readlink()).replace(str(root / "store"), str(root.parent / "elsewhere"))
        link.unlink()
        link.symlink_to(target)


LOADS: dict[str, tuple[Callable[[Path], None], tuple[int, int, int], tuple[str, ...]]] = {
    "Tiny-ImageNet's zip": (tiny_imagenet, (2, 4, 2), ("read from 'tiny-imagenet-200'", "no labels", "2 .txt")),
    "ImageNet on Kaggle": (kaggle_imagenet, (2, 4, 2), ("ILSVRC/Data/CLS-LOC", "test split has no labels")),
    "ImageNet on the Hub": (hub_imagenet, (2, 3, 2), ("test split has no labels",)),
    "a test split without a column": (hub_without_test_labels, (2, 2, 2), ("test split has no labels",)),
    "tables of classes": (tables, (2, 4, 4), ()),
    "other files, empty classes": (left_out, (2, 4, 4), ("2 .heic", "without an image in 'train': zebra")),
    "three splits": (both, (2, 4, 4), ("validation split is left out; --test-split validation takes it",)),
    "a file of no split": (stray, (2, 6, 2), ("1 Parquet files of no split are left out, such as 'extra.parquet'",)),
    "links": (linked, (2, 4, 4), ("read from 'set'",)),
    "train, val": (lambda root: image_folder(root, "val") and None, (2, 4, 2), ()),
}  # fmt: skip


@pytest.mark.parametrize("layout", LOADS)
def test_layouts_that_load(layout: str, tmp_path: Path) -> None:
    build, (classes, train, test), said = LOADS[layout]
    build(tmp_path / "top")
    for _ in range(2):  # decoded, and from the cache
        data = load("mine", tmp_path / "top")
        assert (data.spec.classes, len(data.train), len(data.test)) == (classes, train, test)
        assert all(any(words in note for note in data.notes) for words in said), data.notes
        assert bool(data.notes) == bool(said)


def test_labels_of_a_table_are_those_of_its_images(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    data = load("mine", tmp_path)
    assert data.spec.class_names == ("n01443537", "n01629819") and data.test.labels.tolist() == [1, 0]
    kaggle_imagenet(tmp_path / "kaggle")
    assert load("mine", tmp_path / "kaggle").test.labels.tolist() == [1, 0]
    tables(tmp_path / "tables")
    data = load("mine", tmp_path / "tables")
    assert data.spec.class_names == ("dog", "wild cat") and data.train.labels.tolist() == [0, 1, 0, 1]


def test_the_split_that_is_evaluated_on_can_be_named(tmp_path: Path) -> None:
    both(tmp_path / "folders")
    numbered(tmp_path / "shards", "train", 1)
    numbered(tmp_path / "shards", "test", 1)
    numbered(tmp_path / "shards", "validation", 2)
    for place, sizes in (("folders", (6, 4)), ("shards", (4, 2))):
        for name, size in zip(("validation", "test"), sizes, strict=True):
            assert len(load("mine", tmp_path / place, test_split=name).test) == size
    fails(
        "--test-split valid", "did you mean 'validation'", data_root=tmp_path / "shards", test_split="valid"
    )
    shutil.rmtree(tmp_path / "folders" / "val")
    fails(
        "no validation split", "found: test, train", data_root=tmp_path / "folders", test_split="validation"
    )


@pytest.mark.parametrize("suffix", ["tif", "tiff", "jfif", "ppm", "JPG", "avif"])
def test_formats_of_image_files(suffix: str, tmp_path: Path) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    for name in ("train", "test"):
        for kind in ("ant", "cat"):
            path = tmp_path / "set" / name / kind / f"0.{suffix}"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels(1)).save(path, "JPEG" if suffix == "jfif" else None)
    data = load("mine", tmp_path / "set")
    assert len(data.train) == 2 and data.notes == ()


# What is refused in one line ------------------------------------------------------------------------------------


def two_configurations(root: Path) -> None:
    tiny(root / "plain")
    tiny(root / "cropped")


def copied(root: Path) -> None:
    tiny(root)
    shutil.copy(root / "train-0.parquet", root / "train-0 (1).parquet")


def two_versions(root: Path) -> None:
    numbered(root, "train", 2)
    numbered(root, "test", 1)
    shard(root / "train-00000-of-00001.parquet", [encoded(pixels(9))] * 3, [0, 1, 1])


def copied_folder(root: Path) -> None:
    for name in ("train", "train_copy", "test"):
        split(root, name)


def looped(root: Path) -> None:
    split(root, "train")
    split(root, "test")
    (root / "train" / "cat" / "again").symlink_to(root / "train")


def cut_short(root: Path) -> None:
    numbered(root, "train", 3, missing=(1,))
    numbered(root, "test", 1)


def width_as_label(root: Path) -> None:
    for name in ("train", "test"):
        table = pa.table({"image": pa.array([encoded(pixels(1))] * 2), "image_width": [32, 32]})
        root.mkdir(exist_ok=True)
        pq.write_table(table, root / f"{name}.parquet")


def rows_as_labels(root: Path) -> None:
    root.mkdir()
    for name in ("train", "test"):
        table = pa.table({"image": pa.array([encoded(pixels(i)) for i in range(30)]), "n": list(range(30))})
        pq.write_table(table, root / f"{name}.parquet")


def half_a_table(root: Path) -> None:
    tables(root)
    (root / "test.csv").write_text("id,breed\ntest0,dog\n")


def two_sets(root: Path) -> None:
    for name in ("a", "b"):
        image_folder(root / name)


REFUSED: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "two configurations": (two_configurations, ("'cropped' and 'plain'", "--data-root '", "/top/cropped'")),
    "a copy of a shard": (copied, ("is a copy of", "expected each shard once")),
    "two versions": (two_versions, ("two versions of split 'train'",)),
    "a copied folder": (copied_folder, ("'train' and 'train_copy', two folders of split 'train'",)),
    "a loop": (looped, ("train/cat/again' is a link to a folder that it lies in",)),
    "a missing shard": (cut_short, ("shard 1 (from 0) of 3", "is missing, 2 are there")),
    "integers that are no labels": (
        width_as_label,
        ("no label column", "'image_width' is not taken for one"),
    ),
    "numbers of rows": (rows_as_labels, ("every training image has a label of its own in 'n'",)),
    "half a table": (half_a_table, ("names the classes of 1 of 4 images",)),
    "two data sets": (two_sets, ("found data sets in 'a' and 'b'", "--data-root")),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_layouts_that_are_refused_in_one_line(layout: str, tmp_path: Path) -> None:
    build, fragments = REFUSED[layout]
    build(tmp_path / "top")
    fails(*fragments, data_root=tmp_path / "top")


# Labels of every kind -------------------------------------------------------------------------------------------

LABELS: dict[str, tuple[Any, Any, list[int], tuple[str, ...]]] = {
    "names": (["dog", "cat", "dog"], pa.string(), [1, 0, 1], ("cat", "dog")),
    "large names": (["dog", "cat", "dog"], pa.large_string(), [1, 0, 1], ("cat", "dog")),
    "categories": (["dog", "cat", "dog"], pa.dictionary(pa.int32(), pa.string()), [1, 0, 1], ("cat", "dog")),
    "floats": ([1.0, 0.0, 1.0], pa.float64(), [1, 0, 1], ("0", "1")),
    "truth": ([True, False, True], pa.bool_(), [1, 0, 1], ("False", "True")),
    "bytes": ([1, 0, 1], pa.uint8(), [1, 0, 1], ("0", "1")),
}


def with_labels(root: Path, train: list[Any], test: list[Any], kind: Any, column: str = "label") -> Path:
    root.mkdir(exist_ok=True)
    for name, labels in (("train", train), ("test", test)):
        images = pa.array([encoded(pixels(index)) for index in range(len(labels))])
        values = (
            pa.array(labels, kind.value_type).dictionary_encode() if pa.types.is_dictionary(kind) else None
        )
        table = pa.table({"image": images, column: pa.array(labels, kind) if values is None else values})
        pq.write_table(table, root / f"{name}.parquet")
    return root


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("column", ["label", "class"])
def test_labels_of_every_kind(kind: str, column: str, tmp_path: Path) -> None:
    labels, arrow, expected, names = LABELS[kind]
    data = load("mine", with_labels(tmp_path / "set", labels, labels[:2], arrow, column))
    assert data.train.labels.tolist() == expected and data.test.labels.tolist() == expected[:2]
    assert data.spec.class_names == names


def test_labels_that_are_none(tmp_path: Path) -> None:
    place = with_labels(tmp_path / "a", ["cat", "dog"], ["cow"], pa.string())
    fails("test.parquet", "row 0", "found label 'cow'", "2 training classes ('cat', ...)", data_root=place)
    place = with_labels(tmp_path / "b", [0.0, 0.5], [0.0], pa.float64())
    fails("row 1", "found label 0.5 in 'label'", "whole number", data_root=place)
    place = with_labels(tmp_path / "c", [0.0, float("nan")], [0.0], pa.float64())
    fails("row 1", "found label nan in 'label'", data_root=place)
    place = with_labels(tmp_path / "d", ["cat", None], ["cat"], pa.string())
    fails("row 1", "found label null", data_root=place)
