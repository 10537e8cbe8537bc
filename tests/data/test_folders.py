"""rgal.data: folders of images, and torchvision's own files."""

from __future__ import annotations

import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from rgal.data import load
from tests.helpers.data_builders import encoded, fails, image_folder, pixels, shard


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_image_folder(tmp_path: Path, test: str) -> None:
    data = load("pets", image_folder(tmp_path / "set", test))
    assert data.spec.class_names == ("ant", "cat")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.train.images[0].permute(1, 2, 0).numpy(), pixels(10))  # ant/0
    assert np.array_equal(data.train.images[3].permute(1, 2, 0).numpy(), pixels(1))  # cat/1
    assert np.array_equal(data.test.images[1].permute(1, 2, 0).numpy(), pixels(100))  # cat/0


@pytest.mark.parametrize(("kind", "encoding"), [("png", ""), ("bmp", ""), ("jpeg", "JPEG")])
def test_a_lossy_encoding_is_told_also_from_the_cache(tmp_path: Path, kind: str, encoding: str) -> None:
    root = image_folder(tmp_path / "set", suffix=kind)
    shards = tmp_path / "shards"
    for split in ("train", "test"):
        shard(shards / f"{split}.parquet", [encoded(pixels(label), kind.upper()) for label in (0, 1)], [0, 1])
    for place in (root, shards):
        for _ in range(2):
            assert load("pets", place).spec.encoding == encoding
        assert load("pets", place, size=4).spec.encoding == encoding
    assert load("digits").spec.encoding == ""


def test_image_folder_ignores_what_is_no_image(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set", suffix="bmp")
    (root / "train" / "cat" / "notes.txt").write_text("x")
    (root / "train" / "cat" / "._0.bmp").write_bytes(b"x")
    (root / "train" / ".git").mkdir()
    (root / "train" / ".git" / "0.bmp").write_bytes(b"x")
    deep = root / "train" / "cat" / "images" / "2.BMP"
    deep.parent.mkdir()
    deep.write_bytes(encoded(pixels(2), "BMP"))
    assert load("pets", root).train.labels.tolist() == [0, 0, 1, 1, 1]


def test_image_folder_errors(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "class")
    (root / "test" / "dog").mkdir()
    (root / "test" / "dog" / "0.png").write_bytes(encoded(pixels(1)))
    fails("dog/0.png", "class 'dog'", "2 training classes", data_root=root)
    root = image_folder(tmp_path / "loose")
    (root / "train" / "0.png").write_bytes(encoded(pixels(1)))
    fails("train/0.png", "class folder", data_root=root)
    root = image_folder(tmp_path / "broken")
    (root / "train" / "cat" / "1.png").write_bytes(b"not an image")
    fails("train/cat/1.png", "12 bytes", "expected", data_root=root)
    root = image_folder(tmp_path / "link")
    (root / "train" / "cat" / "2.png").symlink_to(tmp_path / "nowhere.png")
    fails("train/cat/2.png", "cannot be read", data_root=root)


def mnist_files(root: Path) -> Path:
    """MNIST in its own format with ten training and ten test images."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, seed in (("train", 0), ("t10k", 1)):
        images = np.random.RandomState(seed).randint(0, 256, (10, 28, 28), dtype=np.uint8)
        header = struct.pack(">IIII", 0x803, 10, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = struct.pack(">II", 0x801, 10) + bytes(range(10))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return root


def test_mnist_is_padded_not_stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("mnist", mnist_files(tmp_path / "set"))
    assert data.spec.shape == (1, 32, 32)
    assert (data.spec.mean, data.spec.flip, data.spec.crop_padding) == ((0.1307,), False, 4)
    original = np.random.RandomState(0).randint(0, 256, (10, 28, 28), dtype=np.uint8)
    assert np.array_equal(data.train.images[:, 0, 2:30, 2:30].numpy(), original)
    assert int(data.train.images.sum()) == int(original.sum())  # and the border is black
    assert load("mnist", tmp_path / "set", size=32).spec == data.spec
    assert load("mnist", tmp_path / "set", size=28).spec.shape == (1, 28, 28)
    monkeypatch.setenv("RGAL_DATA", str(tmp_path / "set"))
    assert load("mnist").spec == data.spec  # found without a download


def test_mnist_from_parquet_is_padded_too(tmp_path: Path) -> None:
    images = [encoded(pixels(index, 28, 28, channels=1)) for index in range(10)]
    for split in ("train", "test"):
        shard(tmp_path / f"{split}.parquet", images, list(range(10)))
    for size in (None, 32):
        data = load("mnist", tmp_path, size=size)
        assert np.array_equal(data.train.images[3, 0, 2:30, 2:30].numpy(), pixels(3, 28, 28, channels=1))


def test_cifar_from_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        classes = tuple("abcdefghij")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert root == str(tmp_path)
            assert not download
            self.data = np.stack([pixels(index, 32, 32) for index in range(10)])
            self.targets = list(range(10))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    data = load("cifar10", tmp_path)
    assert data.spec.class_names == tuple("abcdefghij")
    assert data.spec.mean == (0.4914, 0.4822, 0.4465)
    assert np.array_equal(data.train.images[4].permute(1, 2, 0).numpy(), pixels(4, 32, 32))
    assert load("cifar10", tmp_path, size=16).spec.shape == (3, 16, 16)


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Offline:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            asked.append(download)
            if download:
                raise urllib.error.URLError("no\nnetwork")
            raise RuntimeError("Dataset not found or corrupted.\nYou can use download=True to download it")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", Offline)
    where = str(tmp_path / "downloads" / "cifar-100-python")
    fails("cifar100", where, "no network", "--data-root", name="cifar100")
    assert asked == [False, True]
    (tmp_path / "empty").mkdir()
    fails(
        "cifar100", str(tmp_path / "empty"), "cifar-100-python", name="cifar100", data_root=tmp_path / "empty"
    )
    assert asked == [False, True, False]  # never a download into --data-root
