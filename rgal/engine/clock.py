"""Seconds spent on synthesis and on the student: of the clock, with the device synchronised, and of the processor.

Seconds of the clock depend on what else runs on the machine. Those of the processor, of all threads of the process,
hardly do: they are what trials on a CPU can be compared by.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from rgal.engine.schedule import MODES, Mode


class Clock:
    """Add up seconds by kind of step. It runs from `start` to `stop`; `lap` books what has passed so far."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[Mode, float] = dict.fromkeys(MODES, 0.0)
        self.cpu_seconds: dict[Mode, float] = dict.fromkeys(MODES, 0.0)
        self._mark: tuple[float, float] | None = None

    def start(self) -> None:
        """Start, unless it is running."""
        if self._mark is None:
            self._mark = _now()

    def stop(self) -> None:
        """Stop without booking anything."""
        self._mark = None

    def lap(self, mode: Mode) -> None:
        """Book the seconds since the last lap, with the device synchronised. Nothing happens while it stands still."""
        if self._mark is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = _now()
        self.seconds[mode] += now[0] - self._mark[0]
        self.cpu_seconds[mode] += now[1] - self._mark[1]
        self._mark = now

    def spent(self, mode: Mode) -> dict[Mode, float]:
        """Return the seconds by kind, with those of the current lap under `mode`, without synchronising."""
        running = 0.0 if self._mark is None else time.perf_counter() - self._mark[0]
        return {kind: value + (running if kind == mode else 0.0) for kind, value in self.seconds.items()}

    def costs(self) -> dict[str, float]:
        """Return what is booked under the names that records give it, such as synthesis_cpu_seconds."""
        return {
            **{f"{mode}_seconds": value for mode, value in self.seconds.items()},
            **{f"{mode}_cpu_seconds": value for mode, value in self.cpu_seconds.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what is booked."""
        return {"seconds": dict(self.seconds), "cpu_seconds": dict(self.cpu_seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was booked, and stand still."""
        self.seconds = dict(state["seconds"])
        self.cpu_seconds = dict(state.get("cpu_seconds", self.seconds))  # a run begun before they were booked
        self.stop()


def _now() -> tuple[float, float]:
    """Return the seconds of the clock, and those of the processor in all threads of this process."""
    return time.perf_counter(), time.process_time()
