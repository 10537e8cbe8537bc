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
    """How many steps of each kind a trial takes."""

    synthesis: int
    student: int


@dataclass(frozen=True)
class _Sample:
    """A finished trial: where it ran, what it did and how long that took."""

    where: tuple[str, str]
    method: str
    steps: tuple[float, float]
    seconds: tuple[float, float]


class Speeds:
    """What finished trials tell of trials to come.

    Args:
        records: of any trials; those that are not finished tell nothing.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.samples = [sample for record in records if (sample := _sample(record))]

    def knows(self, trial: Trial) -> bool:
        """Tell whether a trial of the same setting, on the same kind of device, has finished."""
        return any(sample.where == _where(trial.setting, trial.device) for sample in self.samples)

    def seconds(self, trial: Trial, work: Work) -> float:
        """Return how many seconds a trial will take, roughly; NaN if nothing of its setting has finished.

        Steps take as long as those of the same method, and where it has none, as those of all methods of the setting.
        """
        here = [sample for sample in self.samples if sample.where == _where(trial.setting, trial.device)]
        own = [sample for sample in here if sample.method == trial.method]
        parts = [
            _seconds(own, here, kind, count) for kind, count in enumerate((work.synthesis, work.student))
        ]
        return math.fsum(parts) if here else math.nan


def speeds_of(store: Store, stored: Sequence[StoredTrial]) -> Speeds:
    """Return the speeds of a plan's own finished trials, or where these say nothing of others, of all in the store."""
    speeds = Speeds(one.record for one in stored if one.record)
    if all(one.finished or speeds.knows(one.trial) for one in stored):
        return speeds
    index = Index(store.root)
    return Speeds(map(index.record, store.trial_folders()))


def _sample(record: Record) -> _Sample | None:
    if record.status != "finished":
        return None
    told = [
        tuple(float(record.result.get(f"{kind}_{what}") or 0) for kind in KINDS)
        for what in ("steps", "seconds")
    ]
    if not all(map(math.isfinite, (*told[0], *told[1]))):
        return None
    settings = record.settings
    where = _where(settings.get("setting") or "", settings.get("device") or "")
    return _Sample(where, str(settings.get("method")), (told[0][0], told[0][1]), (told[1][0], told[1][1]))


def _where(setting: str, device: str) -> tuple[str, str]:
    return setting, device.partition(":")[0]


def _seconds(own: Sequence[_Sample], here: Sequence[_Sample], kind: int, count: int) -> float:
    """Return the seconds of so many steps of a kind: by the method's own trials, else by those of the setting."""
    if own and not count:
        return math.fsum(sample.seconds[kind] for sample in own) / len(own)
    for samples in (own, here):
        steps = math.fsum(sample.steps[kind] for sample in samples)
        if steps:
            return count * math.fsum(s.seconds[kind] for s in samples if s.steps[kind]) / steps
    return math.nan if count else 0.0
