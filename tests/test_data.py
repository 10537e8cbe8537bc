"""rgal.data: every source, the cache, the firewall, and each thing a user can get wrong."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import urllib.error
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import rgal.data.decode as decode_module
from rgal.data import DataFirewallError, Dataset, ImageSet, evaluate_batches, load, names, to_float
from rgal.data.dataset import stratified_split
from rgal.data.decode import decode, fit
from rgal.data.layout import split_of
from rgal.errors import UserError

# torchvision 0.29 announces that its decoders will move to TorchCodec; until then every call warns.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


# --- making data ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("RGAL_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("RGAL_DATA", str(tmp_path / "downloads"))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one for every image decoded."""
    calls: list[int] = []
    real = decode_module.decode

    def counting(data: bytes) -> torch.Tensor:
        calls.append(len(data))
        return real(data)

    monkeypatch.setattr(decode_module, "decode", counting)
    return calls


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


# --- digits ---------------------------------------------------------------------------------------


def test_digits_are_all_scans_split_once() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (len(data.train), len(data.test)) == (1297, 500)
    assert data.spec.shape == (1, 8, 8) == tuple(data.train.images.shape[1:])
    bunch = load_digits()
    everything = Counter(np.round(scan * 255 / 16).astype(np.uint8).tobytes() for scan in bunch.images)
    assert rows(data.train) + rows(data.test) == everything
    assert not rows(data.train).keys() & rows(data.test).keys()
    assert data.train.images.max() == 255
    assert data.train.images.min() == 0
    # Stratified: every class has its share of the test split, to the nearest image.
    share = np.bincount(bunch.target) * 500 / 1797
    assert np.abs(data.test.labels.bincount().numpy() - share).max() <= 1


def test_digits_images_keep_their_labels() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    label_of = {
        np.round(scan * 255 / 16).astype(np.uint8).tobytes(): label
        for scan, label in zip(bunch.images, bunch.target, strict=True)
    }
    data = load("digits")
    for part in (data.train, data.test):
        assert [label_of[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def test_digits_are_the_same_every_time_and_their_constants_are_measured() -> None:
    first, second = load("digits"), load("digits")
    assert torch.equal(first.train.images, second.train.images)
    assert first.spec == second.spec
    assert (
        first.spec.fingerprint == "41ca7167b665"
    )  # stored results name it: a change makes them another data set
    values = to_float(first.train.images).double()
    assert first.spec.mean == pytest.approx((values.mean().item(),), abs=5e-5)
    assert first.spec.std == pytest.approx((values.std(correction=0).item(),), abs=5e-5)
    assert (first.spec.classes, first.spec.flip, first.spec.crop_padding) == (10, False, 1)
    assert first.spec.class_names == tuple("0123456789")


def test_digits_can_be_resized_but_take_no_folder(tmp_path: Path) -> None:
    assert load("digits", size=16).spec.shape == (1, 16, 16)
    assert load("digits", size=16).spec.fingerprint != load("digits").spec.fingerprint
    assert load("digits", size=8).spec == load("digits").spec
    fails("digits", str(tmp_path), name="digits", data_root=tmp_path)
    fails("-3", name="digits", size=-3)


def test_importing_loads_no_heavy_library() -> None:
    heavy = "pyarrow", "PIL", "sklearn", "torchvision", "scipy"
    code = f"import sys, rgal.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- names and statistics -------------------------------------------------------------------------


def test_names_and_unknown_names() -> None:
    assert names() == ("digits", "cifar10", "cifar100", "mnist")
    fails("unknown data set 'cifar11'", "did you mean 'cifar10'?", "--data-root", name="cifar11")


@pytest.mark.parametrize(
    ("name", "mean", "flip"),
    [
        ("mine", (0.5, 0.5, 0.5), True),
        ("tiny_imagenet_100", (0.485, 0.456, 0.406), True),
        ("imagenet_dogs", (0.485, 0.456, 0.406), True),
    ],
)
def test_statistics_go_by_name(tmp_path: Path, name: str, mean: tuple[float, ...], flip: bool) -> None:
    spec = load(name, tiny(tmp_path / "set")).spec
    assert (spec.name, spec.mean, spec.flip, spec.classes) == (name, mean, flip, 2)
    assert spec.crop_padding == 1
    assert len(spec.std) == 3


def test_known_name_with_other_classes_or_channels(tmp_path: Path) -> None:
    assert load("svhn", tiny(tmp_path / "ten", classes=10)).spec.flip is False
    assert load("cifar10", tmp_path / "ten").spec.std == (0.2023, 0.1994, 0.2010)
    fails("cifar100", "found 10 classes", "expected 100", name="cifar100", data_root=tmp_path / "ten")
    fails("mnist", "found 3 channels", "expected 1", name="mnist", data_root=tmp_path / "ten")


# --- parquet --------------------------------------------------------------------------------------


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


# --- decoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_are_exact(kind: str) -> None:
    assert np.array_equal(decode(encoded(pixels(1, 5, 7), kind)).permute(1, 2, 0).numpy(), pixels(1, 5, 7))
    gray = pixels(1, 5, 7, channels=1)
    assert np.array_equal(decode(encoded(gray, kind)).numpy(), gray[None])
    palette = Image.fromarray(pixels(1, 5, 7)).quantize(8)
    colours = np.array(palette.convert("RGB"))
    assert np.array_equal(decode(encoded(palette, kind)).permute(1, 2, 0).numpy(), colours)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1), ("1", 1)])
def test_alpha_is_dropped_and_bits_are_black_and_white(mode: str, channels: int) -> None:
    image = Image.fromarray(pixels(3)).convert(mode)
    found = decode(encoded(image)).permute(1, 2, 0).numpy()
    plain = np.array(image.convert("RGB" if channels == 3 else "L")).reshape(8, 8, channels)
    assert np.array_equal(found, plain)


def test_deep_png_is_scaled_to_a_byte() -> None:
    deep = np.array([[0, 65535, 257 * 100, 32768]], dtype=np.uint16)
    assert decode(encoded(Image.fromarray(deep))).tolist() == [[[0, 255, 100, 128]]]


def test_jpeg_as_pillow_reads_it() -> None:
    for channels in (1, 3):
        data = encoded(pixels(1, 16, 16, channels), "JPEG", quality=95)
        assert np.array_equal(
            decode(data).permute(1, 2, 0).numpy().squeeze(), np.array(Image.open(io.BytesIO(data)))
        )
    assert decode(encoded(Image.fromarray(pixels(1)).convert("CMYK"), "JPEG")).shape == (3, 8, 8)


def test_grayscale_alone_stays_and_mixed_becomes_rgb(tmp_path: Path) -> None:
    gray, colour = encoded(pixels(1, channels=1)), encoded(pixels(2))
    for root, train in (("gray", [gray, gray]), ("mixed", [gray, colour])):
        shard(tmp_path / root / "train.parquet", train, [0, 0])
        shard(tmp_path / root / "test.parquet", train[::-1], [0, 0])
    alone, mixed = load("mine", tmp_path / "gray"), load("mine", tmp_path / "mixed")
    assert alone.spec.shape == (1, 8, 8)
    assert alone.spec.mean == (0.5,)
    assert np.array_equal(alone.train.images[0, 0].numpy(), pixels(1, channels=1))
    assert mixed.spec.shape == (3, 8, 8)
    for channel in range(3):
        assert np.array_equal(mixed.train.images[0, channel].numpy(), pixels(1, channels=1))
    assert np.array_equal(mixed.train.images[1].permute(1, 2, 0).numpy(), pixels(2))


def test_several_sizes_need_a_size(tmp_path: Path) -> None:
    images = [encoded(pixels(1, 8, 8)), encoded(pixels(2, 12, 20))]
    shard(tmp_path / "set" / "train.parquet", images, [0, 0])
    shard(tmp_path / "set" / "test.parquet", images[:1], [0])
    message = fails("20x12", "8x8", "row 1", "--set image_size", data_root=tmp_path / "set")
    assert "train.parquet" in message
    data = load("mine", tmp_path / "set", size=6)
    assert data.spec.shape == (3, 6, 6)
    assert data.spec.crop_padding == 0


def test_splits_of_different_size_need_a_size(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [encoded(pixels(1, 8, 8))], [0])
    shard(tmp_path / "test.parquet", [encoded(pixels(1, 10, 12))], [0])
    fails("8x8", "12x10", "--set image_size", data_root=tmp_path)
    assert load("mine", tmp_path, size=8).test.images.shape == (1, 3, 8, 8)


def test_resize_is_shorter_side_then_centre_crop() -> None:
    image = torch.zeros(3, 8, 16, dtype=torch.uint8)
    image[:, :, 4:12] = 200  # exactly the centre square
    assert fit(image, 4).shape == (3, 4, 4)
    inner = fit(image, 4)[:, :, 1:3]
    assert (inner == 200).all()  # outer columns mix with the border: the filter is antialiased
    checker = torch.zeros(1, 8, 8, dtype=torch.uint8)
    checker[:, ::2, ::2] = checker[:, 1::2, 1::2] = 255
    assert fit(checker, 4).float().sub(127.5).abs().max() < 40  # without antialiasing it is 0 or 255
    assert fit(image, 32).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [5, 12, 40])
def test_resize_is_pillows(size: int) -> None:
    picture = pixels(4, 16, 16)
    reference = np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
    found = fit(torch.from_numpy(picture).permute(2, 0, 1), size).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - reference.astype(int)).max() <= 1  # Pillow rounds after each direction
    pair = torch.from_numpy(np.stack([pixels(4, 16, 16), pixels(5, 16, 16)])).permute(0, 3, 1, 2)
    assert np.array_equal(fit(pair, size)[0].permute(1, 2, 0).numpy(), found)


def test_native_size_is_not_resampled(tmp_path: Path) -> None:
    root = tiny(tmp_path / "set")
    assert torch.equal(load("mine", root, size=8).train.images, load("mine", root).train.images)
    assert load("mine", root, size=4).spec.shape == (3, 4, 4)


# --- image folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_image_folder(tmp_path: Path, test: str) -> None:
    data = load("pets", image_folder(tmp_path / "set", test))
    assert data.spec.class_names == ("ant", "cat")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.train.images[0].permute(1, 2, 0).numpy(), pixels(10))  # ant/0
    assert np.array_equal(data.train.images[3].permute(1, 2, 0).numpy(), pixels(1))  # cat/1
    assert np.array_equal(data.test.images[1].permute(1, 2, 0).numpy(), pixels(100))  # cat/0


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


# --- torchvision ----------------------------------------------------------------------------------


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


# --- cache ----------------------------------------------------------------------------------------


def test_cache_saves_decoding_and_changes_nothing(tmp_path: Path, decodes: list[int]) -> None:
    root, cache = tiny(tmp_path / "set", class_names=["a", "b"]), tmp_path / "cache"
    first = load("mine", root, cache=cache)
    assert len(decodes) == 8
    second = load("mine", root, cache=cache)
    assert len(decodes) == 8
    assert first.spec == second.spec
    assert second.spec.class_names == ("a", "b")
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
    load("mine", root, size=4, cache=cache)
    assert len(decodes) == 16  # another size is another entry


def test_cache_notices_changed_sources(tmp_path: Path, decodes: list[int]) -> None:
    root = tiny(tmp_path / "set")
    before = load("mine", root).spec.fingerprint
    path = root / "train-0.parquet"
    images = [encoded(pixels(index)) for index in range(6)]
    shard(path, images, [0, 1, 0, 1, 1, 0])
    os.utime(path, ns=(1, 1))
    after = load("mine", root)
    assert after.train.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert after.spec.fingerprint != before
    assert len(decodes) == 16
    os.utime(path, ns=(2, 2))  # same bytes, other time: decoded again, same fingerprint
    assert load("mine", root).spec == after.spec
    assert len(decodes) == 24


def test_damaged_cache_is_rebuilt(tmp_path: Path, decodes: list[int]) -> None:
    root, cache = tiny(tmp_path / "set"), tmp_path / "cache"
    expected = load("mine", root, cache=cache)
    (entry,) = cache.iterdir()
    good = entry.read_bytes()
    flipped = bytearray(good)
    flipped[-1] ^= 1  # one bit of a pixel or label
    for number, bad in enumerate((b"", b"garbage", good[: len(good) // 2], bytes(flipped)), start=1):
        entry.write_bytes(bad)
        assert load("mine", root, cache=cache).spec == expected.spec
        assert len(decodes) == 8 * (1 + number), f"damage {number} was not noticed"
        assert load("mine", root, cache=cache).spec == expected.spec
        assert len(decodes) == 8 * (1 + number), f"damage {number} was not repaired"


def test_unwritable_cache_is_only_slower(tmp_path: Path, decodes: list[int]) -> None:
    root = tiny(tmp_path / "set")
    (tmp_path / "file").write_text("a file where the folder should be")
    for count in (8, 16):
        assert len(load("mine", root, cache=tmp_path / "file").train) == 6
        assert len(decodes) == count
    (tmp_path / "file").unlink()


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("rgal.data.cache.os.replace", full)
    assert len(load("mine", tiny(tmp_path / "set"), cache=tmp_path / "cache").train) == 6
    assert list((tmp_path / "cache").iterdir()) == []


def test_folder_cache(tmp_path: Path, decodes: list[int]) -> None:
    root = image_folder(tmp_path / "set")
    first = load("pets", root)
    assert load("pets", root).spec == first.spec
    assert len(decodes) == 6
    (root / "train" / "ant" / "9.png").write_bytes(encoded(pixels(9)))
    assert len(load("pets", root).train) == 5


# --- fingerprint, firewall, hold-out --------------------------------------------------------------


def test_fingerprint_changes_with_any_label_or_pixel(tmp_path: Path) -> None:
    images = [encoded(pixels(index)) for index in range(4)]
    other = pixels(0)
    other[0, 0, 0] ^= 1
    cases = {
        "same": (images, [0, 1, 0, 1], images[:2], [0, 1]),
        "again": (images, [0, 1, 0, 1], images[:2], [0, 1]),
        "train label": (images, [0, 1, 1, 1], images[:2], [0, 1]),
        "test label": (images, [0, 1, 0, 1], images[:2], [0, 0]),
        "train pixel": ([encoded(other), *images[1:]], [0, 1, 0, 1], images[:2], [0, 1]),
        "test pixel": (images, [0, 1, 0, 1], [encoded(other), images[1]], [0, 1]),
    }
    found = {}
    for case, (train, train_labels, test, test_labels) in cases.items():
        shard(tmp_path / case / "train.parquet", train, train_labels)
        shard(tmp_path / case / "test.parquet", test, test_labels)
        found[case] = load("mine", tmp_path / case).spec.fingerprint
    assert found["same"] == found["again"]
    assert len(set(found.values())) == 5
    assert all(len(value) == 12 and int(value, 16) >= 0 for value in found.values())


def test_closed_training_data_is_gone(tmp_path: Path) -> None:
    root = tiny(tmp_path / "set")
    for data in (load("digits"), load("mine", root), load("mine", root)):  # the last one from the cache
        watch = weakref.ref(data.train.images)
        data.close_training_data()
        data.close_training_data()
        with pytest.raises(DataFirewallError, match="closed"):
            _ = data.train
        with pytest.raises(DataFirewallError):
            data.hold_out()
        assert watch() is None, "something still holds the training images"
        test = data.test.images
        assert test.untyped_storage().nbytes() == test.numel(), "the test images share memory with others"
    assert not isinstance(DataFirewallError(), UserError)


def test_hold_out_is_a_fixed_stratified_part_of_the_training_images() -> None:
    data = load("digits")
    train, test = rows(data.train), rows(data.test)
    held = data.hold_out(0.2)
    assert rows(held.train) + rows(held.test) == train
    assert not rows(held.test).keys() & (test.keys() | rows(held.train).keys())
    counts = data.train.labels.bincount()
    assert held.test.labels.bincount().tolist() == [round(0.2 * count) for count in counts.tolist()]
    torch.manual_seed(123)
    np.random.seed(5)
    again = load("digits").hold_out(0.2)
    assert torch.equal(again.test.images, held.test.images)
    assert again.spec == held.spec
    assert len({data.spec.fingerprint, held.spec.fingerprint, data.hold_out(0.1).spec.fingerprint}) == 3
    assert held.spec.name == "digits"
    assert held.spec.mean == data.spec.mean


def test_hold_out_cannot_reach_the_real_test_images() -> None:
    data = load("digits")
    held = data.hold_out()
    real = data.test.images.untyped_storage().data_ptr()
    reachable = [part.images for part in (held.train, held.test)]
    assert all(images.untyped_storage().data_ptr() != real for images in reachable)
    assert all(value is not data and value is not data.test for value in vars(held).values())
    held.close_training_data()
    assert len(data.train) == 1297  # closing the one leaves the other


def test_hold_out_of_few_images() -> None:
    labels = torch.tensor([0] * 1 + [1] * 2 + [2] * 10)
    rest, held = stratified_split(labels, 0.01, 0)
    assert labels[held].tolist() == [1, 2]  # at least one of each class, but never the last one
    assert sorted(torch.cat([rest, held]).tolist()) == list(range(13))
    rest, held = stratified_split(labels, 0.99, 0)
    assert set(labels[rest].tolist()) == {0, 1, 2}
    assert rest.tolist() == sorted(rest.tolist())
    assert held.tolist() == sorted(held.tolist())


def test_hold_out_errors() -> None:
    data = load("digits")
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(UserError, match="between 0 and 1"):
            data.hold_out(fraction)
    single = ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="nothing to hold out"):
        Dataset(data.spec, single, single).hold_out()


# --- batches --------------------------------------------------------------------------------------


def test_evaluate_batches_gives_every_image_once_in_order() -> None:
    images = ImageSet(torch.arange(7 * 12).reshape(7, 3, 2, 2).to(torch.uint8), torch.arange(7))
    parts = list(evaluate_batches(images, 3, "cpu"))
    assert [len(labels) for _, labels in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([labels for _, labels in parts]), images.labels)
    values = torch.cat([batch for batch, _ in parts])
    assert values.dtype == torch.float32
    assert torch.equal((values * 255).round().to(torch.uint8), images.images)
    with pytest.raises(ValueError, match="batch"):
        next(evaluate_batches(images, 0, "cpu"))


def test_to_float_spans_zero_to_one() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])
    with pytest.raises(ValueError, match="uint8"):
        to_float(torch.ones(2))


def test_image_set_checks_and_subset_copies() -> None:
    images = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    part = images.subset(torch.tensor([2, 0]))
    assert part.labels.tolist() == [2, 0]
    assert len(part) == 2
    part.images.fill_(9)
    assert images.images.sum() == 0
    for pixels_, labels in ((torch.zeros(3, 1, 2, 2), torch.arange(3)), (images.images, torch.arange(2))):
        with pytest.raises(ValueError, match="not"):
            ImageSet(pixels_, labels)


# --- what a user can get wrong --------------------------------------------------------------------


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
    shard(root / "test-0.parquet", [encoded(pixels(1))] * 2, [-1, -1])


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
        (_bad_row, ("train-0.parquet", "row 2", "40 bytes", "(Out of bound", "expected")),
        (_null_image, ("train-0.parquet", "row 1", "no image bytes")),
        (_empty_image, ("train-0.parquet", "row 1", "0 bytes")),
        (_null_label, ("test-0.parquet", "row 2", "label null", "expected")),
        (_negative_label, ("test-0.parquet", "row 0", "label -1", "expected")),
        (_no_label, ("train-0.parquet", "no label column", "word: string")),
        (_no_image, ("train-0.parquet", "no image column", "text: string")),
        (_many_labels, ("train-0.parquet", "breed, colour", "fine_label")),
        (_many_images, ("train-0.parquet", "left, right", "img")),
        (_gap, ("class 2 has no training image", "0 to 4")),
        (_identifiers, ("class 1 has no training image",)),
        (_test_only_class, ("class 2 has no training image",)),
        (_other_columns, ("train-1.parquet", "'picture'", "'image'", "train-0.parquet")),
        (_other_classes, ("other/train-0.parquet", "3 classes", "one data set")),
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
    fails("half", "no test split", "found: train", data_root=root)
    (root / "train-0.parquet").rename(root / "data.parquet")
    fails("half", "no training split", "found: no split", data_root=root)
    root = image_folder(tmp_path / "images")
    (root / "test").rename(root / "spare")
    fails("images", "no test split", data_root=root)


def test_a_name_never_leaves_the_data_root(tmp_path: Path) -> None:
    tiny(tmp_path / "outside")
    (tmp_path / "root").mkdir()
    fails("no images", name="../outside", data_root=tmp_path / "root")
    fails("no images", name="..", data_root=tmp_path / "root")
