"""Accuracy tables: one row a method, mean and spread over its finished trials, and what they cost.

The primary number is the *last* evaluation. Numbers from publications stand in a column of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rgal.files import write_atomically
from rgal.reporting.frames import (
    DAGGER,
    finished,
    groups,
    heading,
    methods,
    numbers,
    only,
    require_one_group,
    uses_real_data,
)
from rgal.reporting.reference import TEACHER, Reference
from rgal.reporting.render import FORMATS, render

__all__ = ["accuracy_table", "render", "write_tables"]

NO_FINISHED = "No finished trials."
# Columns of the result, in order. Accuracies in percent, differences in points, durations in seconds.
COLUMNS = (
    "method",
    "data_free",
    "top1_mean_percent",
    "top1_std_points",
    "finished",
    "planned",
    "drop_points",
    "images",
    "synthesis_steps",
    "student_steps",
    "synthesis_seconds",
    "student_seconds",
    "published_percent",
    "published_source",
)
MEANS = ("images", "synthesis_steps", "student_steps", "synthesis_seconds", "student_seconds")


def accuracy_table(results: pd.DataFrame, reference: Reference | None = None) -> pd.DataFrame:
    """One row a method, for the trials of one (task, setting, budget); ValueError when there are several.

    Numbers are raw (`render` formats them); unknown ones are NaN. Methods that train on real data come first,
    then the order of the suite. The standard deviation is the sample's (n - 1), NaN for one trial.
    `attrs["caption"]` is a line and `attrs["notes"]` a list of lines that belong under the table.
    """
    require_one_group(results)
    results = results.reset_index(drop=True)
    by_method = methods(results)
    rows = [_row(name, trials, reference) for name, trials in by_method.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["caption"] = heading(results) or "Results"
    table.attrs["notes"] = _notes(table, by_method, results, reference)
    return table


def write_tables(results: pd.DataFrame, folder: str | Path, reference: Reference | None = None) -> list[Path]:
    """Write <task>_<setting>_<budget>.{md,csv,tex} for every such group; nothing without any trials."""
    paths = []
    for stem, group in groups(results).items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        table = accuracy_table(group, reference)
        for fmt in FORMATS:
            path = Path(folder) / f"{stem}.{fmt}"
            paths.append(write_atomically(path, render(table, fmt).encode("utf-8")))
    return paths


def _row(name: str, trials: pd.DataFrame, reference: Reference | None) -> dict[str, Any]:
    done = finished(trials)
    last = numbers(done, "last")
    published = _published(trials, name, reference) or (float("nan"), "")
    return {
        "method": name,
        "data_free": not uses_real_data(trials),
        "top1_mean_percent": last.mean(),
        "top1_std_points": last.std(ddof=1),
        "finished": len(done),
        "planned": len(trials),
        "drop_points": (numbers(done, "teacher_top1") - last).mean(),
        **{column: numbers(done, column).mean() for column in MEANS},
        "published_percent": published[0],
        "published_source": published[1],
    }


def _published(trials: pd.DataFrame, method: str, reference: Reference | None) -> tuple[float, str] | None:
    if reference is None:
        return None
    task, dataset, teacher, student = (
        only(trials, name) for name in ("task", "dataset", "teacher", "student")
    )
    return reference.published(task, dataset, teacher, student, method)


def _notes(
    table: pd.DataFrame,
    by_method: dict[str, pd.DataFrame],
    results: pd.DataFrame,
    reference: Reference | None,
) -> list[str]:
    done = finished(results)
    notes = [] if len(done) else [NO_FINISHED]
    if len(done):
        notes.append(
            "Top-1: test accuracy at the last evaluation, not the best; mean ± sample standard deviation "
            "over the n finished trials. Drop: teacher minus student. Other columns: means over the same "
            "trials."
        )
        notes += _teacher_note(done)
    if not table["data_free"].all():
        notes.append(f"{DAGGER} Trained on real data: a reference, not data-free.")
    notes += _image_notes(by_method)
    notes += _unfinished_notes(by_method)
    notes += _published_notes(table, _published(results, TEACHER, reference))
    return notes


def _teacher_note(done: pd.DataFrame) -> list[str]:
    top1 = numbers(done, "teacher_top1").dropna()
    if top1.empty:
        return []
    # the teacher may be trained anew for each seed; its accuracy is then a range
    bounds = dict.fromkeys((f"{top1.min():.2f}", f"{top1.max():.2f}"))
    return [f"Teacher: {' to '.join(bounds)} % top-1."]


def _image_notes(by_method: dict[str, pd.DataFrame]) -> list[str]:
    """What the image counts mean, once for each distinct note."""
    by_note: dict[str, list[str]] = {}
    for name, trials in by_method.items():
        if "image_note" not in trials.columns:
            continue
        found = finished(trials)["image_note"].dropna()
        for note in sorted({" ".join(str(note).split()) for note in found} - {""}):
            by_note.setdefault(note, []).append(name)
    return [f"Images of {', '.join(names)}: {note.rstrip('.')}." for note, names in by_note.items()]


def _unfinished_notes(by_method: dict[str, pd.DataFrame]) -> list[str]:
    """A line for each method with unfinished trials: how many, and the first reason of each status."""
    lines = []
    for name, trials in by_method.items():
        missing = trials[~trials.index.isin(finished(trials).index)]
        if missing.empty:
            continue
        causes: dict[str, str] = {}
        for trial in missing.to_dict("records"):
            status, reason = trial.get("status"), trial.get("reason")
            # a "finished" trial is here because its last accuracy is not a number
            cause = "no accuracy" if status in (None, "finished") else str(status)
            text = " ".join(reason.split())[:160] if isinstance(reason, str) else ""
            causes.setdefault(cause, text)
        causes_text = "; ".join(f"{cause}: {text}" if text else cause for cause, text in causes.items())
        lines.append(f"{name}: {len(missing)} of {len(trials)} trials without a result ({causes_text}).")
    return lines


def _published_notes(table: pd.DataFrame, teacher: tuple[float, str] | None) -> list[str]:
    known = table[table["published_percent"].notna()]
    if known.empty:
        return []
    sources = list(dict.fromkeys(known["published_source"]))
    teacher_text = f" Published teacher: {teacher[0]:.2f} %." if teacher else ""
    note = (
        "Published: not measured here. Best test accuracy over epochs, on the original data and pair, with "
        f"the authors' own teacher and budget.{teacher_text} Source: {'; '.join(sources)}."
    )
    return [note]
