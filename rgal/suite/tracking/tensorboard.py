"""Event files for TensorBoard: `tensorboard --logdir results/tensorboard` shows one run a trial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rgal.engine.options import Row
from rgal.suite.tracking.scalars import Scalars, seconds
from rgal.suite.tracking.tracker import Tracked, Watch

FLUSH_SECONDS = 10


class _Events:
    """Writes rows. Times are those that training took, so that a run that was stopped shows no gap."""

    def __init__(self, writer: Any) -> None:
        self.writer, self.began, self.scalars = writer, 0.0, Scalars()

    def __call__(self, rows: list[Row]) -> None:
        if not self.began:
            self.began = time.time() - (seconds(rows[-1]) if rows else 0.0)
        for row in rows:
            for tag, value, step in self.scalars.of(row):
                self.writer.add_scalar(tag, value, step, self.began + seconds(row))


@contextmanager
def event_files(trial: Tracked) -> Iterator[Watch]:
    """Write rows to RESULTS/tensorboard/NAME, in place of the events that were there."""
    from torch.utils.tensorboard import SummaryWriter

    folder = trial.root / "tensorboard" / trial.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS) as writer:
        yield _Events(writer)
