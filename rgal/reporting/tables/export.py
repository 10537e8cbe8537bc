"""The table of exported models: what is lost between the simulation and the file, how big it is and how fast."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rgal.reporting.results import Row, finished, heading, known, method_rows, numbers, require_one_group
from rgal.reporting.tables.notes import REAL_DATA, remarks, row_names
from rgal.reporting.tables.render import CASE, METHOD, Column, accuracy, count, ratio, seconds
from rgal.reporting.tables.rows import as_table, row_start, titled

# What a trial measured of its exported model; any of these makes it an exported trial. Name here -> name there.
MEASURED = {
    "onnx_top1_percent": "onnx_top1",
    "agreement_percent": "onnx_agreement",
    "integer_layers": "integer_layers",
    "layers": "layers",
    "file_mb": "onnx_mb",
    "float_file_mb": "onnx_float_mb",
    "latency_1_ms": "latency_ms_1",
    "float_latency_1_ms": "float_latency_ms_1",
    "latency_64_ms": "latency_ms_64",
    "float_latency_64_ms": "float_latency_ms_64",
}
# Quotients of two of them, of each trial before the mean.
QUOTIENTS = {
    "file_ratio": ("file_mb", "float_file_mb"),
    "speedup_1": ("float_latency_1_ms", "latency_1_ms"),
    "speedup_64": ("float_latency_64_ms", "latency_64_ms"),
}
RAW_COLUMNS = ("case", "method", "data_free", "exported", "simulated_top1_percent", *MEASURED, *QUOTIENTS)


def _layers(row: Any) -> str:
    """As in "21 of 21"; one decimal where trials differ."""
    if pd.isna(row.integer_layers):
        return ""
    parts = [f"{round(value, 1):g}" for value in (row.integer_layers, row.layers) if not pd.isna(value)]
    return " of ".join(parts)


EXPORT_COLUMNS = (
    CASE,
    METHOD,
    Column("Simulated top-1 (%)", lambda row: accuracy(row.simulated_top1_percent), "Top-1 (%)", "simulated"),
    Column("ONNX top-1 (%)", lambda row: accuracy(row.onnx_top1_percent), "Top-1 (%)", "ONNX"),
    Column("Agreement (%)", lambda row: accuracy(row.agreement_percent), needs="agreement_percent"),
    Column("Integer layers", _layers, needs="integer_layers"),
    Column("File (MB)", lambda row: ratio(row.file_mb, 3), "File", "MB", "file_mb"),
    Column("File / float", lambda row: ratio(row.file_ratio, 3), "File", "/ float", "file_ratio"),
    Column("b1 (ms)", lambda row: seconds(row.latency_1_ms), "Batch 1", "ms", "latency_1_ms"),
    Column("b1 speed-up (×)", lambda row: ratio(row.speedup_1), "Batch 1", "speed-up (×)", "speedup_1"),
    Column("b64 (ms)", lambda row: seconds(row.latency_64_ms), "Batch 64", "ms", "latency_64_ms"),
    Column("b64 speed-up (×)", lambda row: ratio(row.speedup_64), "Batch 64", "speed-up (×)", "speedup_64"),
    Column("n", lambda row: count(row.exported)),
)


def export_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row a (case, method) with exported trials: means over these. Empty where nothing was exported.

    Trials of one (task, setting, budget), else ValueError. Percent, MB, milliseconds; a quotient is the mean of
    the trials' quotients. `attrs` as in `accuracy_table`.
    """
    require_one_group(results)
    every = method_rows(results.reset_index(drop=True))
    rows = {row: exported for row, trials in every.items() if len(exported := _exported(trials))}
    table = as_table([_row(row, trials) for row, trials in rows.items()], RAW_COLUMNS)
    caption = ", ".join(part for part in (heading(results), "exported to ONNX") if part)
    return titled(table, results, caption, _notes(table, rows, every))


def _exported(trials: pd.DataFrame) -> pd.DataFrame:
    done = finished(trials)
    measured = pd.concat([numbers(done, name) for name in MEASURED.values()], axis=1)
    return done[measured.notna().any(axis=1)]


def _row(row: Row, trials: pd.DataFrame) -> dict[str, Any]:
    values = {name: numbers(trials, column) for name, column in MEASURED.items()}
    values["agreement_percent"] = 100 * values["agreement_percent"]
    for name, (above, below) in QUOTIENTS.items():
        values[name] = values[above] / values[below].where(lambda number: number > 0)
    return {
        **row_start(row, trials),
        "exported": len(trials),
        "simulated_top1_percent": numbers(trials, "last").mean(),
        **{name: column.mean() for name, column in values.items()},
    }


def _notes(table: pd.DataFrame, rows: dict[Row, pd.DataFrame], every: dict[Row, pd.DataFrame]) -> list[str]:
    """What the columns mean, what the exporter remarked, and which rows have no exported model."""
    notes = [
        "Means over the n exported trials. Agreement: share of the test images on which the exported model and "
        "the simulation give the same class. Integer layers: those that run as integer kernels in ONNX Runtime."
    ]
    if known(table, "latency_1_ms") or known(table, "latency_64_ms"):
        notes.append(
            "b1, b64: ONNX Runtime, a batch of 1 or 64 images; speed-up: float model over exported model, same "
            "run, above 1 is faster."
        )
    if not table["data_free"].all():
        notes.append(REAL_DATA)
    notes += remarks(rows, "onnx_note", "Export of ")
    missing = [row for row in every if row not in rows]
    return [*notes, f"Not exported: {row_names(missing, every)}."] if missing else notes
