"""Event files for TensorBoard, from the rows of metrics.jsonl. They repeat these and can be deleted at any time.

`tensorboard --logdir results/tensorboard` shows one run a trial. The package is optional: the extra `tensorboard`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError
from rgal.engine.options import Row
from rgal.suite.running.drive import Watch

FLUSH_SECONDS = 10
COSTS = ("images", "synthesis_seconds", "student_seconds")
LEFT_OUT = ("synthesis_cpu_seconds", "student_cpu_seconds")
COUNTERS = ("round", "phase", "synthesis_steps", "student_steps")  # where a row stands, not what it measured


def check_tensorboard() -> None:
    """UserError unless event files can be written."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--tensorboard: needs the package tensorboard ({error}); pip install 'tensorboard>=2.17'"
        ) from error


def scalars(row: Row) -> list[tuple[str, float, int]]:
    """(tag, value, step) of what a row measured, tags under the row's kind.

    Steps are those of that kind: evaluations stand at the student's, or where it takes none at their rounds.
    """
    kind = row["kind"]
    step = row["synthesis_steps"] if kind == "synthesis" else row.get("student_steps") or row.get("round", 0)
    values = {
        k: v
        for k, v in row.items()
        if isinstance(v, (int, float)) and k not in (*COSTS, *COUNTERS, *LEFT_OUT)
    }
    return [(f"{kind}/{name}", float(value), step) for name, value in values.items()]


def costs(row: Row) -> list[tuple[str, float, int]]:
    """(tag, value, step) of what was spent by then, at the steps of both kinds together."""
    step = row.get("synthesis_steps", 0) + row.get("student_steps", 0)
    return [(f"cost/{name}", float(row[name]), step) for name in COSTS if name in row]


class _Events:
    """Writes rows. Times are those that training took, so that a run that was stopped shows no gap."""

    def __init__(self, writer: Any) -> None:
        self.writer, self.began, self.spent = writer, 0.0, -1

    def __call__(self, rows: list[Row]) -> None:
        if not self.began:
            self.began = time.time() - (_seconds(rows[-1]) if rows else 0.0)
        for row in rows:
            measured, spent = scalars(row), costs(row)
            if spent and spent[0][2] != self.spent:  # rows of one moment repeat their costs
                self.spent = spent[0][2]
                measured += spent
            for tag, value, step in measured:
                self.writer.add_scalar(tag, value, step, self.began + _seconds(row))


@contextmanager
def event_files(root: Path, name: str) -> Iterator[Watch]:
    """Takes metric rows and writes them to `root`/tensorboard/`name`, in place of the events that were there."""
    from torch.utils.tensorboard import SummaryWriter

    folder = root / "tensorboard" / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS) as writer:
        yield _Events(writer)


def _seconds(row: Row) -> float:
    return float(row.get("synthesis_seconds", 0.0)) + float(row.get("student_seconds", 0.0))
