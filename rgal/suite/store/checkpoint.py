"""Checkpoints of unfinished work: written atomically, read without running code, ignored when damaged."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from rgal.core.files import write_atomically
from rgal.core.variables import seconds_of

INTERVAL_SECONDS = 20.0
INTERVAL = "RGAL_CHECKPOINT_SECONDS"
WRITE_SHARE = 0.02  # at most this share of the time goes into writing checkpoints


def interval_seconds() -> float:
    """Return how many seconds pass between two checkpoints at least: 20, or RGAL_CHECKPOINT_SECONDS.

    Raises:
        UserError: the variable holds something else than a number from 0 on.
    """
    return seconds_of(INTERVAL, INTERVAL_SECONDS, 0.0)


class Checkpoint:
    """One checkpoint file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._interval = interval_seconds()
        self._next = time.monotonic() + self._interval

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def save(self, state: dict[str, Any]) -> None:
        began = time.monotonic()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path, buffer.getvalue())
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self._interval, took / WRITE_SHARE)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The stored state, or None if there is none or it cannot be read (the work then starts over)."""
        if not self.path.exists():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a damaged file may look like one of an odd protocol
                state = torch.load(self.path, weights_only=True, map_location=device)
        except Exception:  # a damaged file may raise anything, see the documentation of pickle
            return None
        return state if isinstance(state, dict) else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
