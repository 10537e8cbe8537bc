"""The field's usual table: methods down, settings across, such as the pairs of teacher and student of one data set."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from rgal.core.files import slug
from rgal.reporting.results import file_stems, finished, groups, method_rows, numbers, only
from rgal.reporting.tables.notes import REAL_DATA
from rgal.reporting.tables.render import CASE, METHOD, Column, mean_and_std
from rgal.reporting.tables.rows import as_table, row_start, spread, titled

ACROSS = ("task", "dataset", "budget")


def overviews(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """File stem -> the rows of one (task, dataset, budget) that has several settings, in the order of the stems."""
    if results.empty or not {*ACROSS, "setting"} <= set(results.columns):
        return {}
    parts = {tuple(map(str, key)): rows for key, rows in results.groupby(list(ACROSS), dropna=True)}
    several = {key: rows for key, rows in parts.items() if rows["setting"].nunique() > 1}
    stems = file_stems(several)
    return {f"overview_{stems[key]}": several[key] for key in sorted(several, key=stems.__getitem__)}


def settings_of(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Setting without its data set -> its rows."""
    dataset = only(results, "dataset")
    found = {only(rows, "setting"): rows for rows in groups(results).values()}
    return {setting.removeprefix(f"{dataset} "): rows for setting, rows in found.items()}


def overview_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row a (case, method) of one (task, dataset, budget), with columns of every setting. `attrs` as in
    `accuracy_table`. Numbers are the last evaluation's; of phases, after the last one."""
    results = results.reset_index(drop=True)
    parts = {prefix: method_rows(rows) for prefix, (_, rows) in _prefixes(results).items()}
    entries = []
    for row, trials in method_rows(results).items():
        entry: dict[str, Any] = row_start(row, trials)
        for prefix, rows in parts.items():
            done = finished(rows[row]) if row in rows else results.iloc[:0]
            entry |= spread(prefix, numbers(done, "last")) | {f"{prefix}_finished": len(done)}
        entries.append(entry)
    ends = ("_mean_percent", "_std_points", "_finished")
    columns = ["case", "method", "data_free", *(prefix + end for prefix in parts for end in ends)]
    task, dataset, budget = (only(results, name) for name in ACROSS)
    table = as_table(entries, columns)
    return titled(table, results, f"{task}, {dataset}: all settings, budget {budget}", _notes(table, parts))


def _notes(table: pd.DataFrame, parts: dict[str, Any]) -> list[str]:
    counts = sorted({int(n) for prefix in parts for n in table[f"{prefix}_finished"] if n})
    trials = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    meaning = (
        "Top-1 (%): last evaluation, not the best; mean ± sample standard deviation over "
        f"{trials} finished trials of each. Budgets and differences are in the settings' own tables."
    )
    return [meaning] if table["data_free"].all() else [meaning, REAL_DATA]


def overview_columns(results: pd.DataFrame) -> tuple[Column, ...]:
    """The printed columns of `overview_table`."""
    titles = {prefix: name for prefix, (name, _) in _prefixes(results).items()}
    return (CASE, METHOD, *(Column(name, _spread_of(prefix)) for prefix, name in titles.items()))


def _spread_of(prefix: str) -> Callable[[Any], str]:
    mean, std = f"{prefix}_mean_percent", f"{prefix}_std_points"
    return lambda row: mean_and_std(getattr(row, mean), getattr(row, std))


def _prefixes(results: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """A word for each setting, with which its columns begin -> the setting and its rows."""
    found = settings_of(results)
    stems = file_stems([(name,) for name in found])
    words = {name: re.sub(r"\W", "_", slug(stems[name,])) for name in found}
    return {f"at_{words[name]}": (name.replace("->", "→"), rows) for name, rows in found.items()}
