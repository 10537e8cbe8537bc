"""Random streams: each purpose has its own, so that draws for one never shift the draws for another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def seed_for(*parts: object) -> int:
    """Hash the parts to a 63-bit seed, which is the same in every run, on every machine and Python version.

    >>> seed_for("kd", "digits", 0)
    7588191759456995753
    >>> seed_for("a", "b") == seed_for("ab")
    False
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def global_seed(*parts: object) -> Iterator[None]:
    """Seed torch's global CPU stream, which layer initialisers use, inside the block; restore it afterwards.

    >>> with global_seed("weights", 1):
    ...     first = torch.rand(3)
    >>> with global_seed("weights", 1):
    ...     torch.equal(first, torch.rand(3))
    True
    """
    state, seed = torch.get_rng_state(), seed_for(*parts)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # without a device to seed, `manual_seed` would only write down where it was called from, dozens of frames
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


class Streams:
    """Provide a random generator for each purpose, whose draws depend on (parts, purpose) alone.

    >>> draw = torch.rand(2, generator=Streams("cpu", "trial", 0).get("batches"))
    >>> torch.equal(draw, torch.rand(2, generator=Streams("cpu", "trial", 0).get("batches")))
    True
    """

    def __init__(self, device: torch.device | str, *parts: object) -> None:
        self.device = torch.device(device)
        self.parts = parts
        self._streams: dict[str, torch.Generator] = {}

    def get(self, purpose: str) -> torch.Generator:
        """Return the generator for a purpose, on the device."""
        return self._stream(purpose, self.device)

    def cpu(self, purpose: str) -> torch.Generator:
        """Return the generator for a purpose on the host, for decisions that must not synchronise the device."""
        return self._stream(f"cpu:{purpose}", torch.device("cpu"))

    def _stream(self, purpose: str, device: torch.device) -> torch.Generator:
        if purpose not in self._streams:
            stream = torch.Generator(device=device)
            stream.manual_seed(seed_for(*self.parts, purpose))
            self._streams[purpose] = stream
        return self._streams[purpose]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of every stream that was used, for a checkpoint."""
        return {purpose: stream.get_state() for purpose, stream in self._streams.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the streams of a checkpoint."""
        for purpose, value in state.items():
            device = torch.device("cpu") if purpose.startswith("cpu:") else self.device
            # torch keeps a generator's state as bytes on the host, even for a GPU.
            self._stream(purpose, device).set_state(value.cpu())
