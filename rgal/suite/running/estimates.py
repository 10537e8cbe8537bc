"""How long trials will take: from the seconds that finished trials of the same store took for their steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rgal.suite.plan.trial import Trial
from rgal.suite.store.folders import Store
from rgal.suite.store.index import Index
from rgal.suite.store.records import Record

if TYPE_CHECKING:
    from rgal.suite.running.runner import StoredTrial

KINDS = ("synthesis", "student")


@dataclass(frozen=True)
class Work:
    """How many rounds, and steps of each kind in all of them, a trial takes."""

    rounds: int
    synthesis: int
    student: int


@dataclass
class _Spent:
    """What trials did and took in all: steps and seconds of each kind, and how many trials they were."""

    trials: int = 0
    steps: tuple[float, ...] = (0.0, 0.0)
    seconds: tuple[float, ...] = (0.0, 0.0)
    stepping: tuple[float, ...] = (0.0, 0.0)  # seconds of those trials that took steps of the kind

    def add(self, steps: Sequence[float], seconds: Sequence[float]) -> None:
        self.trials += 1
        self.steps = tuple(map(sum, zip(self.steps, steps, strict=True)))
        self.seconds = tuple(map(sum, zip(self.seconds, seconds, strict=True)))
        stepping = [second if step else 0.0 for step, second in zip(steps, seconds, strict=True)]
        self.stepping = tuple(map(sum, zip(self.stepping, stepping, strict=True)))


class Speeds:
    """What finished trials tell of trials to come.

    Args:
        records: of any trials; those that are not finished tell nothing.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.settings: dict[tuple[str, str], _Spent] = {}
        self.methods: dict[tuple[str, str, str], _Spent] = {}
        for record in records:
            told = _told(record)
            if told:
                place = _where(record.settings.get("setting") or "", record.settings.get("device") or "")
                self.settings.setdefault(place, _Spent()).add(*told)
                self.methods.setdefault((*place, str(record.settings.get("method"))), _Spent()).add(*told)

    def knows(self, trial: Trial) -> bool:
        """Tell whether a trial of the same setting, on the same kind of device, has finished."""
        return _where(trial.setting, trial.device) in self.settings

    def seconds(self, trial: Trial, work: Work) -> float:
        """Return how many seconds a trial will take, roughly; NaN if nothing of its setting has finished.

        Steps take as long as those of the same method, and where it has none, as those of all methods of the setting.
        """
        place = _where(trial.setting, trial.device)
        here, own = self.settings.get(place), self.methods.get((*place, trial.method))
        if here is None:
            return math.nan
        return math.fsum(
            _seconds(own, here, kind, count) for kind, count in enumerate((work.synthesis, work.student))
        )


def speeds_of(store: Store, stored: Sequence[StoredTrial]) -> Speeds:
    """Return the speeds of a plan's own finished trials, or where these say nothing of others, of all in the store."""
    speeds = Speeds(one.record for one in stored if one.record)
    if all(one.finished or speeds.knows(one.trial) for one in stored):
        return speeds
    index = Index(store.root)
    return Speeds(map(index.record, store.trial_folders()))


def _told(record: Record) -> tuple[list[float], list[float]] | None:
    """Return the steps and the seconds of each kind of a finished trial."""
    if record.status != "finished":
        return None
    steps, seconds = (
        [float(record.result.get(f"{kind}_{what}") or 0) for kind in KINDS] for what in ("steps", "seconds")
    )
    return (steps, seconds) if all(map(math.isfinite, (*steps, *seconds))) else None


def _where(setting: str, device: str) -> tuple[str, str]:
    return setting, device.partition(":")[0]


def _seconds(own: _Spent | None, here: _Spent, kind: int, count: int) -> float:
    """Return the seconds of so many steps of a kind: by the method's own trials, else by those of the setting."""
    if own and not count:
        return own.seconds[kind] / own.trials
    for spent in filter(None, (own, here)):
        if spent.steps[kind]:
            return count * spent.stepping[kind] / spent.steps[kind]
    return math.nan if count else 0.0
