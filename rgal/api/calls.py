"""One call of the library: how it runs, its progress, its state on disk, and the loop that drives it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from rgal.api.budgets import GivenBudget
from rgal.core.errors import UserError, nearest
from rgal.core.precision import Precision
from rgal.core.seeding import seed_for
from rgal.engine.options import Diverged, Position, Row
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.task import Run

Callback = Callable[[Position], object]
_SHOWN_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Call:
    """Say how a call runs; what each entry means is told where users read it, in `rgal.distill`.

    Raises:
        UserError: an entry makes no sense.
    """

    method: str
    budget: GivenBudget
    seed: int = 0
    progress: bool = False
    callback: Callback | None = None
    device: str | torch.device | None = None
    precision: str | None = None
    state: str | Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise UserError(f"method is a {type(self.method).__name__}, expected a name such as 'cmi+rgal'")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"seed {self.seed!r}: expected a whole number")
        if self.precision is not None and self.precision not in get_args(Precision):
            raise UserError(
                f"precision {self.precision!r}: {nearest(str(self.precision), get_args(Precision))}"
            )
        if self.callback is not None and not callable(self.callback):
            raise UserError(
                f"callback: is a {type(self.callback).__name__}, expected a function of a position"
            )
        if self.state is not None and not Path(self.state).expanduser().parent.is_dir():
            raise UserError(f"state {self.state}: its folder does not exist")


def drive(run: Run, call: Call, identity: Mapping[str, str], device: torch.device) -> tuple[list[Row], bool]:
    """Advance a run to its end, or until the callback says so, from the state on disk if there is one.

    Args:
        run: what advances.
        call: how.
        identity: what tells this call from others, by name: a state of another one is refused.
        device: where the tensors of a state go.

    Returns:
        All metric rows so far, and whether the run is finished.

    Raises:
        UserError: the file at `call.state` is no state of this call, or a loss is no longer finite.
    """
    state = None if call.state is None else _State(Path(call.state).expanduser(), identity)
    rows = [] if state is None else state.resume(run, device)
    with _bar(call.progress) as show:
        try:
            while not run.finished:
                rows += run.advance()
                position = run.position()
                show(position)
                try:
                    stopping = call.callback is not None and call.callback(position) is True
                except BaseException:  # the user's own, Ctrl-C say: between two steps the state is whole
                    if state is not None:
                        state.save(run, rows)
                    raise
                if state is not None and (stopping or run.finished or state.file.due()):
                    state.save(run, rows)
                if stopping:
                    break
        except Diverged as error:
            raise UserError(str(error)) from error
    return rows, run.finished


class _State:
    """The state of a call in a file, which says what call it is of."""

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path, self.identity, self.file = path, dict(identity), Checkpoint(path)

    def resume(self, run: Run, device: torch.device) -> list[Row]:
        """Take up the state, if there is one, and return the rows of before."""
        stored = self.file.load(device)
        if stored is None and self.path.exists():
            raise UserError(f"state {self.path}: holds no state of rgal, or a damaged one; name another file")
        if stored is None:
            return []
        asked = stored.get("call")
        if not isinstance(asked, dict):
            raise UserError(f"state {self.path}: holds no state of a call; name another file")
        other = [name for name, value in self.identity.items() if asked.get(name) != value]
        if other:
            raise UserError(
                f"state {self.path}: is of a call with {other[0]} {asked.get(other[0])}, "
                f"here it is {self.identity[other[0]]}; name another file, or delete it"
            )
        run.load_state_dict(stored["run"])
        return list(stored["rows"])

    def save(self, run: Run, rows: list[Row]) -> None:
        try:
            self.file.save({"call": self.identity, "run": run.state_dict(), "rows": rows})
        except OSError as error:
            raise UserError(f"state {self.path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[Position], None]]:
    """Provide a function that shows where a run is on a progress bar, if one is wanted."""
    if not shown:
        yield lambda position: None
        return
    from tqdm.auto import tqdm

    with tqdm(
        total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"
    ) as bar:
        last = 0.0

        def show(position: Position) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _SHOWN_EVERY and position.done < 1:
                return
            last = now
            bar.set_description_str(
                f"{position.mode}, {position.unit} {position.at}/{position.of}", refresh=False
            )
            bar.n = round(100 * position.done, 1)
            bar.refresh()

        yield show


# What tells a call from others --------------------------------------------------------------------------------------


def hash_of(*tensors: Tensor | None) -> str:
    """Hash tensors to 12 hex digits: their shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            plain = tensor.detach().cpu().contiguous().flatten()
            digest.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()[:12]


def weights_hash(net: nn.Module) -> str:
    """Hash the weights of a network to 12 hex digits."""
    return hash_of(*net.state_dict().values())


def shape_of(net: nn.Module) -> str:
    """Hash the names and shapes of a network's tensors, whatever their values: two with the same take each other's."""
    shapes = [(name, tuple(value.shape)) for name, value in net.state_dict().items()]
    return f"{type(net).__name__} {seed_for(shapes) % 16**8:08x}"
