"""All figures of a results frame, written as PNG and SVG."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rgal.core.cores import granted_cores
from rgal.core.files import write_atomically
from rgal.reporting.figures.cases import accuracy_versus_cases
from rgal.reporting.figures.curve_plots import accuracy_versus_images, accuracy_versus_time, data_efficiency
from rgal.reporting.figures.diversity import diversity_figures
from rgal.reporting.figures.drawn import entry_of, fingerprint, kept, read_drawn, write_drawn
from rgal.reporting.figures.increments import accuracy_per_phase, old_and_new
from rgal.reporting.figures.latency import accuracy_versus_latency
from rgal.reporting.figures.layers import layer_figure
from rgal.reporting.figures.measures import measure_figures
from rgal.reporting.figures.style import LineStyle, all_styles, figure_bytes
from rgal.reporting.results import ResultGroup, cases, file_stems, groups
from rgal.suite.store.diversity import Diversity, diversity_frames

__all__ = [
    "accuracy_per_phase",
    "accuracy_versus_cases",
    "accuracy_versus_images",
    "accuracy_versus_latency",
    "accuracy_versus_time",
    "data_efficiency",
    "layer_figure",
    "old_and_new",
    "write_plots",
]

MANY = 3  # groups to draw, from which on processes are worth their start


def write_plots(
    results: pd.DataFrame,
    curves: pd.DataFrame,
    folder: str | Path,
    layers: pd.DataFrame | None = None,
    phases: pd.DataFrame | None = None,
    diversity: Diversity | None = None,
) -> list[Path]:
    """Write <task>_<setting>_<budget>_{time,images}.{png,svg} for every (task, setting, budget).

    Where `phases` has rows of its trials: ..._{phases,old_new} instead. With cases: ..._<case>_{time,images},
    where `layers` has its quantizers ..._<case>_layers, and, from two cases on, ..._cases; where these differ in their
    number of images, ..._efficiency; where exported models were timed, ..._latency. Where `diversity` has its trials:
    ..._{distances,distance_rounds,negatives,embedding} too. A group whose numbers are those of its files is not drawn
    again.
    """
    others = Frames(
        curves,
        pd.DataFrame() if layers is None else layers,
        pd.DataFrame() if phases is None else phases,
        diversity_frames([]) if diversity is None else diversity,
    )
    folder = Path(folder)
    before = read_drawn(folder)
    paths: dict[str, list[Path]] = {}
    missing: dict[str, Job] = {}
    inputs = {}
    for stem, group in groups(results).items():
        # of all results of the task: a method looks the same in each of its figures
        styles = all_styles(_same_task(results, group))
        about = others.about(group)
        measures = pd.DataFrame(map(vars, ResultGroup(group).in_table("plot")))
        inputs[stem] = fingerprint([group, *about.all(), measures], styles)
        paths[stem] = kept(folder, before.get(stem), inputs[stem])
        if not paths[stem]:
            missing[stem] = folder / stem, group, about, styles
    if inputs:
        folder.mkdir(parents=True, exist_ok=True)
    paths |= _draw_all(missing)
    drawn = {stem: entry_of(inputs[stem], written) for stem, written in paths.items()}
    if drawn != before and drawn:
        write_drawn(folder, drawn)
    return [path for written in paths.values() for path in written]


@dataclass(frozen=True)
class Frames:
    """What is drawn beside the results."""

    curves: pd.DataFrame
    layers: pd.DataFrame
    phases: pd.DataFrame
    diversity: Diversity

    def all(self) -> tuple[pd.DataFrame, ...]:
        found = self.diversity
        return (self.curves, self.layers, self.phases, found.rounds, found.bins, found.points)

    def about(self, group: pd.DataFrame) -> Frames:
        """The rows about the trials of a group: what its figures are drawn from, and what a process is handed."""
        keys = group["key"] if "key" in group.columns else pd.Series(dtype=object)
        curves, layers, phases, *diversity = (
            frame[frame["key"].isin(keys)] if "key" in frame.columns else frame.iloc[:0]
            for frame in self.all()
        )
        return Frames(curves, layers, phases, Diversity(*diversity))


# Start of the files' names, a group of results, what is drawn beside them, looks.
Job = tuple[Path, pd.DataFrame, Frames, Mapping[str, LineStyle]]


def _draw_all(missing: Mapping[str, Job]) -> dict[str, list[Path]]:
    """The files of each group: drawn by a process a core where there are many groups, else here."""
    jobs = list(missing.values())
    workers = min(granted_cores(), len(jobs))
    if len(jobs) < MANY or workers < 2:
        return dict(zip(missing, map(_draw, jobs), strict=True))
    # Not forked: this process may have threads. A worker takes two seconds to start.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return dict(zip(missing, pool.map(_draw, jobs), strict=True))


def _draw(job: Job) -> list[Path]:
    start, group, frames, styles = job
    return [
        path
        for name, figure in _figures(group, frames, styles)
        for path in _save(figure, start.with_name(f"{start.name}_{name}"))
    ]


def _save(figure: Figure, start: Path) -> list[Path]:
    """`start`.png and `start`.svg."""
    paths = []
    for fmt in ("png", "svg"):
        paths.append(write_atomically(start.with_name(f"{start.name}.{fmt}"), figure_bytes(figure, fmt)))
        # the first format has laid it out; doing so again takes as long as a draw
        figure.set_layout_engine("none")
    return paths


def _figures(
    group: pd.DataFrame, others: Frames, styles: Mapping[str, LineStyle]
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of one group; one at a time, they are large."""
    curves, phases = others.curves, others.phases
    found = cases(group)
    stems = file_stems([(case,) for case in found])
    in_phases = bool(
        {"key"} <= {*phases.columns} & {*group.columns} and phases["key"].isin(group["key"]).any()
    )
    for case, rows in found.items():
        before = f"{stems[case,]}_" if case else ""
        if in_phases:
            yield f"{before}phases", accuracy_per_phase(phases, rows, styles)
            yield f"{before}old_new", old_and_new(phases, rows)
        else:
            yield f"{before}time", accuracy_versus_time(curves, rows, styles)
            yield f"{before}images", accuracy_versus_images(curves, rows, styles)
        figure = layer_figure(others.layers, rows, styles)
        if figure is not None:
            yield f"{before}layers", figure
        yield from ((f"{before}{name}", figure) for name, figure in measure_figures(rows))
        for name, draw in diversity_figures(others.diversity, rows, styles).items():
            if (figure := draw()) is not None:
                yield f"{before}{name}", figure
    if len(found) > 1:
        yield "cases", accuracy_versus_cases(group, styles)
        if (figure := data_efficiency(group, styles)) is not None:
            yield "efficiency", figure
    if (figure := accuracy_versus_latency(group, styles)) is not None:
        yield "latency", figure


def _same_task(results: pd.DataFrame, group: pd.DataFrame) -> pd.DataFrame:
    if "task" not in results.columns:
        return results
    return results[results["task"].isin(group["task"])]
