"""Draw docs/images/idea.png, the picture of RGAL's idea: `python docs/figures/idea.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, FRAME, TEACHER, STUDENT = "#1f2933", "#9aa5b1", "#e8eef7", "#e9f5ec"
CLASSES = ("#2563c9", "#d9730d")  # two labels
TARGET = Path(__file__).resolve().parents[1] / "images" / "idea.png"


def box(axes: Axes, x: float, width: float, title: str, lines: str, colour: str) -> None:
    """Draw a titled box whose lower left corner is at (x, 2.1)."""
    axes.add_patch(
        FancyBboxPatch((x, 2.1), width, 1.8, boxstyle="round,pad=0.05", facecolor=colour, edgecolor=FRAME)
    )
    axes.text(x + width / 2, 3.6, title, ha="center", va="center", weight="bold", fontsize=11, color=INK)
    axes.text(x + width / 2, 2.65, lines, ha="center", va="center", fontsize=9, color=INK, linespacing=1.5)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, width: float = 1.4
) -> None:
    """Draw an arrow between two points."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=colour, linewidth=width)
    )


def relation(axes: Axes, x: float, name: str, apart: int, caption: str) -> None:
    """Draw two images of one label and one of another, and how the triplet moves them.

    Args:
        axes: where to draw.
        x: the middle of the drawing.
        name: of the triplet.
        apart: 1 if same-label images are pushed apart and the others pulled together, -1 for the opposite.
        caption: what this is for.
    """
    axes.text(x, 1.55, name, ha="center", weight="bold", fontsize=10, color=INK)
    same, anchor, other = x - 0.75, x, x + 0.75
    for place, colour in ((same, CLASSES[0]), (anchor, CLASSES[0]), (other, CLASSES[1])):
        axes.plot(place, 1.0, "o", markersize=13, color=colour)
    away, near = (x - 0.18, x - 0.57), (x + 0.57, x + 0.18)
    for (inner, outer), pushes in ((away, apart > 0), (near, apart > 0)):
        ends = (inner, outer) if pushes else (outer, inner)
        arrow(axes, (ends[0], 1.0), (ends[1], 1.0), FRAME, 1.8)
    axes.text(x, 0.42, caption, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.4)


def draw() -> None:
    """Draw the picture and write it."""
    figure, axes = plt.subplots(figsize=(10, 3.9), dpi=150)
    axes.set(xlim=(0, 12.5), ylim=(0, 4.1))
    axes.set_axis_off()
    box(axes, 0.1, 2.0, "Teacher", "trained and frozen;\nits data is gone", TEACHER)
    box(
        axes,
        3.0,
        2.5,
        "Synthesis",
        "pixels or a generator,\nuntil the teacher\nrecognises its classes",
        "white",
    )
    box(axes, 6.4, 1.9, "Pool", "images, some\nmore each round", "white")
    box(
        axes,
        9.0,
        3.2,
        "Student",
        "kd: a smaller network\ndfq: the teacher in 2 to 8 bits\nnecil: one with more classes",
        STUDENT,
    )
    for start, end in ((2.2, 2.9), (5.6, 6.3), (8.4, 8.9)):
        arrow(axes, (start, 3.0), (end, 3.0))
    relation(
        axes, 4.25, "spread", 1, "same label apart, different labels together:\nvaried and confusable images"
    )
    relation(
        axes,
        10.6,
        "gather",
        -1,
        "same label together, different labels apart:\nfeatures that tell classes apart",
    )
    axes.text(
        7.35, 1.0, "the opposite\ntriplet", ha="center", va="center", fontsize=9, style="italic", color=INK
    )
    arrow(axes, (5.5, 1.0), (6.6, 1.0))
    arrow(axes, (8.1, 1.0), (9.3, 1.0))
    figure.savefig(TARGET, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    draw()
