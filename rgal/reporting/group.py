"""Renders one group of results: its tables, figures, grids of images and part of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rgal.core.files import write_atomically
from rgal.reporting.figures.write import write_plots
from rgal.reporting.kept import Files, Kept, hashed
from rgal.reporting.page.charts import Frames
from rgal.reporting.page.model import Section
from rgal.reporting.page.plots import with_plots
from rgal.reporting.page.section import Contents, Sample, group_section, sheet_of
from rgal.reporting.page.trials import described
from rgal.reporting.published import REFERENCE, Reference, load_reference
from rgal.reporting.results import cases, finished, only
from rgal.reporting.stems import file_stems
from rgal.reporting.tables.brief import Brief
from rgal.reporting.tables.overview import overview_table
from rgal.reporting.tables.write import group_tables, save_tables
from rgal.suite.store.folders import StorePart
from rgal.suite.store.frames import (
    frames_of,
    identified,
    load_diversity,
    load_layers,
    load_phases,
    newest,
)
from rgal.suite.store.index import Entry


class Job(NamedTuple):
    """A group to render: the results directory, the start of its files' names, its trials, and the hash of these."""

    root: Path
    stem: str
    entries: Sequence[Entry]
    inputs: str


class Loaded(NamedTuple):
    """What is known of the trials of a group: all of them, those that count, and what is drawn beside these."""

    trials: pd.DataFrame
    results: pd.DataFrame
    frames: Frames

    @classmethod
    def of(cls, job: Job) -> Loaded:
        """Load what a group is rendered from."""
        every, curves = frames_of(
            [entry.row for entry in job.entries], [point for entry in job.entries for point in entry.curve]
        )
        trials = identified(every)
        results = newest(trials)
        store = StorePart(job.root, [entry.record.folder for entry in job.entries])
        layers, phases = load_layers(store, results), load_phases(store, results)
        return cls(trials, results, Frames(curves, layers, phases, load_diversity(store, results)))


def render_group(job: Job) -> Kept:
    """Write all that there is of one (task, setting, budget)."""
    loaded = Loaded.of(job)
    return complete(job, write_numbers(job, loaded), draw_figures(job, loaded))


def draw_figures(job: Job, loaded: Loaded | None = None) -> Files:
    """Draw figures of a group. Return the names of the files with hashes of their contents."""
    loaded = loaded or Loaded.of(job)
    curves, layers, phases, diversity = loaded.frames
    folder = job.root / "plots"
    return hashed(write_plots(loaded.results, curves, folder, layers, phases, diversity, job.stem))


def write_numbers(job: Job, loaded: Loaded | None = None) -> Kept:
    """Write the tables and grids of images of a group, and describe all but its figures for the page."""
    loaded = loaded or Loaded.of(job)
    trials, results, frames = loaded
    tables = group_tables(results, published())
    written = save_tables({job.stem: tables}, job.root / "tables")
    samples = _collect_samples(job, results)
    shown = frozenset(map(int, results.index))
    contents = Contents(job.stem, job.entries, trials, shown, tables, samples, frames)
    section, charts = group_section(contents)
    on_page = frozenset(figure.trial for figure in section.samples)
    return Kept(
        job.inputs,
        only(trials, "task"),
        hashed(written),
        {},
        hashed(sample.path for sample in samples),
        section,
        [table.in_brief() for table in tables if table.brief],
        json.loads(json.dumps(charts)),  # plain values, as the page holds them
        json.loads(json.dumps(described([entry.record for entry in job.entries], trials, shown, on_page))),
    )


def complete(job: Job, kept: Kept, plots: Files) -> Kept:
    """Add the figures to what was written of a group."""
    paths = [job.root / "plots" / name for name in plots]
    return replace(kept, plots=plots, section=with_plots(kept.section, job.stem, paths))


def render_overview(job: Job) -> Kept:
    """Write the table across the settings of one (task, dataset, budget)."""
    rows, _ = frames_of([entry.row for entry in job.entries], [])
    results = identified(rows)
    table = overview_table(results)
    written = save_tables({job.stem: [table]}, job.root / "tables")
    title = f"{only(results, 'dataset')}, all settings, budget {only(results, 'budget')}"
    section = Section(f"group-{job.stem}", title, sheets=[sheet_of(table, job.stem)])
    return Kept(job.inputs, only(results, "task"), hashed(written), {}, {}, section, [], [], {})


def briefs_of(entries: Sequence[Entry]) -> list[Brief]:
    """Return what a terminal shows of the tables of some trials of one group, older ones too."""
    rows, _ = frames_of([entry.row for entry in entries], [])
    tables = group_tables(identified(rows), published())
    return [table.in_brief() for table in tables if table.brief]


@cache
def published() -> Reference:
    """Return the published numbers."""
    return load_reference(REFERENCE)


def _collect_samples(job: Job, results: pd.DataFrame) -> list[Sample]:
    """Return the sample grid of every method's first finished seed, in its first case, under a name people can find.

    The index of `results` holds the places of the entries.
    """
    written = []
    folder = job.root / "plots"
    ordered = [finished(part).sort_values(["seed", "key"]) for part in cases(results).values()]
    first = pd.concat(ordered).drop_duplicates("method").sort_values(["order", "method"], kind="stable")
    names: Mapping[tuple[str, ...], str] = file_stems([(method,) for method in first["method"]])
    for place, row in first.iterrows():
        source = job.entries[int(str(place))].record.folder / "samples.png"
        if source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"samples_{job.stem}_{names[row['method'],]}.png"
            write_atomically(path, source.read_bytes())
            written.append(Sample(path, row["method"], row["case"] or "", row["seed"], row["key"]))
    return written
