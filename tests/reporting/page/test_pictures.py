"""Pictures as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rgal.reporting.page import pictures
from rgal.reporting.page.pictures import LARGEST, Picture, plot_picture, png_picture, svg_picture
from tests.helpers.store_builders import grid_png


def decoded(picture: Picture | None) -> bytes:
    assert picture is not None
    return base64.b64decode(picture.uri.partition(",")[2], validate=True)


def noise(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_small_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    content = grid_png(70, 30)
    (tmp_path / "a.png").write_bytes(content)
    picture = png_picture(tmp_path / "a.png")
    assert decoded(picture) == content and picture is not None
    assert picture.uri.startswith("data:image/png;base64,") and (picture.width, picture.height) == (70, 30)


def test_a_large_grid_becomes_lighter_and_keeps_its_size_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = LARGEST // 5
    monkeypatch.setattr(pictures, "LARGEST", largest)
    path = noise(tmp_path / "a.png", 900, 100)
    assert path.stat().st_size > largest
    picture = png_picture(path)
    content = decoded(picture)
    assert len(content) <= largest and picture is not None and (picture.width, picture.height) == (900, 100)
    assert Image.open(io.BytesIO(content)).size == (450, 50)
    assert png_picture(path) == picture  # the same bytes each time


def test_fewer_colours_come_before_fewer_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = noise(tmp_path / "a.png", 200, 100)
    monkeypatch.setattr(pictures, "LARGEST", 40_000)
    image = Image.open(io.BytesIO(decoded(png_picture(path))))
    assert image.size == (200, 100) and image.mode == "P"


def test_no_picture_is_made_narrower_than_people_can_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "LARGEST", 100)
    image = Image.open(io.BytesIO(decoded(png_picture(noise(tmp_path / "a.png", 1700, 10)))))
    assert image.width == 425


@pytest.mark.parametrize(
    "content", [None, b"", b"GIF89a", grid_png()[:50], b"\x89PNG\r\n\x1a\n" + b"\0" * 50]
)
def test_what_is_no_png(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert png_picture(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ('width="72pt" height="36pt"', (96, 48)),
        ('width="100" height="50px"', (100, 50)),
        ('width="1in" height="2.5in"', (96, 240)),
        ('width="10em" height="36pt"', None),
        ('width="0pt" height="36pt"', None),
        ('height="36pt"', None),
    ],
)
def test_the_size_of_a_drawing(size: str, expected: tuple[int, int] | None, tmp_path: Path) -> None:
    content = f'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" {size}></svg>'
    (tmp_path / "a.svg").write_text(content)
    picture = svg_picture(tmp_path / "a.svg")
    if expected is None:
        assert picture is None
    else:
        assert picture is not None and (picture.width, picture.height) == expected
        assert decoded(picture).decode() == content


def test_a_missing_drawing(tmp_path: Path) -> None:
    assert svg_picture(tmp_path / "a.svg") is None and svg_picture(tmp_path) is None


def test_a_heavy_drawing_gives_way_to_a_lighter_png(tmp_path: Path) -> None:
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt">{}</svg>'
    path = tmp_path / "a.svg"
    path.with_suffix(".png").write_bytes(grid_png(150, 75))
    path.write_text(drawing.format(""))
    assert plot_picture(path) == svg_picture(path)  # a light one stays
    path.write_text(drawing.format("<g/>" * 100_000))
    picture = plot_picture(path)
    assert picture is not None and picture.uri.startswith("data:image/png")
    assert (picture.width, picture.height) == (96, 48)  # the size of the drawing
    path.with_suffix(".png").unlink()
    assert plot_picture(path) == svg_picture(path)
    assert plot_picture(tmp_path / "missing.svg") is None
