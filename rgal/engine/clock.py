"""A clock for the seconds of synthesis and of student steps, read with the device synchronised."""

from __future__ import annotations

import time

import torch

from rgal.engine.schedule import Mode


class Clock:
    """Add up seconds by kind of step.

    The clock runs from `start` to `stop`. `lap` books the seconds that have passed since the last lap.

    >>> clock = Clock(torch.device("cpu"))
    >>> clock.start()
    >>> clock.lap("student")
    >>> clock.seconds["student"] > 0 and clock.seconds["synthesis"] == 0
    True
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[Mode, float] = {"synthesis": 0.0, "student": 0.0}
        self._mark: float | None = None

    def start(self) -> None:
        """Start the clock, unless it runs already."""
        if self._mark is None:
            self._mark = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock without booking anything."""
        self._mark = None

    def lap(self, mode: Mode) -> None:
        """Book the seconds since the last lap under `mode`. Synchronises the device; a stopped clock books nothing."""
        if self._mark is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[mode] += now - self._mark
        self._mark = now

    def spent(self, mode: Mode) -> dict[Mode, float]:
        """Return the seconds by kind, those of the current lap under `mode`. Does not synchronise the device."""
        running = 0.0 if self._mark is None else time.perf_counter() - self._mark
        return {kind: value + (running if kind == mode else 0.0) for kind, value in self.seconds.items()}
