"""The table of exported models: what is lost between the simulation and the file, how big it is and how fast."""

from __future__ import annotations

from rgal.reporting.results import ResultGroup
from rgal.reporting.tables.column import Column, case_column, fixed, mean_column, method_column
from rgal.reporting.tables.notes import mark_notes, remarks, row_names, table_notes
from rgal.reporting.tables.table import Table

SIMULATED = Column(
    "Simulated top-1 (%)", ("simulated_top1_percent",), lambda row: (row.numbers("last").mean(),), fixed,
    group="Top-1 (%)", short="simulated",
)  # fmt: skip


def export_table(group: ResultGroup) -> Table:
    """Make the table with one row per (case, method) with exported trials: means over these. Empty where nothing was
    exported.

    Percent, MB, milliseconds; a quotient is the mean of the trials' quotients.
    """
    measures = group.in_table("export")
    exported = {row: trials.with_any(m.key for m in measures) for row, trials in group.rows.items()}
    rows = {row: trials for row, trials in exported.items() if trials is not None}
    columns = [
        case_column(group),
        method_column(group),
        *([] if group.untested else [SIMULATED]),
        *map(mean_column, measures),
        Column("n", ("exported",), lambda row: (len(row.trials),)),
    ]  # fmt: skip
    missing = [row for row in group.rows if row not in rows]
    notes = [
        "Means over the n exported trials.",
        *table_notes(group, rows.values(), "export"),
        *mark_notes(group, rows.values()),
        *remarks(rows, "onnx_note", "Export of "),
        *([f"Not exported: {row_names(missing, group.rows)}."] if missing else []),
    ]
    return Table(
        group.caption("exported to ONNX"),
        list(rows.values()),
        columns,
        notes,
        "_export",
        brief=columns,
        remarks=notes,
    )
