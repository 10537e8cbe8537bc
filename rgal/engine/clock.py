"""Seconds spent on synthesis and on the student, measured with the device synchronised."""

from __future__ import annotations

import time

import torch

from rgal.engine.schedule import Mode


class Clock:
    """Add up seconds by kind of step. It runs from `start` to `stop`; `lap` books what has passed so far."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[Mode, float] = {"synthesis": 0.0, "student": 0.0}
        self._mark: float | None = None

    def start(self) -> None:
        """Start, unless it is running."""
        if self._mark is None:
            self._mark = time.perf_counter()

    def stop(self) -> None:
        """Stop without booking anything."""
        self._mark = None

    def lap(self, mode: Mode) -> None:
        """Book the seconds since the last lap, with the device synchronised. Nothing happens while it stands still."""
        if self._mark is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[mode] += now - self._mark
        self._mark = now

    def spent(self, mode: Mode) -> dict[Mode, float]:
        """Return the seconds by kind, with those of the current lap under `mode`, without synchronising."""
        running = 0.0 if self._mark is None else time.perf_counter() - self._mark
        return {kind: value + (running if kind == mode else 0.0) for kind, value in self.seconds.items()}
