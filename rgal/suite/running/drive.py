"""Drives a resumable run to its end: metrics, checkpoints, progress, a clean stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rgal.engine.options import Position, Row
from rgal.suite.measures import measured_text
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.store.folders import CHECKPOINT, Metrics
from rgal.suite.task import Run

REPORT_SECONDS = 0.5
Watch = Callable[[list[Row]], None]


CONTEXT = 600 * 2**20  # bytes that a process takes on a GPU beside torch's own: the driver's context, kernels


@dataclass(frozen=True)
class Memory:
    """Memory of a GPU, in bytes: the most that a run has needed of it so far, and what there is."""

    needed: int
    total: int


@dataclass(frozen=True)
class ProgressMessage:
    """Where a run stands, for its progress line. measured: its last evaluation, in words. memory: of its GPU, once it
    has been through steps of each kind and an evaluation.
    """

    position: Position
    loss: float | None
    measured: str
    memory: Memory | None = None


def _memory(device: torch.device) -> Memory | None:
    if device.type != "cuda":
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    return Memory(torch.cuda.max_memory_reserved(device) + CONTEXT, total)


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

    Metric rows that were written after the checkpoint are cut off first; they come anew. The state of a finished run
    is left too: its pictures are still to come.

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
    checkpoint, metrics = Checkpoint(folder / CHECKPOINT), Metrics(folder / "metrics.jsonl")
    state = checkpoint.load(device)
    if state is not None:
        run.load_state_dict(state["run"])
    metrics.truncate(0 if state is None else int(state["metrics_bytes"]))
    rows = metrics.rows()
    watch(rows)
    measured, evaluated = _last_measured(rows), False
    next_report = time.monotonic()
    while not run.finished:
        rows = run.advance()
        metrics.append(rows)
        watch(rows)
        if now := _last_measured(rows):
            measured, evaluated = now, True
        stopping = stop()
        if stopping or run.finished or checkpoint.due():
            checkpoint.save({"run": run.state_dict(), "metrics_bytes": metrics.size()})
        if stopping and not run.finished:
            return False
        if time.monotonic() >= next_report:
            memory = _memory(device) if evaluated else None
            report(ProgressMessage(run.position(), run.loss(), measured, memory))
            next_report = time.monotonic() + REPORT_SECONDS
    return True
