"""Random streams: each purpose has its own, so that nobody's draws depend on anybody else's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def seed_for(*parts: object) -> int:
    """A 63-bit seed from a hash of the parts: stable across runs, machines and Python versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def global_seed(*parts: object) -> Iterator[None]:
    """Seed torch's global CPU stream inside the block (layer initialisers use it) and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*parts))
        yield


class Streams:
    """Generators by purpose on one device. A stream's draws depend on (parts, purpose) alone.

    `cpu(purpose)` streams live on the host, for decisions that must not synchronise the device.
    """

    def __init__(self, device: torch.device | str, *parts: object) -> None:
        self.device = torch.device(device)
        self.parts = parts
        self._streams: dict[str, torch.Generator] = {}

    def get(self, purpose: str) -> torch.Generator:
        return self._stream(purpose, self.device)

    def cpu(self, purpose: str) -> torch.Generator:
        return self._stream(f"cpu:{purpose}", torch.device("cpu"))

    def _stream(self, purpose: str, device: torch.device) -> torch.Generator:
        if purpose not in self._streams:
            stream = torch.Generator(device=device)
            stream.manual_seed(seed_for(*self.parts, purpose))
            self._streams[purpose] = stream
        return self._streams[purpose]

    def state_dict(self) -> dict[str, Tensor]:
        return {purpose: stream.get_state() for purpose, stream in self._streams.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for purpose, value in state.items():
            device = torch.device("cpu") if purpose.startswith("cpu:") else self.device
            # A state is of bytes on the host, also that of a stream on a GPU.
            self._stream(purpose, device).set_state(value.cpu())
