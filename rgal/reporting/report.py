"""Renders a store: tables, plots, one sample grid a method, a page. Nothing here changes a trial's record.

Each group of results, one (task, setting, budget), is rendered by itself, and only if it has changed. What draws and
counts is imported for such a group alone: it takes longer to load than to look at a store in which all is as it was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.reporting.kept import FOLDER, Kept, Shelf, file_hash, inputs_of
from rgal.reporting.outputs import output_lines
from rgal.reporting.stems import GROUP, file_stems
from rgal.reporting.tables.brief import Brief, in_lines
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import SAME_TRIAL
from rgal.suite.store.index import Entry, Index
from rgal.suite.store.records import ODD, printable

READING = (
    "±: over n seeds. Seconds: of the processor, where known. The tables below have all columns and notes."
)
ACROSS = ("task", "dataset", "budget")  # what an overview is of


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
    entries = Index(store.root).entries(store.trial_folders())
    if not entries:
        raise UserError(f"results directory {store.root}: no trial in it; run a suite first")
    groups = grouped(entries)
    try:
        kept = _kept(store.root, groups)
        page = _write_page(store.root, entries, kept)
    except OSError as error:
        raise UserError(
            f"results directory {store.root}: cannot write tables and plots ({error.strerror})"
        ) from error
    return Rendered(
        _text(_briefs(groups, kept, keys)),
        [store.root / "tables" / name for one in kept.values() for name in one.tables],
        [store.root / "plots" / name for one in kept.values() for name in one.plots],
        [store.root / "plots" / name for one in kept.values() for name in one.samples],
        page,
        _left_out(entries),
        output_lines([entry.record for entry in entries], keys or ()),
    )


# Which groups there are ----------------------------------------------------------------------------------------------


def grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Map file stems, in order, to the trials of one (task, setting, budget); folders of unknown settings are in none.

    Two groups whose slugs are equal ("a -> b" and "a b") both get a short hash: neither overwrites the other.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        if entry.record.settings:
            groups.setdefault(tuple(str(entry.row[name]) for name in GROUP), []).append(entry)
    stems = file_stems(groups)
    return {stems[key]: groups[key] for key in sorted(groups, key=stems.__getitem__)}


def newest_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Keep one trial of each method, case and seed, as `rgal.suite.store.frames.newest` does of a frame."""
    best: dict[tuple[object, ...], tuple[bool, str, int]] = {}
    for place, entry in enumerate(entries):
        trial = tuple(entry.row[name] for name in SAME_TRIAL)
        rank = (entry.record.status not in ODD, entry.row["started"], place)
        best[trial] = max(rank, best.get(trial, rank))
    return [entries[place] for place in sorted(place for *_, place in best.values())]


def overviews_of(groups: Mapping[str, Sequence[Entry]]) -> dict[str, list[Entry]]:
    """Map file stems, in order, to the newest trials of one (task, dataset, budget) that has several settings."""
    parts: dict[tuple[str, ...], list[Entry]] = {}
    for entries in groups.values():
        for entry in newest_entries(entries):
            if entry.row["dataset"] is not None:
                parts.setdefault(tuple(str(entry.row[name]) for name in ACROSS), []).append(entry)
    several = {key: own for key, own in parts.items() if len({entry.row["setting"] for entry in own}) > 1}
    stems = file_stems(several)
    return {f"overview_{stems[key]}": several[key] for key in sorted(several, key=stems.__getitem__)}


# Rendering what has changed ------------------------------------------------------------------------------------------


def _kept(root: Path, groups: dict[str, list[Entry]]) -> dict[str, Kept]:
    """Return what is rendered of each group and overview, made now where it is not as it was."""
    shelf, overviews = Shelf(root), overviews_of(groups)
    kept: dict[str, Kept | None] = {}
    missing: dict[str, tuple[list[Entry], str]] = {}
    for stem, own in (groups | overviews).items():
        inputs = inputs_of(stem, own)
        kept[stem] = shelf.take(stem, inputs)
        if kept[stem] is None:
            missing[stem] = own, inputs
    if missing:
        from rgal.reporting.making import made

        for stem, one in made(root, missing, frozenset(overviews)).items():
            shelf.put(stem, one)
            kept[stem] = one
    shelf.keep_only(kept)
    return {stem: one for stem, one in kept.items() if one is not None}


# The page and the terminal -------------------------------------------------------------------------------------------


def _write_page(root: Path, entries: Sequence[Entry], kept: Mapping[str, Kept]) -> Path:
    """Write the page, unless it is the one that was written of the same."""
    path, memory = root / "report.html", root / FOLDER / "page"
    inputs = inputs_of("\n".join(one.inputs for one in kept.values()), entries)
    if _read(memory) == f"{inputs} {file_hash(path)}":
        return path
    from rgal.reporting.page.build import make_report
    from rgal.reporting.page.model import write_report

    write_report(path, make_report(entries, kept))
    memory.parent.mkdir(exist_ok=True)
    write_atomically(memory, f"{inputs} {file_hash(path)}".encode())
    return path


def _read(memory: Path) -> str:
    try:
        return memory.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _briefs(
    groups: Mapping[str, Sequence[Entry]], kept: Mapping[str, Kept], keys: set[str] | None
) -> list[Brief]:
    """Return what a terminal shows of the trials with these keys, or of the newest of all."""
    briefs: list[Brief] = []
    for stem, entries in groups.items():
        mine = [entry for entry in entries if keys is None or entry.record.key in keys]
        if keys is None or (mine and mine == newest_entries(entries)):
            briefs += kept[stem].briefs
        elif mine:
            from rgal.reporting.group import briefs_of

            briefs += briefs_of(mine)
    return briefs


def _text(briefs: Sequence[Brief]) -> str:
    """Return the tables of results as a terminal shows them: as wide as it is, 80 characters where there is none."""
    width = max(60, shutil.get_terminal_size((80, 24)).columns) if sys.stdout.isatty() else 80
    if not briefs:
        return ""
    remarks = dict.fromkeys(note for brief in briefs for note in brief.remarks)
    parts = [f"{brief.text(width)}\n" for brief in briefs]
    return "\n".join([*parts, *(in_lines(line, width) for line in (*remarks, READING))])


def _left_out(entries: Sequence[Entry]) -> list[str]:
    odd = [entry.record for entry in entries if entry.record.status in ODD]
    return [f"{printable(record.folder.name)} ({record.status}: {record.reason})" for record in odd]


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
