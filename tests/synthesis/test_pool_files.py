"""Pools on disk: both forms hold the same images bit for bit, and nothing else is taken for a pool."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rgal.core.errors import UserError
from rgal.data import load
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.pool_files import class_folder, load_pool, pool_key, save_pool
from tests.helpers import small

GREY, COLOUR = (1, 8, 6), (3, 8, 6)
CLASSES = 12
NAMES = ("T-shirt/top", "../evil", "", "Trouser")  # of the first classes
ABOUT = {"dataset": "noise", "method": "cmi"}


def images_of(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=small.rng())


def kept(folder: Path, shape: tuple[int, int, int] = COLOUR, count: int = 37) -> ImagePool:
    """A pool of noise whose classes come in no order, saved in `folder`."""
    pool = ImagePool(shape)
    pool.add(images_of(count, shape), torch.randint(0, CLASSES, (count,), generator=small.rng(1)))
    save_pool(pool, folder, ABOUT, CLASSES, NAMES)
    return pool


# Both forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 37])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("form", ["pool.safetensors", ".", "pool"])
def test_what_is_saved_is_loaded(form: str, shape: tuple[int, int, int], count: int, tmp_path: Path) -> None:
    pool = kept(tmp_path, shape, count)
    images, targets = load_pool(tmp_path / form, shape, CLASSES)
    assert targets is not None
    assert images.dtype == torch.uint8 and targets.dtype == torch.int64
    assert torch.equal(images, pool.images) and torch.equal(targets, pool.targets)
    assert pool_key(images, targets) == pool_key(pool.images, pool.targets)


def test_every_level_survives(tmp_path: Path) -> None:
    """0 to 255 in each channel, from what a synthesis step would add: values in [0,1]."""
    pool, levels = ImagePool((3, 16, 16)), torch.arange(256).view(1, 1, 16, 16)
    levels = torch.cat([levels, 255 - levels, levels.roll(7)], 1)
    pool.add(levels / 255, torch.tensor([3]))
    save_pool(pool, tmp_path, ABOUT, 10)
    for form in ("pool.safetensors", "pool"):
        assert torch.equal(load_pool(tmp_path / form, (3, 16, 16), 10)[0].long(), levels)


def test_the_file_holds_the_images_and_says_whose_they_are(tmp_path: Path) -> None:
    """Of a pool whose storage is larger than what it holds, only what it holds."""
    pool = ImagePool(COLOUR)
    for start in range(5):
        pool.add(images_of(3, COLOUR), torch.full((3,), start))
    save_pool(pool, tmp_path, ABOUT, CLASSES, NAMES)
    path = tmp_path / "pool.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata() == ABOUT and sorted(file.keys()) == ["images", "targets"]
    assert path.stat().st_size < 15 * (3 * 8 * 6 + 8) + 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "pool.safetensors"]


def test_the_same_images_are_the_same_bytes(tmp_path: Path) -> None:
    """safetensors itself writes what stands beside the tensors in an order that varies from file to file."""
    files = set()
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        kept(folder)
        files.add((folder / "pool.safetensors").read_bytes())
    assert len(files) == 1


def test_saving_again_replaces_both(tmp_path: Path) -> None:
    kept(tmp_path)
    (tmp_path / ".pool.tmp").mkdir()  # of a process that was killed
    (tmp_path / ".pool.tmp" / "rest.png").write_bytes(b"half")
    pool = kept(tmp_path, count=5)
    assert len(list((tmp_path / "pool").rglob("*.png"))) == 5
    for form in ("pool.safetensors", "pool"):
        assert torch.equal(load_pool(tmp_path / form, COLOUR, CLASSES)[0], pool.images)


def test_class_folders_are_safe_names_in_the_order_of_the_classes(tmp_path: Path) -> None:
    names = [class_folder(label, CLASSES, NAMES) for label in range(CLASSES)]
    assert names[:5] == ["00-t-shirt-top", "01-evil", "02-unnamed", "03-trouser", "04"]
    assert (
        names == sorted(names) and class_folder(7, 10, NAMES) == "7" and class_folder(7, 100, NAMES) == "07"
    )
    kept(tmp_path)
    assert {p.name for p in (tmp_path / "pool").iterdir()} <= set(names)


def test_the_folder_is_a_split_of_an_image_folder_data_set(tmp_path: Path) -> None:
    pool = ImagePool(COLOUR)
    pool.add(images_of(20, COLOUR), torch.arange(20) % 10)
    save_pool(pool, tmp_path, ABOUT, 10, [f"class {n}" for n in range(10)])
    for split in ("train", "test"):
        (tmp_path / "data" / split).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / split).symlink_to(tmp_path / "pool")
    loaded = load("mine", tmp_path / "data", cache=tmp_path / "cache").train
    order = torch.argsort(pool.targets, stable=True)
    assert torch.equal(loaded.images, pool.images[order]) and torch.equal(loaded.labels, pool.targets[order])


def test_a_flat_folder_has_no_labels_and_comes_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    """`<round>-<i>.png`, as CMI's pre-inverted set; other files are left alone."""
    images = images_of(24, COLOUR)
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number // 12}-{number % 12}.png")
    (tmp_path / "README.txt").write_text("images")
    (tmp_path / ".hidden.png").write_bytes(b"")
    loaded, targets = load_pool(tmp_path, COLOUR, CLASSES)
    assert targets is None and torch.equal(loaded, images)


def test_jpegs_are_read(tmp_path: Path) -> None:
    (tmp_path / "11-name").mkdir()
    Image.new("RGB", (6, 8), (200, 100, 50)).save(tmp_path / "11-name" / "a.JPEG", quality=95)
    images, targets = load_pool(tmp_path, COLOUR, CLASSES)
    assert targets is not None and targets.tolist() == [11]
    assert (images.float() - torch.tensor([200.0, 100, 50]).view(1, 3, 1, 1)).abs().max() < 4


def test_the_key_covers_pixels_order_labels_and_shape() -> None:
    images, targets = images_of(4, COLOUR), torch.arange(4)
    changed = images.clone()
    changed[3, 2, 7, 5] ^= 1
    keys = {
        pool_key(images, targets),
        pool_key(changed, targets),
        pool_key(images.flip(0), targets.flip(0)),
        pool_key(images, targets.roll(1)),
        pool_key(images, None),
        pool_key(images.view(4, 3, 6, 8), targets),
        pool_key(images[:3], targets[:3]),
    }
    assert len(keys) == 7
    view = images.expand(4, *COLOUR).transpose(2, 3).contiguous().transpose(2, 3)
    assert pool_key(view, targets) == pool_key(images, targets)


# Bad input ------------------------------------------------------------------------------------------------------


def tensors(**changes: Tensor | None) -> dict[str, Tensor]:
    whole = {"images": images_of(4, COLOUR), "targets": torch.arange(4)} | changes
    return {name: tensor for name, tensor in whole.items() if tensor is not None}


FILES: dict[str, tuple[dict[str, Tensor], str]] = {
    "no labels": (
        tensors(targets=None),
        "found 'images' U8 (4, 3, 8, 6); expected 'images' uint8 (N, 3, 8, 6)",
    ),
    "something else": ({"weight": torch.zeros(2)}, "found neither images nor targets"),
    "size": (tensors(images=images_of(4, (3, 8, 8))), "'images' U8 (4, 3, 8, 8)"),
    "channels": (tensors(images=images_of(4, GREY)), "'images' U8 (4, 1, 8, 6)"),
    "floats": (tensors(images=torch.rand(4, *COLOUR)), "'images' F32"),
    "labels of other type": (tensors(targets=torch.arange(4).int()), "'targets' I32"),
    "fewer labels": (tensors(targets=torch.arange(3)), "'targets' I64 (3,)"),
    "no dimension": (tensors(images=torch.tensor(0, dtype=torch.uint8)), "'images' U8 ()"),
    "empty": (tensors(images=images_of(0, COLOUR), targets=torch.arange(0)), "holds no images"),
    "label too high": (
        tensors(targets=torch.tensor([0, 1, 2, 12])),
        "found labels from 0 to 12, expected 0 to 11",
    ),
    "label below zero": (tensors(targets=torch.tensor([0, 1, 2, -1])), "found labels from -1 to 2"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_file(name: str, tmp_path: Path) -> None:
    content, expected = FILES[name]
    save_file(content, tmp_path / "pool.safetensors")
    refused(tmp_path / "pool.safetensors", expected)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def both(folder: Path) -> None:
    picture(folder / "a.png")
    picture(folder / "3" / "b.png")


def broken(folder: Path) -> None:
    picture(folder / "a.png")
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])


def other_format(folder: Path) -> None:
    Image.new("RGB", (6, 8)).save(folder / "a.png", "GIF")


def without_pool(folder: Path) -> None:
    (folder / "trial.json").write_text("{}")
    picture(folder / "samples.png")


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda folder: None, "found no image; expected pool.safetensors"),
    "only empty class folders": (lambda folder: (folder / "cat").mkdir(), "found no image"),
    "trial without a pool": (without_pool, "kept no pool (--set keep_pool=true keeps it)"),
    "class without a number": (
        lambda folder: picture(folder / "cat" / "a.png"),
        "class folder 'cat', expected NUMBER",
    ),
    "class too high": (lambda folder: picture(folder / "12-cat" / "a.png"), "NUMBER-NAME, 0 to 11"),
    "images beside folders": (both, "images beside class folders"),
    "size": (
        lambda folder: picture(folder / "a.png", size=(8, 6)),
        "RGB image of 8x6 pixels; expected RGB image of 6x8",
    ),
    "grey": (lambda folder: picture(folder / "a.png", "L"), "found L image"),
    "alpha": (lambda folder: picture(folder / "a.png", "RGBA"), "found RGBA image"),
    "16 bit": (lambda folder: picture(folder / "a.png", "I;16"), "found I;16 image"),
    "truncated": (broken, "not a PNG or JPEG image, or a damaged one"),
    "another format": (other_format, "not a PNG or JPEG image"),
    "text": (lambda folder: (folder / "a.png").write_text("image"), "not a PNG or JPEG image"),
    "damaged file": (
        lambda folder: (folder / "pool.safetensors").write_bytes(b"\xff" * 99),
        "not a safetensors file",
    ),
    "empty file": (lambda folder: (folder / "pool.safetensors").write_bytes(b""), "not a safetensors file"),
    "folder for a file": (lambda folder: (folder / "pool.safetensors").mkdir(), "cannot be read"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folder(name: str, tmp_path: Path) -> None:
    make, expected = FOLDERS[name]
    make(tmp_path)
    refused(tmp_path, expected)


def test_bad_path(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none: no such file or folder; expected pool.safetensors")
    (tmp_path / "pool.pt").write_bytes(b"pickle")
    refused(tmp_path / "pool.pt", "pool.pt: not a pool")


def refused(path: Path, expected: str) -> None:
    """One line that names the path."""
    with pytest.raises(UserError) as error:
        load_pool(path, COLOUR, CLASSES)
    text = str(error.value)
    assert expected in text and text.startswith(str(path)) and "\n" not in text
