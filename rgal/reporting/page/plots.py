"""Links from a section to the figures for papers below plots/, and pictures of those that no chart stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rgal.reporting.page.model import Figure, Link, Section, href
from rgal.reporting.page.pictures import plot_picture


def with_plots(section: Section, stem: str, plots: Sequence[Path]) -> Section:
    """Return a section with links to its files.

    Args:
        section: of a group; its drawings name the figures that show the same.
        stem: how the names of the group's files start.
        plots: these files, PNG and SVG of each figure.
    """
    left = {path.stem.removeprefix(f"{stem}_"): path for path in plots if path.suffix == ".svg"}
    drawings = [
        replace(drawing, links=_links([left.pop(name) for name in drawing.plots if name in left]))
        for drawing in section.drawings
    ]
    shown = [figure for path in left.values() if (figure := _plot(path, stem, section.heading))]
    return replace(section, drawings=drawings, plots=shown)


def _links(drawings: Sequence[Path]) -> list[Link]:
    """Return links to the files for papers, named by what they are against where there are several."""
    return [
        Link(
            " ".join(filter(None, (path.stem.rpartition("_")[2] if len(drawings) > 1 else "", kind.upper()))),
            href(path.with_suffix(f".{kind}"), 2),
        )
        for path in drawings
        for kind in ("png", "svg")
    ]


def _plot(path: Path, stem: str, title: str) -> Figure | None:
    """Show a drawing that no chart stands for."""
    picture = plot_picture(path)
    if picture is None:
        return None
    caption = path.stem.removeprefix(f"{stem}_").replace("_", " ")
    return Figure(caption, f"{caption}: {title}", picture, _links([path]))
