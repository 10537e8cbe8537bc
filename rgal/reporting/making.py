"""Renders the groups of a store that are not as they were, with all cores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rgal.core.cores import granted_cores
from rgal.core.stand_ins import COMPUTING, install
from rgal.reporting.kept import Files, Kept
from rgal.suite.store.index import Entry
from rgal.suite.task import tasks

LARGE = 100  # trials, from which on a process is worth its start
About = tuple[Sequence[Entry], str]  # the entries of a group, and the hash of what it is made of


def made(root: Path, missing: Mapping[str, About], overviews: frozenset[str]) -> dict[str, Kept]:
    """Render groups and overviews.

    Args:
        root: the results directory.
        missing: what they are made of, by the stems of the files.
        overviews: the stems of those that are overviews.
    """
    groups = {stem: about for stem, about in missing.items() if stem not in overviews}
    across = {stem: about for stem, about in missing.items() if stem in overviews}
    workers, names = granted_cores(), {str(entry.row["task"]) for own, _ in missing.values() for entry in own}
    ours = all(type(task).__module__.startswith("rgal.") for name, task in tasks().items() if name in names)
    trials = sum(len(own) for own, _ in groups.values())
    if workers < 2 or trials < LARGE or not ours:  # a process of its own knows no plug-in
        return _each(group_of, root, groups) | _each(overview_of, root, across)
    # Not forked: this process may have threads. A worker does nothing but render.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(groups)), spawn, initializer=install, initargs=COMPUTING
    ) as pool:
        if len(groups) > 1:
            begun = {stem: pool.submit(group_of, root, stem, *about).result for stem, about in groups.items()}
        else:  # its figures in another process, all else of it here
            ((stem, about),) = groups.items()
            begun = {
                stem: partial(completed, root, stem, *about, pool.submit(figures_of, root, stem, *about))
            }
        overall = _each(overview_of, root, across)
        return {stem: rendered() for stem, rendered in begun.items()} | overall


def _each(render: Callable[..., Kept], root: Path, parts: Mapping[str, About]) -> dict[str, Kept]:
    return {stem: render(root, stem, *about) for stem, about in parts.items()}


# What is imported first is imported while a process of the pool works, or in it --------------------------------------


def group_of(root: Path, stem: str, entries: Sequence[Entry], inputs: str) -> Kept:
    """Render a group."""
    from rgal.reporting.group import Job, render_group

    return render_group(Job(root, stem, entries, inputs))


def overview_of(root: Path, stem: str, entries: Sequence[Entry], inputs: str) -> Kept:
    """Render an overview."""
    from rgal.reporting.group import Job, render_overview

    return render_overview(Job(root, stem, entries, inputs))


def figures_of(root: Path, stem: str, entries: Sequence[Entry], inputs: str) -> Files:
    """Draw the figures of a group."""
    from rgal.reporting.group import Job, draw_figures

    return draw_figures(Job(root, stem, entries, inputs))


def completed(root: Path, stem: str, entries: Sequence[Entry], inputs: str, figures: Future[Files]) -> Kept:
    """Render all of a group but its figures, which are drawn elsewhere, and put both together."""
    from rgal.reporting.group import Job, complete, write_numbers

    job = Job(root, stem, entries, inputs)
    numbers = write_numbers(job)
    return complete(job, numbers, figures.result())
