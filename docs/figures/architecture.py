"""Draw docs/images/architecture.png, the rooms and the way of a number: `python docs/figures/architecture.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, FRAME, MACHINE, SUITE, TASK = "#1f2933", "#9aa5b1", "#e8eef7", "#fdf3e7", "#e9f5ec"
TARGET = Path(__file__).resolve().parents[1] / "images" / "architecture.png"
# What a box says, where its lower left corner is, its width, its colour.
SUITE_ROW = (
    ("command line", "rgal/cli.py\nor run_suite.py", 0.0, SUITE),
    ("plan", "rgal/suite/plan\na suite file: trials", 2.65, SUITE),
    ("running", "rgal/suite/running\na worker for each", 5.3, SUITE),
    ("store", "rgal/suite/store\na folder for each", 7.95, SUITE),
    ("reporting", "rgal/reporting\ntables, page, verdict", 10.6, SUITE),
)
MACHINE_ROW = (
    ("objective", "rgal/terms\nadds up loss terms", 0.0, MACHINE),
    ("synthesis loop", "rgal/synthesis/loop.py\nmoves images by it", 2.65, MACHINE),
    ("pool", "rgal/synthesis/pool.py\nkeeps images as bytes", 5.3, MACHINE),
    ("student loop", "rgal/engine/student.py\ntrains on the pool", 7.95, MACHINE),
    ("evaluation", "rgal/engine\nlast accuracy", 10.6, MACHINE),
)


def box(axes: Axes, at: tuple[float, float], text: tuple[str, str], colour: str, width: float = 2.2) -> None:
    """Draw a box with a title and two lines; `at` is its lower left corner."""
    x, y = at
    axes.add_patch(
        FancyBboxPatch((x, y), width, 1.15, boxstyle="round,pad=0.05", facecolor=colour, edgecolor=FRAME)
    )
    title, lines = text
    axes.text(x + width / 2, y + 0.94, title, ha="center", va="center", weight="bold", fontsize=10, color=INK)
    axes.text(
        x + width / 2, y + 0.38, lines, ha="center", va="center", fontsize=8, color=INK, linespacing=1.45
    )


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK, linewidth=1.3))


def row(axes: Axes, y: float, boxes: tuple[tuple[str, str, float, str], ...]) -> None:
    """Draw boxes beside each other, each with an arrow to the next."""
    for title, lines, x, colour in boxes:
        box(axes, (x, y), (title, lines), colour)
    for (*_, left, _), (*_, right, _) in zip(boxes, boxes[1:], strict=False):
        arrow(axes, (left + 2.28, y + 0.58), (right - 0.08, y + 0.58))


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a remark in italics, from x on."""
    axes.text(x, y, text, va="center", fontsize=8.5, style="italic", color=INK, linespacing=1.4)


def draw() -> None:
    """Draw the picture and write it."""
    figure, axes = plt.subplots(figsize=(10.5, 5.4), dpi=150)
    axes.set(xlim=(-0.3, 13.1), ylim=(-0.2, 6.6))
    axes.set_axis_off()
    row(axes, 5.1, SUITE_ROW)
    box(
        axes, (2.65, 3.15), ("method", "baselines: one file each\nreturns a recipe, which is data"), TASK, 3.1
    )
    box(
        axes, (7.15, 3.15), ("task", "tasks: kd, dfq, necil\nwho the student is, what is measured"), TASK, 3.6
    )
    arrow(axes, (6.4, 5.02), (6.4, 2.42))
    note(axes, 0.0, 3.75, "a teacher is given,\nits data is not")
    arrow(axes, (5.84, 3.72), (6.35, 3.72))
    arrow(axes, (7.07, 3.72), (6.46, 3.72))
    axes.add_patch(
        FancyBboxPatch(
            (-0.2, 0.15), 13.2, 2.15, boxstyle="round,pad=0.02", facecolor="white", edgecolor=FRAME
        )
    )
    note(
        axes,
        0.05,
        2.03,
        "rgal/engine: one machine for all methods; in each round synthesis steps, then student steps",
    )
    row(axes, 0.45, MACHINE_ROW)
    axes.plot((11.7, 11.7, 9.05), (2.42, 4.7, 4.7), color=INK, linewidth=1.3)
    arrow(axes, (9.05, 4.7), (9.05, 5.03))
    figure.savefig(TARGET, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    draw()
