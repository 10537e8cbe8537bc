"""Drives a resumable run to its end: metrics, checkpoints, progress, a clean stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rgal.engine.run import Position, Row
from rgal.suite.measures import measured_text
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.store.folders import Metrics
from rgal.suite.task import Run

REPORT_SECONDS = 0.5
Watch = Callable[[list[Row]], None]


@dataclass(frozen=True)
class ProgressMessage:
    """Where a run stands, for its progress line. measured: its last evaluation, in words."""

    position: Position
    loss: float | None
    measured: str


def unwatched(rows: list[Row]) -> None:
    """Do nothing with the rows: nobody follows the run."""


def _last_measured(rows: list[Row]) -> str:
    return next(filter(None, map(measured_text, reversed(rows))), "")


def drive(
    run: Run,
    folder: Path,
    device: torch.device,
    report: Callable[[ProgressMessage], None],
    stop: Callable[[], bool],
    watch: Watch = unwatched,
) -> bool:
    """Advance a run until it is finished or told to stop, from its last checkpoint if there is one.

    Metric rows that were written after the checkpoint are cut off first; they come anew.

    Args:
        run: what advances.
        folder: where its checkpoint.pt and metrics.jsonl are.
        device: where the tensors of a checkpoint are loaded to.
        report: told where the run stands, twice a second.
        stop: whether to stop, asked after every step.
        watch: told of the rows that are there at first, and of new ones as they come.

    Returns:
        True if it is finished; False if it was stopped, with its state on disk.
    """
    checkpoint, metrics = Checkpoint(folder / "checkpoint.pt"), Metrics(folder / "metrics.jsonl")
    state = checkpoint.load(device)
    if state is not None:
        run.load_state_dict(state["run"])
    metrics.truncate(0 if state is None else int(state["metrics_bytes"]))
    rows = metrics.rows()
    watch(rows)
    measured = _last_measured(rows)
    next_report = time.monotonic()
    while not run.finished:
        rows = run.advance()
        metrics.append(rows)
        watch(rows)
        measured = _last_measured(rows) or measured
        stopping = stop()
        if stopping or checkpoint.due():
            checkpoint.save({"run": run.state_dict(), "metrics_bytes": metrics.size()})
        if stopping and not run.finished:
            return False
        if time.monotonic() >= next_report:
            report(ProgressMessage(run.position(), run.loss(), measured))
            next_report = time.monotonic() + REPORT_SECONDS
    return True
