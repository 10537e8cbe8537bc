"""Drives any resumable run to its end: metrics, checkpoints, progress, a clean stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from rgal.engine.run import Position, Row
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.store.folders import Metrics

REPORT_SECONDS = 0.5
Watch = Callable[[list[Row]], None]


class Run(Protocol):
    """Work that advances in small steps and can be stopped between any two of them."""

    @property
    def finished(self) -> bool: ...

    def advance(self) -> list[Row]: ...

    def position(self) -> Position: ...

    def loss(self) -> float | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Report:
    """One look at a run, for its progress line."""

    position: Position
    loss: float | None
    top1: float | None


def unwatched(rows: list[Row]) -> None:
    """Watches a run that nobody follows."""


def drive(
    run: Run,
    folder: Path,
    device: torch.device,
    report: Callable[[Report], None],
    stop: Callable[[], bool],
    watch: Watch = unwatched,
) -> bool:
    """Advance `run` until it is finished (True) or `stop()` says so (False, with its state on disk).

    Metric rows written after the last checkpoint are cut off when the run is taken up again, and come anew. `watch` is
    told of the rows that are left then, and of new ones as they come.
    """
    checkpoint, metrics = Checkpoint(folder / "checkpoint.pt"), Metrics(folder / "metrics.jsonl")
    state = checkpoint.load(device)
    if state is not None:
        run.load_state_dict(state["run"])
    metrics.truncate(0 if state is None else int(state["metrics_bytes"]))
    known = metrics.rows()
    watch(known)
    accuracy = next((row["top1"] for row in reversed(known) if "top1" in row), None)
    next_report = time.monotonic()
    while not run.finished:
        rows = run.advance()
        metrics.append(rows)
        watch(rows)
        accuracy = next((row["top1"] for row in rows if "top1" in row), accuracy)
        stopping = stop()
        if stopping or checkpoint.due():
            checkpoint.save({"run": run.state_dict(), "metrics_bytes": metrics.size()})
        if stopping and not run.finished:
            return False
        if time.monotonic() >= next_report:
            report(Report(run.position(), run.loss(), accuracy))
            next_report = time.monotonic() + REPORT_SECONDS
    return True
