"""Real images without labels: any files in any folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rgal.core.errors import UserError
from rgal.data.unlabelled import fitted, images_key, read_unlabelled


def test_every_image_below_is_read_whatever_its_size(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    Image.new("RGB", (60, 50), (10, 20, 30)).save(tmp_path / "a" / "b" / "one.png")
    Image.new("L", (5, 9), 70).save(tmp_path / "two.png")
    Image.new("RGBA", (16, 8), (1, 2, 3, 0)).save(tmp_path / "a" / "three.webp", lossless=True)
    (tmp_path / "notes.txt").write_text("not an image")
    images = read_unlabelled(tmp_path, (3, 8, 16))
    assert images.shape == (3, 3, 8, 16) and images.dtype == torch.uint8
    assert sorted(image.flatten(1).unique(dim=1)[:, 0].tolist() for image in images)[1] == [10, 20, 30]
    assert read_unlabelled(tmp_path, (1, 4, 4)).shape == (3, 1, 4, 4)


def test_an_image_that_fits_is_left_as_it_is() -> None:
    image = torch.randint(0, 256, (3, 6, 7), dtype=torch.uint8)
    assert torch.equal(fitted(image, (3, 6, 7)), image)
    wide = torch.cat(
        [torch.zeros(3, 6, 2, dtype=torch.uint8), image, torch.zeros(3, 6, 2, dtype=torch.uint8)], 2
    )
    assert torch.equal(fitted(wide, (3, 6, 7)), image)  # its centre


def test_grey_is_what_pillow_makes_of_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    wanted = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))
    grey = fitted(torch.from_numpy(pixels).permute(2, 0, 1), (1, 9, 9))[0]
    assert (grey.int() - wanted.int()).abs().max() <= 1


def test_the_key_is_of_the_pixels() -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    assert images_key(images) == images_key(images.clone()) != images_key(images + 1)
    assert images_key(images) != images_key(images.view(1, 2, 2, 2))


def test_faults_are_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_unlabelled(tmp_path / "nowhere", (3, 8, 8))
    with pytest.raises(UserError, match="found nothing; expected images"):
        read_unlabelled(tmp_path, (3, 8, 8))
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(UserError, match=r"found 1 \.csv; expected images \(\.png"):
        read_unlabelled(tmp_path, (3, 8, 8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="broken.png' does not decode"):
        read_unlabelled(tmp_path, (3, 8, 8))
