"""The table of class-incremental learning: accuracy over the phases, what was forgotten, and what it cost.

The primary number is the average incremental accuracy (AIA). Published numbers stand in columns of their own.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from rgal.reporting.published import Reference
from rgal.reporting.results import (
    DAGGER,
    Row,
    finished,
    heading,
    known,
    method_rows,
    numbers,
    only,
    require_one_group,
)
from rgal.reporting.statistics import VERSUS_BEST_COLUMNS, versus_best
from rgal.reporting.tables.notes import NO_FINISHED, baseline_notes, published_notes, row_notes
from rgal.reporting.tables.render import (
    CASE,
    METHOD,
    TRIALS,
    Column,
    accuracy,
    cost_columns,
    mean_and_std,
    ratio,
    versus_best_column,
)
from rgal.reporting.tables.rows import (
    COSTS,
    UNPUBLISHED,
    about_published,
    as_table,
    look_up,
    means,
    row_start,
    spread,
    titled,
    trial_counts,
)

# Means over trials: name in the table, with its unit -> column of the results.
MEANS = {
    "old_percent": "old_top1",
    "new_percent": "new_top1",
    **{name: name for name in (*COSTS, "memory_mb")},
    "aia_without_base_percent": "aia_without_base",
    "initial_forgetting_points": "initial_forgetting",
    "bwt_points": "bwt",
    "task_mean_percent": "task_mean",
    "base_top1_percent": "base_top1",
}
# Published metrics: start of the columns -> the metric in the reference's tables.
PUBLISHED = {"published": "aia", "published_last": "last"}
# Columns of the result, in order. Accuracies in percent, differences in points, durations in seconds.
RAW_COLUMNS = (
    "case",
    "method",
    "data_free",
    "aia_mean_percent",
    "aia_std_points",
    "last_mean_percent",
    "last_std_points",
    "forgetting_mean_points",
    "forgetting_std_points",
    "finished",
    "planned",
    *VERSUS_BEST_COLUMNS,
    *MEANS,
    *(f"{name}_{part}" for name in PUBLISHED for part in ("percent", "source")),
)

INCREMENT_COLUMNS = (
    CASE,
    METHOD,
    Column("AIA (%)", lambda row: mean_and_std(row.aia_mean_percent, row.aia_std_points)),
    Column("Last (%)", lambda row: mean_and_std(row.last_mean_percent, row.last_std_points)),
    Column(
        "Forgetting (points)",
        lambda row: mean_and_std(row.forgetting_mean_points, row.forgetting_std_points),
        short="Forgetting",
    ),
    Column("Old (%)", lambda row: accuracy(row.old_percent), "Last phase (%)", "old"),
    Column("New (%)", lambda row: accuracy(row.new_percent), "Last phase (%)", "new"),
    TRIALS,
    versus_best_column("AIA"),
    *cost_columns("Learning"),
    Column("Kept (MB)", lambda row: ratio(row.memory_mb, 3), needs="memory_mb"),
    Column(
        "Published (%)", lambda row: accuracy(row.published_percent), "Published (%)", "AIA",
        needs="published_percent",
    ),
    Column(
        "Published last (%)", lambda row: accuracy(row.published_last_percent), "Published (%)", "last",
        needs="published_last_percent",
    ),
)  # fmt: skip

MEANING = (
    "AIA: average incremental accuracy, the mean over all phases, the base included, of the top-1 on all classes "
    "seen so far. Last: top-1 on all classes after the last phase; old and new: on the classes of earlier phases "
    "and of the last one. Forgetting: what an earlier phase's classes reached at best before the last phase, minus "
    "what they reach after it, mean over these phases.",
    "Mean ± sample standard deviation over the n finished trials; other columns: means over the same trials.",
)
KEPT = "Kept: what stays between phases beside the model."
REAL_IMAGES = f"{DAGGER} Trained on the real images of earlier classes too: a reference, not exemplar-free."


def measures_increments(results: pd.DataFrame) -> bool:
    """Whether a finished trial of these has an average incremental accuracy."""
    return bool(numbers(finished(results), "aia").notna().any())


def increment_table(results: pd.DataFrame, reference: Reference | None = None) -> pd.DataFrame:
    """One row a (case, method) of one (task, setting, budget); ValueError when there are several of these.

    Order, spread, unknown numbers and `attrs` are those of `accuracy_table`. A published number belongs to the
    metric and the protocol, "aia" and "50+5x10" say: a base phase of 50 classes, then 5 phases of 10.
    """
    require_one_group(results)
    results = results.reset_index(drop=True)
    rows = method_rows(results)
    protocol = only(results, "protocol")  # a method without a finished trial knows none of its own
    versus = versus_best(rows, "aia")
    entries = [_row(row, trials, protocol, reference) | versus[row] for row, trials in rows.items()]
    table = as_table(entries, RAW_COLUMNS)
    notes = [
        *_meaning(table, protocol),
        *baseline_notes(table, "AIA"),
        *row_notes(table, rows, REAL_IMAGES),
        *published_notes(table, rows, about_published(reference, results)),
    ]
    return titled(table, results, heading(results) or "Results", notes)


def _row(row: Row, trials: pd.DataFrame, protocol: str, reference: Reference | None) -> dict[str, Any]:
    done = finished(trials)
    entry = {
        **row_start(row, trials),
        **spread("aia", numbers(done, "aia")),
        **spread("last", numbers(done, "last")),
        **spread("forgetting", numbers(done, "forgetting"), "points"),
        **trial_counts(trials),
        **means(done, MEANS),
    }
    for name, metric in PUBLISHED.items():
        found = look_up(reference, trials, (metric, protocol), row) or UNPUBLISHED
        entry[f"{name}_percent"], entry[f"{name}_source"] = found
    return entry


def _meaning(table: pd.DataFrame, protocol: str) -> list[str]:
    """What the protocol and the columns are."""
    if not table["finished"].sum():
        return [NO_FINISHED]
    notes = [*MEANING, KEPT] if known(table, "memory_mb") else [*MEANING]
    if parts := re.fullmatch(r"(\d+)\+(\d+)x(\d+)", protocol):
        base, phases, step = parts.groups()
        notes.insert(
            0, f"Protocol {protocol}: {base} classes in the base phase, then {phases} phases of {step}."
        )
    return notes
