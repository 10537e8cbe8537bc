"""`--status`: who works on what in a results directory, how far, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rgal.core.errors import UserError
from rgal.suite.store.claims import Claims, Owner, Seen, is_dead
from rgal.suite.store.folders import Store, trial_claim
from rgal.suite.store.frames import load_records
from rgal.suite.store.records import ODD, Record, printable

WORDS = {"interrupted": "begun"}


def status_text(root: Path) -> str:
    """Return a line for each trial and each other piece of work in hand, under a line that counts them.

    Raises:
        UserError: there is no such results directory.
    """
    if not root.is_dir():
        raise UserError(f"results directory {root}: no such folder")
    claims, records = Claims(root).look(), load_records(Store(root))
    lines = [_of_trial(record, claims.pop(trial_claim(record.folder), None)) for record in records]
    others = [*_others(claims)]
    width = max((len(name) for name, _, _ in (*lines, *others)), default=0)
    shown = [f"  {name:<{width}}  {state:<8}  {text}".rstrip() for name, state, text in (*others, *lines)]
    return "\n".join([_counts(lines), *shown])


def _counts(lines: Sequence[tuple[str, str, str]]) -> str:
    states = [state for _, state, _ in lines]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(lines)} trial{'' if len(lines) == 1 else 's'}{': ' + counted if counted else ''}"


def _of_trial(record: Record, seen: Seen | None) -> tuple[str, str, str]:
    """Return name, state and details of a trial."""
    name, state = printable(record.folder.name), WORDS.get(record.status, record.status)
    owner = seen.owner if seen else None
    if owner and record.status in ("interrupted", "failed") and not is_dead(owner):
        return name, "running", _in_hand(owner)
    if state == "begun":
        return name, state, "its process is gone" if owner else "nobody works on it"
    if state == "failed" or record.status in ODD:
        return name, state, record.reason
    return name, state, " ".join(filter(None, map(record.environment.get, ("host", "gpu"))))


def _others(claims: Mapping[str, Seen]) -> Iterator[tuple[str, str, str]]:
    """Yield the same of what is claimed and has no record: teachers, trials that begin this moment, the report."""
    for seen in claims.values():
        owner = seen.owner
        if owner and not is_dead(owner):
            yield printable(owner.title), "running", _in_hand(owner)


def _in_hand(owner: Owner) -> str:
    parts = [printable(owner.said)] if owner.said else []
    place = f", {owner.device}" if owner.device else ""
    return " | ".join([*parts, printable(f"{owner}{place}"), f"last sign of life at {printable(owner.at)}"])
