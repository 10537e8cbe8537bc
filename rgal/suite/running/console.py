"""What a person sees while a suite runs: one line a running trial, one line for each that ended."""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

from tqdm import tqdm

from rgal.suite.running.drive import ProgressMessage
from rgal.suite.running.jobs import HeldOutJob, Outcome, TeacherJob, WorkJob
from rgal.suite.running.teacher_check import weakness
from rgal.suite.task import tasks

QUIET_SECONDS = 60.0  # between two lines where nobody watches


def clock(seconds: float) -> str:
    """Write a duration as a clock does.

    >>> clock(35), clock(3725)
    ('0:35', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def line(title: str, message: ProgressMessage) -> str:
    """Write where a run stands: `cmi seed 0 | 41 %, 0:35 left | round 3/20 student | loss 1.23 | top-1 88.20 %`.

    What a narrow terminal cuts off stands last.
    """
    return f"{title} | {standing(message)}"


def standing(message: ProgressMessage) -> str:
    """Write the same without a title."""
    at = message.position
    left = f"{'at least ' if at.at_least else ''}{clock(at.remaining_seconds)} left"
    parts = [f"{100 * at.done:.0f} %, {left}", f"{at.unit} {at.at}/{at.of} {at.mode}"]
    if message.loss is not None:
        parts.append(f"loss {message.loss:.3g}")
    if message.measured:
        parts.append(message.measured)
    return " | ".join(parts)


class Console:
    """Writes live lines to a terminal; elsewhere a line a minute, and one for each job that ended.

    Args:
        total: jobs that will run.
        slots: how many run at a time.
        stream: where to write; stderr by default.
    """

    def __init__(self, total: int, slots: int, stream: TextIO | None = None) -> None:
        self.total, self.done, self.stream = total, 0, stream or sys.stderr
        self.live = self.stream.isatty()
        self._bars = [
            tqdm(bar_format="{desc}", position=slot, leave=False, file=self.stream)
            for slot in range(slots if self.live else 0)
        ]
        self._slot: dict[str, int] = {}
        self._last = time.monotonic()

    def report(self, job: WorkJob, message: ProgressMessage) -> None:
        """Show where a running job stands; away from a terminal only now and then."""
        text = line(job.title, message)
        if self.live:
            used = set(self._slot.values())
            free = next((slot for slot in range(len(self._bars)) if slot not in used), 0)
            self._bars[self._slot.setdefault(job.title, free)].set_description_str(text)
        elif time.monotonic() - self._last >= QUIET_SECONDS:
            self._last = time.monotonic()
            self.write(f"  {text}")

    def outcome(self, job: WorkJob, outcome: Outcome) -> None:
        """Count a job that ended, and write how."""
        slot = self._slot.pop(job.title, None)
        if slot is not None:
            self._bars[slot].set_description_str("")
        self.done += 1
        self.write(f"[{self.done}/{self.total}] {job.title}: {describe(job, outcome)}")

    def write(self, text: str) -> None:
        """Write a line above the live ones."""
        if self.live:
            tqdm.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Take the live lines away."""
        for bar in self._bars:
            bar.close()


def describe(job: WorkJob, outcome: Outcome) -> str:
    """Write how a job ended: its numbers, or why there are none; and whether another runner did it."""
    return f"{_described(job, outcome)}{' (by another runner)' if outcome.by_another else ''}"


def _described(job: WorkJob, outcome: Outcome) -> str:
    if outcome.status == "failed":
        return f"FAILED: {outcome.reason}"
    if outcome.status == "interrupted" or outcome.result is None:
        return "stopped; run the same command again to go on from here"
    result = outcome.result
    if isinstance(job, HeldOutJob):
        return f"{result['images']:,} images, synthesis {clock(result['seconds'])}" if result else "made"
    if isinstance(job, TeacherJob):
        if math.isnan(result["last"]):
            return "trained; there are no test images to measure it on"
        weak = weakness(result["last"], result["classes"]) if "classes" in result else ""
        return f"top-1 {result['last']:.2f} %" if not weak else f"warning: {weak}; it wants more steps"
    text = tasks()[job.trial.task].describe(result)
    spent = f"synthesis {clock(result['synthesis_seconds'])}, student {clock(result['student_seconds'])}"
    return f"{text}, {result['images']:,} images, {spent}"
