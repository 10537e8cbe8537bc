"""Trackers: what follows a trial's rows and shows them elsewhere. They repeat metrics.jsonl and decide nothing.

A tracker is one small module with a context manager that takes what is `Tracked` and gives a function for rows; it is
told first of all rows that are there, then of new ones. A tracker that fails is left alone: no trial is lost over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rgal.core.ending import say
from rgal.core.errors import UserError, in_short, nearest
from rgal.engine.options import Row
from rgal.suite.running.drive import Watch as Watch


@dataclass(frozen=True)
class Tracked:
    """The trial that is followed.

    Attributes:
        root: the results directory.
        name: of the trial's folder.
        settings: what was asked for.
    """

    root: Path
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Tracker:
    """Where to find a tracker. package: that it needs, as it is imported; opens: module and function."""

    package: str
    opens: tuple[str, str]
    install: str

    def open(self, trial: Tracked) -> AbstractContextManager[Watch]:
        module, function = self.opens
        opened: AbstractContextManager[Watch] = getattr(import_module(module), function)(trial)
        return opened


TRACKERS = {
    "tensorboard": Tracker(
        "tensorboard", ("rgal.suite.tracking.tensorboard", "event_files"), "tensorboard>=2.17"
    ),
    "mlflow": Tracker("mlflow", ("rgal.suite.tracking.mlflow", "mlflow_run"), "rgal[mlflow]"),
    "wandb": Tracker("wandb", ("rgal.suite.tracking.wandb", "wandb_run"), "rgal[wandb]"),
}


def check_trackers(names: Sequence[str]) -> None:
    """UserError unless these trackers exist and their packages are installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track {name}: {nearest(name, TRACKERS)}")
        if find_spec(TRACKERS[name].package) is None:
            tracker = TRACKERS[name]
            raise UserError(
                f"--track {name}: needs the package {tracker.package}; pip install '{tracker.install}'"
            )


@contextmanager
def tracking(names: Sequence[str], trial: Tracked) -> Iterator[Watch]:
    """Follow a trial with the trackers of these names. The function that is given tells all of them."""
    with ExitStack() as stack:
        watches = {name: watch for name in names if (watch := _opened(stack, name, trial))}

        def tell(rows: list[Row]) -> None:
            for name, watch in list(watches.items()):
                try:
                    watch(rows)
                except Exception as error:
                    del watches[name]
                    _say_lost(name, trial, error)

        yield tell


def _opened(stack: ExitStack, name: str, trial: Tracked) -> Watch | None:
    """Open a tracker for as long as the stack; None if that fails. What goes wrong as it closes is said as well."""
    try:
        opened = TRACKERS[name].open(trial)
        watch = opened.__enter__()
    except Exception as error:
        _say_lost(name, trial, error)
        return None

    def close(*about: Any) -> bool:
        try:
            return bool(opened.__exit__(*about))
        except Exception as error:
            if error is not about[1]:
                _say_lost(name, trial, error)
            return False

    stack.push(close)
    return watch


def _say_lost(name: str, trial: Tracked, error: Exception) -> None:
    say(f"warning: --track {name}: {trial.name} is not followed any more: {in_short(error)}")
