"""Running means on the device: losses are summed there and read once per phase, never within a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Average named scalars, each over the steps in which it occurred.

    >>> meter = Meter()
    >>> meter.add({"kd": torch.tensor(1.0), "ce": torch.tensor(4.0)})
    >>> meter.add({"kd": torch.tensor(2.0)})
    >>> meter.take()
    {'kd': 1.5, 'ce': 4.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars, in place and without synchronising the device."""
        for name, value in values.items():
            if name in self._sums:
                self._sums[name].add_(value.detach())
            else:
                self._sums[name] = value.detach().double().clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means so far as floats and start over. Synchronises the device."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def peek(self, name: str) -> float | None:
        """Return one mean without starting over, or None if nothing was added. Synchronises the device."""
        return float(self._sums[name]) / self._counts[name] if name in self._sums else None

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and counts, for a checkpoint."""
        return {
            "sums": {name: total.clone() for name, total in self._sums.items()},
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the sums and counts of a checkpoint."""
        self._sums = {name: total.clone() for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
