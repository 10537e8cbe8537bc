"""Renders a store: tables, plots, one sample grid a method, a page. Nothing here changes a trial's record."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.reporting.figures.write import write_plots
from rgal.reporting.outputs import output_lines
from rgal.reporting.page.build import Contents, Sample, make_report
from rgal.reporting.page.charts import Frames
from rgal.reporting.page.model import write_report
from rgal.reporting.published import load_reference
from rgal.reporting.results import cases, file_stems, finished, groups
from rgal.reporting.tables.table import Table, in_lines
from rgal.reporting.tables.write import all_tables, save_tables
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import (
    identified,
    load_diversity,
    load_layers,
    load_phases,
    load_records,
    make_frames,
    newest,
)
from rgal.suite.store.records import ODD, Record, printable
from rgal.suite.task import tasks

READING = (
    "±: over n seeds. Seconds: of the processor, where known. The tables below have all columns and notes."
)
REFERENCE = Path(benchmarks.__file__).parent / "reference"


@dataclass(frozen=True)
class Rendered:
    """What was written, what a terminal shows of the tables, a line for each folder left out, and what a run leaves."""

    text: str
    tables: list[Path]
    plots: list[Path]
    samples: list[Path]
    page: Path
    left_out: list[str]
    outputs: list[str]


def render(store: Store, keys: set[str] | None = None) -> Rendered:
    """Write tables/, plots/ and report.html for everything in the store; the returned text covers `keys` only
    (default: all)."""
    records = load_records(store)
    if not records:
        raise UserError(f"results directory {store.root}: no trial in it; run a suite first")
    every, curves = make_frames(records)
    trials = identified(every)
    results = newest(trials)
    reference = load_reference(REFERENCE)
    tables = all_tables(results, reference)
    try:
        written = save_tables(tables, store.root / "tables")
        layers, phases = load_layers(store, results), load_phases(store, results)
        diversity = load_diversity(store, results)
        plots = write_plots(results, curves, store.root / "plots", layers, phases, diversity)
        samples = _collect_samples(records, results, store.root / "plots")
        titles = {name: task.summary for name, task in tasks().items()}
        shown = frozenset(map(int, results.index))
        frames = Frames(curves, layers, phases, diversity)
        contents = Contents(records, trials, shown, tables, plots, samples, titles, frames)
        page = write_report(store.root / "report.html", make_report(contents))
    except OSError as error:
        raise UserError(
            f"results directory {store.root}: cannot write tables and plots ({error.strerror})"
        ) from error
    if keys is not None:
        tables = all_tables(trials[trials["key"].isin(keys)], reference)
    return Rendered(
        _text(tables),
        written,
        plots,
        [sample.path for sample in samples],
        page,
        _left_out(records),
        output_lines(records, keys or ()),
    )


def _text(tables: Mapping[str, Sequence[Table]]) -> str:
    """Return the tables of results as a terminal shows them: as wide as it is, 80 characters where there is none."""
    width = max(60, shutil.get_terminal_size((80, 24)).columns) if sys.stdout.isatty() else 80
    shown = [table for group in tables.values() for table in group if table.brief]
    if not shown:
        return ""
    remarks = dict.fromkeys(note for table in shown for note in table.remarks)
    parts = [f"{table.terminal(width)}\n" for table in shown]
    return "\n".join([*parts, *(in_lines(line, width) for line in (*remarks, READING))])


def _left_out(records: Sequence[Record]) -> list[str]:
    odd = [record for record in records if record.status in ODD]
    return [f"{printable(record.folder.name)} ({record.status}: {record.reason})" for record in odd]


def _collect_samples(records: Sequence[Record], results: pd.DataFrame, folder: Path) -> list[Sample]:
    """Return the sample grid of every method's first finished seed, in its first case, under a name people can find.

    The index of `results` holds the places of the records.
    """
    written = []
    for stem, group in groups(results).items():
        ordered = [finished(part).sort_values(["seed", "key"]) for part in cases(group).values()]
        first = pd.concat(ordered).drop_duplicates("method").sort_values(["order", "method"], kind="stable")
        names = file_stems([(method,) for method in first["method"]])
        for place, row in first.iterrows():
            source = records[int(str(place))].folder / "samples.png"
            if source.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"samples_{stem}_{names[row['method'],]}.png"
                write_atomically(path, source.read_bytes())
                key = records[int(str(place))].key
                written.append(Sample(path, stem, row["method"], row["case"] or "", row["seed"], key))
    return written


def summary(rendered: Rendered) -> str:
    """Return what a terminal shows at the end: the tables, what they allow to be said, and where everything is."""
    lines = [rendered.text, ""]
    for title, paths in (
        ("tables", rendered.tables),
        ("plots and pictures", [*rendered.plots, *rendered.samples]),
    ):
        if paths:
            lines.append(f"{title}: {len({path.stem for path in paths})} in {paths[0].parent}")
    lines += [f"left out: {line}" for line in rendered.left_out]
    return "\n".join([*lines, *rendered.outputs, f"report: {rendered.page}"])
