"""Grids of images show every pixel as it is."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from rgal.analysis.drawing import figure_bytes
from rgal.analysis.grids import BLANK, GAP, class_grid, write_grid


def pixels_of(figure_png: bytes) -> np.ndarray:
    return (matplotlib.image.imread(io.BytesIO(figure_png))[..., :3] * 255).round().astype(np.uint8)


def canvas_of(images: torch.Tensor, labels: torch.Tensor, **options: object) -> np.ndarray:
    """The grid's array of pixels, as drawn on the axes."""
    return np.asarray(class_grid(images, labels, **options).axes[0].images[0].get_array())  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_classes_and_missing_images_are_blank(channels: int) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 255, (4, channels, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([2, 0, 2, 2])
    canvas = canvas_of(images, labels, per_class=2, class_names=("a", "b", "c"))
    step = 64 + GAP  # an 8-pixel image is enlarged eightfold
    assert canvas.shape == (3 * step - GAP, 2 * step - GAP, 3)
    for row, column, index in ((0, 0, 1), (2, 0, 0), (2, 1, 2)):
        cell = canvas[row * step : row * step + 64, column * step : column * step + 64]
        expected = images[index].expand(3, 8, 8).permute(1, 2, 0).numpy()
        assert (cell[::8, ::8] == expected).all() and (cell[7::8, 7::8] == expected).all()
    for row, column in ((0, 1), (1, 0), (1, 1)):
        cell = canvas[row * step : row * step + 64, column * step : column * step + 64]
        assert (cell == BLANK).all()


def test_labels_of_rows() -> None:
    images, labels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([5, 1, 5])
    texts = [text.get_text() for text in class_grid(images, labels).axes[0].texts]
    assert texts == ["1", "5"]
    figure = class_grid(images, labels, classes=[5, 0], class_names=("zero", "one"), title="cmi_$x$")
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "zero", "cmi_$x$"]


def test_at_most_ten_classes() -> None:
    images, labels = torch.zeros(12, 1, 4, 4, dtype=torch.uint8), torch.arange(12)
    assert [t.get_text() for t in class_grid(images, labels).axes[0].texts] == [str(i) for i in range(10)]
    with pytest.raises(ValueError, match="at most 10 classes, got 11"):
        class_grid(images, labels, classes=range(11))


@pytest.mark.parametrize(
    ("shape", "title"), [((1, 8, 8), ""), ((3, 32, 32), "a title"), ((3, 20, 36), "a title")]
)
def test_no_pixel_is_resampled_and_bytes_repeat(
    shape: tuple[int, int, int], title: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    images, labels = torch.randint(0, 255, (30, *shape), dtype=torch.uint8), torch.arange(30) % 10
    names = [f"class number {i}" for i in range(10)]
    path, again = tmp_path / "new" / "grid.png", tmp_path / "again.png"
    png = write_grid(path, images, labels, 3, class_names=names, title=title).read_bytes()
    assert png == write_grid(again, images, labels, 3, class_names=names, title=title).read_bytes()
    canvas, drawn = canvas_of(images, labels, per_class=3), pixels_of(png)
    height, width = canvas.shape[:2]
    bottom, right = drawn.shape[0] - 2 * GAP, drawn.shape[1] - 2 * GAP
    assert (drawn[bottom - height : bottom, right - width : right] == canvas).all()


def test_an_empty_pool_gives_blank_rows() -> None:
    none = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    assert (
        canvas_of(none, torch.zeros(0, dtype=torch.int64), per_class=1, class_names=("a",)) == BLANK
    ).all()
    assert figure_bytes(class_grid(none, torch.zeros(0, dtype=torch.int64)), "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("images", "labels", "per_class", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), 8, "expected uint8"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), torch.zeros(2), 8, "1 or 3"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3), 8, "expected 2 labels"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), 0, "at least 1"),
    ],
)
def test_wrong_grids_are_refused(
    images: torch.Tensor, labels: torch.Tensor, per_class: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_grid(images, labels, per_class)
