"""rgal.data: image formats, channels and sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rgal.data import load
from rgal.data.decode import decode, fit
from tests.helpers.data_builders import encoded, fails, pixels, shard, tiny


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
    decoded = decode(encoded(image)).permute(1, 2, 0).numpy()
    plain = np.array(image.convert("RGB" if channels == 3 else "L")).reshape(8, 8, channels)
    assert np.array_equal(decoded, plain)


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
    resized = fit(torch.from_numpy(picture).permute(2, 0, 1), size).permute(1, 2, 0).numpy()
    assert (
        np.abs(resized.astype(int) - reference.astype(int)).max() <= 1
    )  # Pillow rounds after each direction
    pair = torch.from_numpy(np.stack([pixels(4, 16, 16), pixels(5, 16, 16)])).permute(0, 3, 1, 2)
    assert np.array_equal(fit(pair, size)[0].permute(1, 2, 0).numpy(), resized)


def test_native_size_is_not_resampled(tmp_path: Path) -> None:
    root = tiny(tmp_path / "set")
    assert torch.equal(load("mine", root, size=8).train.images, load("mine", root).train.images)
    assert load("mine", root, size=4).spec.shape == (3, 4, 4)
