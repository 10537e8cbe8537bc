"""The lines under a table: what its columns mean, which rows a remark concerns, what has no result."""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from rgal.reporting.published import Reference
from rgal.reporting.results import DAGGER, DOUBLE_DAGGER, MethodTrials, ResultGroup, Row, case_label, only
from rgal.reporting.statistics import LEAST_BOLD, Comparison
from rgal.reporting.tables.column import Column, count, fixed, spread
from rgal.reporting.verdict import binomial_error, images_tested, teachers_of
from rgal.suite.measures import TEACHER, TOP1, Measure

UNTESTED = (
    "What these numbers can tell: no labelled test image was there, so nobody knows how often the teacher or a student "
    "is right. Agreement says how well a student copies its teacher on the images it is measured on: a low one shows a "
    "student that failed. What they cannot tell: a high one does not show that a student is good. It repeats its "
    "teacher's mistakes, and synthesised images are surer and less varied than real ones: on real images the two may "
    "agree less often, and small differences between students may turn round. A few real images without labels "
    "(--calibration DIR) come closer to what matters; how often a student is right only labelled ones can tell."
)
NO_FINISHED = "No finished trials."
SPREAD = (
    "Mean ± sample standard deviation over the n finished trials; other columns: means over the same trials."
)


def measure_notes(group: ResultGroup) -> list[str]:
    """Say what the protocol and the columns of the table of results are."""
    if not len(group.finished):
        return [NO_FINISHED]
    protocol = only(group.results, "protocol")
    notes = []
    if parts := re.fullmatch(r"(\d+)\+(\d+)x(\d+)", protocol):
        base, phases, step = parts.groups()
        notes.append(
            f"Protocol {protocol}: {base} classes in the base phase, then {phases} phases of {step}."
        )
    measures = [measure for measure in group.measures if measure.place or not measure.tables]
    rows = list(group.rows.values())
    teachers, error = teacher_note(rows), images_note(rows, measures[0])
    if teachers:
        measures = [measure for measure in measures if measure is not TEACHER]
    limits = UNTESTED if group.untested else ""
    return [note for note in (*notes, *_meanings(measures, rows, SPREAD), teachers, error, limits) if note]


def image_notes(group: ResultGroup) -> list[str]:
    """Say what images the networks take and who says how they are normalised, below every table."""
    if "domain_note" not in group.results.columns:
        return []
    texts = sorted(set(map(str, group.results["domain_note"].dropna())) - {""})
    return [f"{text[:1].upper()}{text[1:]}." for text in texts]


def teacher_note(rows: Sequence[MethodTrials]) -> str:
    """How many teachers stand behind n, and how good they are; "" where it is unknown."""
    accuracies = list(teachers_of(rows).values())
    if not accuracies:
        return ""
    std = float(pd.Series(accuracies).std(ddof=1))
    if len(accuracies) == 1:
        return f"1 teacher: {fixed(accuracies[0])} % top-1. Spreads and intervals leave out what another would change."
    return (
        f"{len(accuracies)} teachers: {spread(statistics.mean(accuracies), std)} % top-1. A seed includes its teacher, "
        "which all methods of the seed share."
    )


def images_note(rows: Sequence[MethodTrials], measure: Measure) -> str:
    """How far an accuracy may be from that of the whole population, whatever the seeds say; "" where it is unknown."""
    images, means = images_tested(rows), [row.measured(measure).mean() for row in rows if len(row.finished)]
    if not images or not means or measure is not TOP1:
        return ""
    middle = float(pd.Series(means).median())
    return (
        f"Test set: {count(images)} images, the same for all; at {fixed(middle)} % its choice alone has a binomial "
        f"standard error of {fixed(binomial_error(middle, images))} points, which no spread or interval here contains."
    )


def _meanings(measures: Iterable[Measure], rows: Iterable[MethodTrials], last: str = "") -> list[str]:
    """Return the notes of measures: plain ones on a line that ends with `last`, then those of what is known, a line
    each.
    """
    plain, of_known = [], []
    for measure in measures:
        values = pd.Series([value for row in rows for value in row.measured(measure).dropna()], dtype=float)
        if not measure.note or (len(values) == 0 and (measure.optional or "{}" in measure.note)):
            continue
        if measure.optional or "{}" in measure.note:
            # a teacher may be trained anew for each seed, and so on: the value is then a range
            ends = dict.fromkeys(
                fixed(value, measure.decimals or 0) for value in (values.min(), values.max())
            )
            of_known.append(measure.note.replace("{}", " to ".join(ends)))
        else:
            plain.append(measure.note)
    return list(dict.fromkeys([" ".join(filter(None, [*plain, last])), *of_known]))


def table_notes(group: ResultGroup, rows: Collection[MethodTrials], table: str, last: str = "") -> list[str]:
    """Return the notes of the measures in another table than that of results."""
    return [note for note in _meanings(group.in_table(table), rows, last) if note]


def versus_notes(compared: Mapping[Row, Comparison], measure: Measure, count: int) -> list[str]:
    """Say what the difference to the strongest baseline is, and which that is; nothing where none is printed."""
    if not any(comparison.difference.seeds > 0 for comparison in compared.values()):
        return []
    by_name: dict[str, list[str]] = {}
    for case, name in dict.fromkeys((case, compared[case, method].baseline) for case, method in compared):
        if name:
            by_name.setdefault(name, []).append(case_label(case) or "without a case")
    names = [name if len(by_name) == 1 else f"{', '.join(at)}: {name}" for name, at in by_name.items()]
    best = "lowest" if measure.better == "lower" else "highest"
    return [
        f"vs best baseline: mean difference to the data-free method without RGAL that has the {best} mean "
        f"{measure.word} ({'; '.join(names)}), over the seeds that both have finished. "
        f"{statistics_note(count)}"
    ]


def statistics_note(count: int) -> str:
    """Say what brackets and bold cells of differences mean; count: comparisons that p-values are corrected for."""
    return (
        f"In brackets: its 95 % t interval, from 3 shared seeds (n) on; bold: p < 0.05 in a paired t test from "
        f"{LEAST_BOLD} shared seeds on, after Holm's correction for {count} possible comparison{'s'[: count != 1]}."
    )


def row_notes(group: ResultGroup) -> list[str]:
    """Say what concerns some rows: marks, remarks of trials, and trials without a result."""
    return [
        *mark_notes(group, group.rows.values()),
        *remarks(group.rows, "image_note", "Images of "),
        *remarks(group.rows, "layer_note"),
        *remarks(group.rows, "pool_note"),
        *remarks(group.rows, "calibration_note"),
        *remarks(group.rows, "judged_note"),
        *_unfinished_notes(group.rows),
    ]


def mark_notes(group: ResultGroup, rows: Iterable[MethodTrials]) -> list[str]:
    """Say what a dagger and a double dagger behind a method mean; nothing where no row has one."""
    rows = list(rows)
    prints = dict.fromkeys(part for row in rows for part in group.mixed(row).split(", ") if part)
    return [
        *([group.real_data] if any(not row.data_free and not row.given for row in rows) else []),
        *([f"{DAGGER} Given images alone: a reference."] if any(row.given for row in rows) else []),
        *(
            [
                f"{DOUBLE_DAGGER} made by different versions of the code: {', '.join(prints)}; run again with --fresh."
            ]
            if prints
            else []
        ),
    ]


def remarks(rows: Mapping[Row, MethodTrials], column: str, before: str = "") -> list[str]:
    """List each distinct remark that finished trials made in `column` once, behind the rows it concerns."""
    concerned: dict[str, list[Row]] = {}
    for row, trials in rows.items():
        if column not in trials.finished.columns:
            continue
        texts = trials.finished[column].dropna()
        for remark in sorted({" ".join(str(text).split()) for text in texts} - {""}):
            concerned.setdefault(remark, []).append(row)
    return [f"{before}{row_names(some, rows)}: {remark.rstrip('.')}." for remark, some in concerned.items()]


def row_names(rows: Collection[Row], every: Collection[Row]) -> str:
    """Name some of a table's rows, briefly: "cmi, rgal" where each is meant in all its cases, else with the cases.

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
    return "; ".join(f"{', '.join(some_cases)} ({methods})" for methods, some_cases in by_methods.items())


def _unfinished_notes(rows: Mapping[Row, MethodTrials]) -> list[str]:
    """Say how many trials of a row have no result, and the first reason of each status; equal lines are one."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (case, method), row in rows.items():
        missing = row.trials[~row.trials.index.isin(row.finished.index)]
        if len(missing):
            line = (method, f"{len(missing)} of {len(row.trials)} trials", _causes(missing))
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


def published_notes(
    group: ResultGroup, columns: Sequence[Column], reference: Reference, reproduced: str
) -> list[str]:
    """Say where the published numbers of the table come from, and how ours differ; nothing where it has none."""
    numbers = [column.values(row) for column in columns for row in group.rows.values()]
    sources = dict.fromkeys(source for percent, source in numbers if not pd.isna(percent))
    if not sources:
        return []
    parts = (
        "Published: not measured here.",
        reference.about.get(only(group.results, "task"), ""),
        f"Source: {'; '.join(sources)}.",
        reproduced,
        _measured(group),
    )
    return [" ".join(part for part in parts if part)]


def _measured(group: ResultGroup) -> str:
    """Return what the numbers beside the published ones are; nothing where none is finished."""
    done = [row.finished for row in group.rows.values() if len(row.finished)]
    if not done:
        return ""
    encodings = {only(trials, "encoding") for trials in done} - {""}
    stored = f", on images that are stored as {' and '.join(sorted(encodings))}" if encodings else ""
    return f"Measured beside it: the last evaluation, at the steps in the table{stored}."
