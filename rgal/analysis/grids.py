"""Draw synthesised images as a grid with one row per class, the quickest way to see what a method makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from rgal.analysis.drawing import DPI, figure_bytes, paper_style
from rgal.core.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

MAX_CLASSES = 10
MAX_PHASES = 8
CELL = 64  # smallest side in pixels to which small images are enlarged
GAP = 4  # pixels between cells
BLANK = 240  # grey level of a cell without an image
FONT_SIZE = 8.0


def class_grid(
    images: Tensor,
    labels: Tensor,
    per_class: int = 8,
    classes: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draw the first images of each class, at most ten classes, as one row per class.

    Small images are enlarged by a whole factor without smoothing, so that every image pixel stays square.

    Args:
        images: uint8 (N,C,H,W) with C = 1 or 3.
        labels: (N,).
        per_class: images in a row.
        classes: the classes to draw. By default those of `class_names`, where one without images is a blank row, else
            the labels that occur; of these, the first ten.
        class_names: in the order of the labels.
        title: written above the grid.

    Raises:
        ValueError: more than ten classes are asked for, or images and labels are not as described.
    """
    pixels, targets = _checked(images, labels, per_class)
    if classes is None:
        present = range(len(class_names)) if class_names else np.unique(targets).tolist()
        classes = list(present)[:MAX_CLASSES]
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"a grid has at most {MAX_CLASSES} classes, got {len(classes)}")
    names = [class_names[c] if 0 <= c < len(class_names) else str(c) for c in classes]
    rows = [pixels[targets == c][:per_class] for c in classes]
    return _figure(_canvas(rows, per_class, pixels.shape[1:]), names, title)


def write_grid(path: str | Path, images: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Path:
    """Write the grid that `class_grid` draws from these arguments as a PNG, atomically.

    Missing folders are made. The same images give the same bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, figure_bytes(class_grid(images, labels, *args, **kwargs), "png"))


def write_replay_grid(
    path: str | Path, phases: Sequence[tuple[Tensor, Tensor]], class_names: Sequence[str], per_phase: int = 3
) -> Path:
    """Write replayed images as a PNG, atomically: a row for each old class, and some columns for each phase.

    At most ten classes and eight phases are drawn, picked evenly. A class is blank in phases that do not replay it.

    Args:
        path: of the PNG.
        phases: uint8 images (N,C,H,W) and labels (N,) of each phase.
        class_names: in the order of the labels.
        per_phase: columns of a phase.
    """
    import torch

    phases = _evenly(phases, MAX_PHASES)
    every = sorted({int(label) for _, labels in phases for label in labels.unique()})
    classes = _evenly(every, MAX_CLASSES)
    rows, row_labels = [], []
    for label in classes:
        for images, labels in phases:
            replayed = images[labels == label][:per_phase]
            blank = torch.full((per_phase - len(replayed), *images.shape[1:]), BLANK, dtype=torch.uint8)
            rows.append(torch.cat([replayed, blank]))
            row_labels.append(torch.full((per_phase,), label))
    names = [
        class_names[label] if label < len(class_names) else str(label) for label in range(max(every) + 1)
    ]
    title = f"replayed in {len(phases)} phases, {per_phase} columns each"
    return write_grid(
        path, torch.cat(rows), torch.cat(row_labels), per_phase * len(phases), classes, names, title
    )


def _evenly(items: Sequence[Any], limit: int) -> list[Any]:
    """Pick at most `limit` of the items evenly, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def _checked(images: Tensor, labels: Tensor, per_class: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images as an array (N,H,W,3) and labels as (N,) on the host, or raise ValueError."""
    pixels, targets = images.detach().cpu().numpy(), labels.detach().cpu().numpy()
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(f"expected uint8 images (N, 1 or 3, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if targets.shape != pixels.shape[:1]:
        raise ValueError(f"expected {len(pixels)} labels, got shape {tuple(targets.shape)}")
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    return np.broadcast_to(pixels.transpose(0, 2, 3, 1), (*pixels.shape[:1], *pixels.shape[2:], 3)), targets


def _canvas(rows: Sequence[NDArray[np.uint8]], columns: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Put all images on white, each enlarged by repeating its pixels."""
    factor = -(-CELL // max(shape[:2]))
    height, width = shape[0] * factor, shape[1] * factor
    size = (len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full((max(size[0], height), *size[1:]), 255, dtype=np.uint8)
    for row, images in enumerate(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            cell = images[column] if column < len(images) else np.full(shape, BLANK, dtype=np.uint8)
            canvas[top : top + height, left : left + width] = cell.repeat(factor, 0).repeat(factor, 1)
    return canvas


def _figure(canvas: NDArray[np.uint8], names: Sequence[str], title: str) -> Figure:
    """Show each canvas pixel as one figure pixel, so that nothing is resampled, with names to the left."""
    height, width = canvas.shape[:2]
    points = DPI / 72  # pixels in a point
    with paper_style():
        widest = max(
            (TextPath((0, 0), name, size=FONT_SIZE).get_extents().width for name in names), default=0
        )
        left, margin = round(widest * points) + 4 * GAP, 2 * GAP
        top = round(2 * FONT_SIZE * points) if title else margin
        total = (left + width + margin, top + height + margin)
        figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((left / total[0], margin / total[1], width / total[0], height / total[1]))
        axes.imshow(canvas, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        row = (height + GAP) / max(len(names), 1)
        for index, name in enumerate(names):
            middle = index * row + (row - GAP) / 2 - 0.5
            axes.text(-2 * GAP, middle, name, ha="right", va="center", fontsize=FONT_SIZE)
        if title:
            axes.text(0, -2 * GAP, title, ha="left", va="bottom", fontsize=FONT_SIZE + 1)
    return figure
