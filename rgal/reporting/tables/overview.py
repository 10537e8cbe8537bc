"""The field's usual table: methods down, settings across, such as the pairs of teacher and student of one data set."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd

from rgal.core.files import slug
from rgal.reporting.results import MethodTrials, ResultGroup, Row, groups, only
from rgal.reporting.stems import file_stems
from rgal.reporting.tables.column import Column, case_column, method_column, spread_column
from rgal.reporting.tables.notes import image_notes, mark_notes
from rgal.reporting.tables.table import Table
from rgal.suite.measures import TOP1, Measure

ACROSS = ("task", "dataset", "budget")


def overviews(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Map file stems, in order, to the rows of one (task, dataset, budget) that has several settings."""
    if results.empty or not {*ACROSS, "setting"} <= set(results.columns):
        return {}
    parts = {tuple(map(str, key)): rows for key, rows in results.groupby(list(ACROSS), dropna=True)}
    several = {key: rows for key, rows in parts.items() if rows["setting"].nunique() > 1}
    stems = file_stems(several)
    return {f"overview_{stems[key]}": several[key] for key in sorted(several, key=stems.__getitem__)}


def settings_of(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Map each setting, without its data set, to its rows."""
    dataset = only(results, "dataset")
    settings = {only(rows, "setting"): rows for rows in groups(results).values()}
    return {setting.removeprefix(f"{dataset} "): rows for setting, rows in settings.items()}


def overview_table(results: pd.DataFrame) -> Table:
    """Make the table with one row per (case, method) of one (task, dataset, budget), with a column of every setting:
    the accuracy of the last evaluation; of phases, after the last one.
    """
    group = ResultGroup(results, same=ACROSS)
    settings = settings_of(results)
    stems = file_stems([(name,) for name in settings])
    columns = [case_column(group), method_column(group)]
    for name, rows in settings.items():
        word = re.sub(r"\W", "_", slug(stems[name,]))
        columns += _columns(name.replace("->", "→"), f"at_{word}", ResultGroup(rows), group)
    task, dataset, budget = (only(results, name) for name in ACROSS)
    counts = sorted(
        {len(row.finished) for rows in settings.values() for row in ResultGroup(rows).rows.values()} - {0}
    )
    trials = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    primary = _primary(group)
    meaning = (
        f"{primary.title}: last evaluation, not the best; mean ± sample standard deviation over "
        f"{trials} finished trials of each. Budgets and differences are in the settings' own tables."
    )
    rows_of_all = list(group.rows.values())
    return Table(
        f"{task}, {dataset}: all settings, budget {budget}",
        rows_of_all,
        columns,
        [meaning, *mark_notes(group, rows_of_all), *image_notes(group)],
    )


def _primary(group: ResultGroup) -> Measure:
    """Top-1 as every task has it; without test images, the task's first measure."""
    return group.measures[0] if group.untested else TOP1


def _columns(heading: str, prefix: str, part: ResultGroup, group: ResultGroup) -> list[Column]:
    """Return columns of the accuracy in one setting, and in the CSV the number of its finished trials."""
    of: dict[Row, MethodTrials] = {
        row: part.rows.get(row, MethodTrials(*row, group.results.iloc[:0])) for row in group.rows
    }
    return [
        spread_column(replace(_primary(group), name=prefix), heading, of=of),
        Column("", (f"{prefix}_finished",), lambda row: (len(of[row.row].finished),)),
    ]
