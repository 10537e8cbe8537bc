"""All figures of a results frame, written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from rgal.core.files import write_atomically
from rgal.reporting.figures.cases import accuracy_versus_cases, data_efficiency
from rgal.reporting.figures.curves import accuracy_curves, time_quantity
from rgal.reporting.figures.diversity import diversity_figures
from rgal.reporting.figures.increments import accuracy_per_phase, old_and_new
from rgal.reporting.figures.latency import accuracy_versus_latency
from rgal.reporting.figures.layers import layer_figure
from rgal.reporting.figures.measures import measure_figures
from rgal.reporting.figures.parameters import parameter_figures
from rgal.reporting.figures.style import Styles, figure_bytes, line_styles
from rgal.reporting.results import cases, groups
from rgal.reporting.stems import file_stems
from rgal.suite.store.diversity import Diversity, diversity_frames


class Frames(NamedTuple):
    """What is drawn beside the results; the last three are those of `Diversity`."""

    curves: pd.DataFrame
    layers: pd.DataFrame
    phases: pd.DataFrame
    rounds: pd.DataFrame
    bins: pd.DataFrame
    points: pd.DataFrame

    def of(self, group: pd.DataFrame) -> Frames:
        """Keep the rows on the trials of a group: what its figures are drawn from."""
        keys = group["key"] if "key" in group.columns else pd.Series(dtype=object)
        return Frames(
            *(frame[frame["key"].isin(keys)] if "key" in frame.columns else frame.iloc[:0] for frame in self)
        )


class Job(NamedTuple):
    """The figures of one group: the start of the files' names, and what they are drawn from."""

    start: Path
    results: pd.DataFrame
    frames: Frames
    styles: Styles


def write_plots(
    results: pd.DataFrame,
    curves: pd.DataFrame,
    folder: str | Path,
    layers: pd.DataFrame | None = None,
    phases: pd.DataFrame | None = None,
    diversity: Diversity | None = None,
    stem: str = "",
) -> list[Path]:
    """Write the figures of every (task, setting, budget) as <task>_<setting>_<budget>[_<case>]_<figure>.{png,svg}.

    Args:
        results, curves: as `rgal.suite.store.frames.make_frames` makes them: figures time and images of each case;
            where methods differ in a number in their brackets, parameter_NAME; from two cases on, cases; where these
            differ in their number of images, efficiency; where exported models were timed, latency.
        folder: of the files.
        layers: quantizers: figure layers of each case that has any.
        phases: of class-incremental learning: figures phases and old_new instead of time and images.
        diversity: of kept images: figures distances, distance_rounds, negatives and embedding.
        stem: the start of the files' names, where the results are those of one group; default: by what they are of.

    Returns:
        All files.
    """
    folder, none = Path(folder), pd.DataFrame()
    images = vars(diversity or diversity_frames([])).values()
    others = Frames(curves, none if layers is None else layers, none if phases is None else phases, *images)
    parts = {stem: results} if stem else groups(results)
    return [
        path
        for stem, group in parts.items()
        for path in _draw(Job(folder / stem, group, others.of(group), line_styles(group)))
    ]


def _draw(job: Job) -> list[Path]:
    job.start.parent.mkdir(parents=True, exist_ok=True)
    return [
        path
        for name, draw in _figures(job)
        if (figure := draw()) is not None
        for path in _save(figure, job.start.with_name(f"{job.start.name}_{name}"))
    ]


def _save(figure: Figure, start: Path) -> list[Path]:
    """Write `start`.png and `start`.svg."""
    paths = []
    for fmt in ("png", "svg"):
        paths.append(write_atomically(start.with_name(f"{start.name}.{fmt}"), figure_bytes(figure, fmt)))
        # the first format has laid it out; doing so again takes as long as a draw
        figure.set_layout_engine("none")
    return paths


def _figures(job: Job) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Yield name and drawing of each figure of a group; what it returns is large, or None if there is nothing."""
    _, group, (curves, layers, phases, *images), styles = job
    parts = cases(group)
    stems = file_stems([(case,) for case in parts])
    for case, rows in parts.items():
        before = f"{stems[case,]}_" if case else ""
        if len(phases):
            yield f"{before}phases", partial(accuracy_per_phase, phases, rows, styles)
            yield f"{before}old_new", partial(old_and_new, phases, rows)
        else:
            time = time_quantity(curves, rows)
            yield f"{before}time", partial(accuracy_curves, curves, rows, time, styles)
            yield f"{before}images", partial(accuracy_curves, curves, rows, "images", styles)
        yield f"{before}layers", partial(layer_figure, layers, rows, styles)
        yield from ((f"{before}{name}", draw) for name, draw in measure_figures(rows))
        yield from ((f"{before}{name}", draw) for name, draw in parameter_figures(rows))
        for name, draw in diversity_figures(Diversity(*images), rows, styles).items():
            yield f"{before}{name}", draw
    if len(parts) > 1:
        yield "cases", partial(accuracy_versus_cases, group, styles)
        yield "efficiency", partial(data_efficiency, group, styles)
    yield "latency", partial(accuracy_versus_latency, group, styles)
