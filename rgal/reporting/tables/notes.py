"""The lines under a table: what its columns mean, which rows a remark concerns, what has no result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from rgal.reporting.results import DAGGER, Row, case_label, finished, known, numbers, only
from rgal.reporting.statistics import BASELINE, VERSUS_BEST, difference_columns

NO_FINISHED = "No finished trials."
REAL_DATA = f"{DAGGER} Trained on real data: a reference, not data-free."
# Columns of published numbers -> those of their sources.
PUBLISHED = {"published_percent": "published_source", "published_last_percent": "published_last_source"}
Trials = Mapping[Row, pd.DataFrame]


def accuracy_notes(table: pd.DataFrame, rows: Trials, about: str, teacher: float | None) -> list[str]:
    """All notes of an accuracy table. `about` and `teacher` (%) belong to its published numbers."""
    return [
        *_meaning(rows),
        *baseline_notes(table, "top-1"),
        *row_notes(table, rows, REAL_DATA, _size_notes(table)),
        *published_notes(
            table, rows, about, "" if teacher is None else f"Published teacher: {teacher:.2f} %."
        ),
    ]


def baseline_notes(table: pd.DataFrame, metric: str) -> list[str]:
    """What the difference to the strongest baseline is, and which that is; nothing where none is printed."""
    mean, *_, seeds = difference_columns(VERSUS_BEST)
    if not known(table, mean):
        return []
    by_name: dict[str, list[str]] = {}
    cases = table["case"] if "case" in table.columns else [""] * len(table)
    for case, name in dict.fromkeys(zip(cases, table[BASELINE], strict=True)):
        if name:
            by_name.setdefault(name, []).append(case_label(case) or "without a case")
    names = [name if len(by_name) == 1 else f"{', '.join(at)}: {name}" for name, at in by_name.items()]
    meaning = (
        f"vs best baseline: mean difference to the data-free method without RGAL that has the highest mean {metric} "
        f"({'; '.join(names)}), over the seeds that both have finished, with its 95 % bootstrap interval; bold where "
        "that excludes zero."
    )
    return [meaning, *interval_notes(table[seeds])]


# Measured on pairs of equal methods with normal differences; tests/reporting/test_statistics.py measures it again.
FEW = 10
FEW_SEEDS = (
    "Bootstrap intervals over few seeds are too narrow: of two equally good methods every second pair gets one without "
    "zero at 2 shared seeds, every fourth at 3, every sixth at 5."
)


def interval_notes(seeds: pd.Series[float]) -> list[str]:
    """A warning where an interval rests on few shared seeds, and what a difference without one is."""
    notes = [FEW_SEEDS] if seeds.between(2, FEW - 1).any() else []
    return [*notes, "A difference without an interval has one shared seed."] if (seeds == 1).any() else notes


def row_notes(table: pd.DataFrame, rows: Trials, dagger: str, on_columns: Sequence[str] = ()) -> list[str]:
    """What concerns some rows: the dagger, notes on columns, remarks of trials, and trials without a result."""
    return [
        *([] if table["data_free"].all() else [dagger]),
        *on_columns,
        *remarks(rows, "image_note", "Images of "),
        *remarks(rows, "layer_note"),
        *remarks(rows, "pool_note"),
        *_unfinished_notes(rows),
    ]


def remarks(rows: Trials, column: str, before: str = "") -> list[str]:
    """Each distinct remark that finished trials made in `column` once, behind the rows it concerns."""
    concerned: dict[str, list[Row]] = {}
    for row, trials in rows.items():
        if column not in trials.columns:
            continue
        found = finished(trials)[column].dropna()
        for remark in sorted({" ".join(str(text).split()) for text in found} - {""}):
            concerned.setdefault(remark, []).append(row)
    return [f"{before}{row_names(found, rows)}: {remark.rstrip('.')}." for remark, found in concerned.items()]


def row_names(rows: Collection[Row], every: Collection[Row]) -> str:
    """Some of a table's rows, briefly: "cmi, rgal" where each is meant in all its cases, else with the cases.

    Cases with the same methods share their names: "W4A4, W5A5 (gdfq, rgal)"; all of a case's methods are "all".
    """
    names = list(dict.fromkeys(method for _, method in rows))
    if set(rows) == {(case, method) for case, method in every if method in names}:
        return ", ".join(names)
    by_methods: dict[str, list[str]] = {}
    for case in dict.fromkeys(case for case, _ in rows):
        mine, all_of_it = ([method for at, method in some if at == case] for some in (rows, every))
        text = "all" if set(mine) == set(all_of_it) else ", ".join(mine)
        by_methods.setdefault(text, []).append(case_label(case) or "without a case")
    return "; ".join(f"{', '.join(found)} ({methods})" for methods, found in by_methods.items())


def _meaning(rows: Trials) -> list[str]:
    """What top-1 and drop are, and what the teacher reaches."""
    done = [finished(trials) for trials in rows.values()]
    if not sum(map(len, done)):
        return [NO_FINISHED]
    meaning = (
        "Top-1: test accuracy at the last evaluation, not the best; mean ± sample standard deviation "
        "over the n finished trials. Drop: teacher minus student. Other columns: means over the same trials."
    )
    top1 = pd.concat([numbers(trials, "teacher_top1") for trials in done]).dropna()
    if top1.empty:
        return [meaning]
    # the teacher may be trained anew for each seed; its accuracy is then a range
    bounds = dict.fromkeys((f"{top1.min():.2f}", f"{top1.max():.2f}"))
    return [meaning, f"Teacher: {' to '.join(bounds)} % top-1."]


def _size_notes(table: pd.DataFrame) -> list[str]:
    notes = []
    if known(table, "model_mb"):
        sizes = numbers(table, "float_mb").dropna()
        bounds = dict.fromkeys(f"{size:.3f}" for size in (sizes.min(), sizes.max())) if len(sizes) else ()
        against = f"; the float model has {' to '.join(bounds)} MB" if bounds else ""
        notes.append(f"Model: weights packed at their bit width{against}.")
    if known(table, "latency_ratio"):
        notes.append(
            "Latency ratio: ONNX Runtime, batch 64, exported model over float model, same run; below 1 is "
            "faster. Mean over the exported trials."
        )
    return notes


def _unfinished_notes(rows: Trials) -> list[str]:
    """How many trials of a row have no result, and the first reason of each status; equal lines are one."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (case, method), trials in rows.items():
        missing = trials[~trials.index.isin(finished(trials).index)]
        if len(missing):
            line = (method, f"{len(missing)} of {len(trials)} trials", _causes(missing))
            lines.setdefault(line, []).append(case_label(case))
    notes = []
    for (method, trials_text, causes), cases in lines.items():
        where = f" at {', '.join(cases)}" if any(cases) else ""
        each = " each" if len(cases) > 1 else ""
        notes.append(f"{method}{where}: {trials_text}{each} without a result ({causes}).")
    return notes


def _causes(missing: pd.DataFrame) -> str:
    causes: dict[str, str] = {}
    for trial in missing.to_dict("records"):
        status, reason = trial.get("status"), trial.get("reason")
        # a "finished" trial is here because its last accuracy is not a number
        cause = "no accuracy" if status in (None, "finished") else str(status)
        text = " ".join(reason.split())[:160] if isinstance(reason, str) else ""
        causes.setdefault(cause, text)
    return "; ".join(f"{cause}: {text}" if text else cause for cause, text in causes.items())


def published_notes(table: pd.DataFrame, rows: Trials, about: str, more: str = "") -> list[str]:
    """Where the published numbers of the table come from, and how ours differ; nothing where it has none."""
    columns = [name for name in PUBLISHED if known(table, name)]
    if not columns:
        return []
    found = [source for name in columns for source in table.loc[table[name].notna(), PUBLISHED[name]]]
    source = f"Source: {'; '.join(dict.fromkeys(found))}."
    parts = ("Published: not measured here.", about, more, source, _measured(rows))
    return [" ".join(part for part in parts if part)]


def _measured(rows: Trials) -> str:
    """What the numbers beside the published ones are; nothing where none is finished."""
    done = [trials for trials in map(finished, rows.values()) if len(trials)]
    if not done:
        return ""
    encodings = {only(trials, "encoding") for trials in done} - {""}
    stored = f", on images that are stored as {' and '.join(sorted(encodings))}" if encodings else ""
    return f"Measured beside it: the last evaluation, at the steps in the table{stored}."
