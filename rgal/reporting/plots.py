"""All figures of a results frame, written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rgal.files import write_atomically
from rgal.reporting.case_plots import accuracy_versus_cases
from rgal.reporting.curve_plots import accuracy_versus_images, accuracy_versus_time
from rgal.reporting.frames import cases, file_stems, groups
from rgal.reporting.layer_plots import layer_figure
from rgal.reporting.style import LineStyle, all_styles, figure_bytes

__all__ = [
    "accuracy_versus_cases",
    "accuracy_versus_images",
    "accuracy_versus_time",
    "layer_figure",
    "write_plots",
]


def write_plots(
    results: pd.DataFrame, curves: pd.DataFrame, folder: str | Path, layers: pd.DataFrame | None = None
) -> list[Path]:
    """Write <task>_<setting>_<budget>_{time,images}.{png,svg} for every (task, setting, budget).

    With cases: ..._<case>_{time,images}, where `layers` has its quantizers ..._<case>_layers, and, from two
    cases on, ..._cases.
    """
    paths = []
    for stem, group in groups(results).items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        # of all results of the task: a method looks the same in each of its figures
        styles = all_styles(_same_task(results, group))
        for name, figure in _figures(group, curves, pd.DataFrame() if layers is None else layers, styles):
            for fmt in ("png", "svg"):
                path = Path(folder) / f"{stem}_{name}.{fmt}"
                paths.append(write_atomically(path, figure_bytes(figure, fmt)))
    return paths


def _figures(
    group: pd.DataFrame, curves: pd.DataFrame, layers: pd.DataFrame, styles: Mapping[str, LineStyle]
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of one group; one at a time, they are large."""
    found = cases(group)
    stems = file_stems([(case,) for case in found])
    for case, rows in found.items():
        before = f"{stems[case,]}_" if case else ""
        yield f"{before}time", accuracy_versus_time(curves, rows, styles)
        yield f"{before}images", accuracy_versus_images(curves, rows, styles)
        figure = layer_figure(layers, rows, styles)
        if figure is not None:
            yield f"{before}layers", figure
    if len(found) > 1:
        yield "cases", accuracy_versus_cases(group, styles)


def _same_task(results: pd.DataFrame, group: pd.DataFrame) -> pd.DataFrame:
    if "task" not in results.columns:
        return results
    return results[results["task"].isin(group["task"])]
