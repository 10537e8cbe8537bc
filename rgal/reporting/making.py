"""Renders the groups of a store that are not as they were, with all cores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rgal.core.cores import granted_cores
from rgal.core.stand_ins import COMPUTING, install
from rgal.reporting.kept import Kept
from rgal.suite.store.index import Entry
from rgal.suite.task import tasks

if TYPE_CHECKING:
    from rgal.reporting.group import Job

LARGE = 100  # trials, from which on a process is worth its start


def made(
    root: Path, missing: Mapping[str, tuple[Sequence[Entry], str]], overviews: frozenset[str]
) -> dict[str, Kept]:
    """Render groups and overviews.

    Args:
        root: the results directory.
        missing: entries and the hash of what it is made of, by the stems of the files.
        overviews: the stems of those that are overviews.
    """
    workers, names = granted_cores(), {str(entry.row["task"]) for own, _ in missing.values() for entry in own}
    ours = all(type(task).__module__.startswith("rgal.") for name, task in tasks().items() if name in names)
    trials = sum(len(own) for stem, (own, _) in missing.items() if stem not in overviews)
    if workers < 2 or trials < LARGE or not ours:  # a process of its own knows no plug-in
        return _here(_jobs(root, missing), overviews)
    # Not forked: this process may have threads. A worker does nothing but render.
    spawn = multiprocessing.get_context("spawn")
    groups = len(missing) - len(overviews & set(missing))
    size = min(workers, groups) if groups > 1 else 1
    with ProcessPoolExecutor(size, spawn, initializer=install, initargs=COMPUTING) as pool:
        if groups > 1:
            return _spread(pool, root, missing, overviews)
        return _shared(pool, root, missing, overviews)


def _spread(
    pool: ProcessPoolExecutor,
    root: Path,
    missing: Mapping[str, tuple[Sequence[Entry], str]],
    overviews: frozenset[str],
) -> dict[str, Kept]:
    """Render a group in each process."""
    tasks = {
        stem: pool.submit(group_of, root, stem, *about)
        for stem, about in missing.items()
        if stem not in overviews
    }
    across = _here(_jobs(root, {stem: missing[stem] for stem in missing if stem in overviews}), overviews)
    return {stem: task.result() for stem, task in tasks.items()} | across


def _shared(
    pool: ProcessPoolExecutor,
    root: Path,
    missing: Mapping[str, tuple[Sequence[Entry], str]],
    overviews: frozenset[str],
) -> dict[str, Kept]:
    """Render one group: its figures in another process, all else here."""
    stem = next(stem for stem in missing if stem not in overviews)
    figures = pool.submit(figures_of, root, stem, *missing[stem])
    from rgal.reporting.group import complete, write_numbers

    jobs = _jobs(root, missing)
    numbers = write_numbers(jobs[stem])
    across = _here({name: job for name, job in jobs.items() if name != stem}, overviews)
    return {stem: complete(jobs[stem], numbers, figures.result())} | across


def _jobs(root: Path, missing: Mapping[str, tuple[Sequence[Entry], str]]) -> dict[str, Job]:
    from rgal.reporting.group import Job

    return {stem: Job(root, stem, *about) for stem, about in missing.items()}


def _here(jobs: Mapping[str, Job], overviews: frozenset[str]) -> dict[str, Kept]:
    from rgal.reporting.group import render_group, render_overview

    return {
        stem: render_overview(job) if stem in overviews else render_group(job) for stem, job in jobs.items()
    }


# In a process of the pool: what it imports first, it imports beside the work of this one


def group_of(root: Path, stem: str, entries: Sequence[Entry], inputs: str) -> Kept:
    """Render a group."""
    from rgal.reporting.group import Job, render_group

    return render_group(Job(root, stem, entries, inputs))


def figures_of(root: Path, stem: str, entries: Sequence[Entry], inputs: str) -> dict[str, str]:
    """Draw the figures of a group."""
    from rgal.reporting.group import Job, draw_figures

    return draw_figures(Job(root, stem, entries, inputs))
