"""Renders a store: tables, plots, one sample grid a method. Nothing here changes a trial's record."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rgal.errors import UserError
from rgal.files import slug
from rgal.reporting.frames import groups
from rgal.reporting.plots import write_plots
from rgal.reporting.reference import load_reference
from rgal.reporting.tables import group_tables, write_tables
from rgal.suite.frames import load_diversity, load_frames, load_layers, load_phases, newest
from rgal.suite.store import Store

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference"


@dataclass(frozen=True)
class Rendered:
    """What was written, and the tables as Markdown for the terminal."""

    text: str
    tables: list[Path]
    plots: list[Path]
    samples: list[Path]


def render(store: Store, keys: set[str] | None = None) -> Rendered:
    """Write tables/ and plots/ for everything in the store; the returned text covers `keys` only (default: all)."""
    everything, curves = load_frames(store)
    if everything.empty:
        raise UserError(f"results directory {store.root}: no trial in it; run a suite first")
    results = newest(everything)
    reference = load_reference(REFERENCE) if REFERENCE.is_dir() else None
    try:
        tables = write_tables(results, store.root / "tables", reference)
        layers, phases = load_layers(store, results), load_phases(store, results)
        diversity = load_diversity(store, results)
        plots = write_plots(results, curves, store.root / "plots", layers, phases, diversity)
        samples = _collect_samples(store, results)
    except OSError as error:
        raise UserError(
            f"results directory {store.root}: cannot write tables and plots ({error.strerror})"
        ) from error
    shown = results if keys is None else everything[everything["key"].isin(keys)]
    shown_tables = [table for group in groups(shown).values() for table in group_tables(group, reference)]
    text = "\n\n".join(table.text("md") for table in shown_tables)
    return Rendered(text, tables, plots, samples)


def _collect_samples(store: Store, results: pd.DataFrame) -> list[Path]:
    """The sample grid of every method's first finished seed, under a name people can find."""
    written = []
    done = results[results["status"] == "finished"].sort_values(
        ["setting", "budget", "case_order", "method", "seed"]
    )
    for _, first in done.groupby(["setting", "budget", "method"], sort=True).head(1).iterrows():
        folders = [f for f in store.trial_folders() if f.name.endswith(f"-{first['key']}")]
        source = folders[0] / "samples.png" if folders else None
        if source is None or not source.exists():
            continue
        name = slug(f"samples_{first['setting']}_{first['budget']}_{first['method']}").lower()
        target = store.root / "plots" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        written.append(target)
    return written


def summary(rendered: Rendered) -> str:
    """The tables, and where everything is."""
    lines = [rendered.text, ""]
    for title, paths in (
        ("tables", rendered.tables),
        ("plots", rendered.plots),
        ("samples", rendered.samples),
    ):
        shown = [path for path in paths if path.suffix in (".md", ".png")]
        lines += [f"{title}: {path}" for path in shown]
    return "\n".join(lines)
