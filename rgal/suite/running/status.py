"""`--status`: who works on what in a results directory, how far, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rgal.core.errors import UserError
from rgal.suite.store.claims import Claims, Owner, Seen, is_dead
from rgal.suite.store.folders import Store, trial_claim
from rgal.suite.store.index import Index
from rgal.suite.store.records import ODD, Record, printable

WORDS = {"interrupted": "begun"}


@dataclass(frozen=True)
class Standing:
    """Where a trial, or another piece of work in hand, stands.

    Attributes:
        name: of the trial's folder, or the title of the work.
        state: running, begun, finished, failed, or what is odd about the folder.
        text: details for people.
        done: the share of running work that is done; None where it is not known.
        is_trial: whether there is a trial's folder of this name.
    """

    name: str
    state: str
    text: str
    done: float | None = None
    is_trial: bool = True


def standings(root: Path) -> list[Standing]:
    """Return where everything in a results directory stands: first what has no record yet, then the trials."""
    store, index, claims = Store(root), Index(root), Claims(root).look()
    records = [index.record(folder) for folder in store.trial_folders()]
    trials = [_of_trial(record, claims.pop(trial_claim(record.folder), None)) for record in records]
    return [*_others(claims), *trials]


def status_text(root: Path) -> str:
    """Return a line for each trial and each other piece of work in hand, under a line that counts them.

    Raises:
        UserError: there is no such results directory.
    """
    check_results(root)
    every = standings(root)
    width = max((len(one.name) for one in every), default=0)
    shown = [f"  {one.name:<{width}}  {one.state:<8}  {one.text}".rstrip() for one in every]
    return "\n".join([counts(every), *shown])


def check_results(root: Path) -> None:
    """UserError unless there is such a results directory."""
    if not root.is_dir():
        raise UserError(f"results directory {root}: no such folder")


def counts(every: Sequence[Standing]) -> str:
    """Count the trials, by state: "5 trials: 4 finished, 1 running"."""
    states = [one.state for one in every if one.is_trial]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(states)} trial{'' if len(states) == 1 else 's'}{': ' + counted if counted else ''}"


def _of_trial(record: Record, seen: Seen | None) -> Standing:
    name, state = printable(record.folder.name), WORDS.get(record.status, record.status)
    owner = seen.owner if seen else None
    if owner and record.status in ("interrupted", "failed") and not is_dead(owner):
        return Standing(name, "running", _in_hand(owner), owner.done)
    if state == "begun":
        return Standing(name, state, "its process is gone" if owner else "nobody works on it")
    if state == "failed" or record.status in ODD:
        return Standing(name, state, record.reason)
    return Standing(name, state, " ".join(filter(None, map(record.environment.get, ("host", "gpu")))))


def _others(claims: Mapping[str, Seen]) -> Iterator[Standing]:
    """Yield what is claimed and has no record: teachers, trials that begin this moment, the report."""
    for seen in claims.values():
        owner = seen.owner
        if owner and not is_dead(owner):
            yield Standing(printable(owner.title), "running", _in_hand(owner), owner.done, is_trial=False)


def _in_hand(owner: Owner) -> str:
    parts = [printable(owner.said)] if owner.said else []
    place = f", {owner.device}" if owner.device else ""
    return " | ".join([*parts, printable(f"{owner}{place}"), f"last sign of life at {printable(owner.at)}"])
