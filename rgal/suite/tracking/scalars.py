"""What trackers are told of a row of metrics.jsonl: names, numbers and steps, the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rgal.engine.options import Row

COSTS = ("images", "synthesis_seconds", "student_seconds")
LEFT_OUT = ("synthesis_cpu_seconds", "student_cpu_seconds")
COUNTERS = ("round", "phase", "synthesis_steps", "student_steps")  # where a row stands, not what it measured
Scalar = tuple[str, float, int]  # name, value, step


def scalars(row: Row) -> list[Scalar]:
    """(name, value, step) of what a row measured, names under the row's kind.

    Steps are those of that kind: evaluations stand at the student's, or where it takes none at their rounds.
    """
    kind = row["kind"]
    step = row["synthesis_steps"] if kind == "synthesis" else row.get("student_steps") or row.get("round", 0)
    values = {
        k: v
        for k, v in row.items()
        if isinstance(v, (int, float)) and k not in (*COSTS, *COUNTERS, *LEFT_OUT)
    }
    return [(f"{kind}/{name}", float(value), step) for name, value in values.items()]


def costs(row: Row) -> list[Scalar]:
    """(name, value, step) of what was spent by then, at the steps of both kinds together."""
    step = row.get("synthesis_steps", 0) + row.get("student_steps", 0)
    return [(f"cost/{name}", float(row[name]), step) for name in COSTS if name in row]


class Scalars:
    """Turns rows into numbers, in order. Rows of one moment repeat their costs, which are told once."""

    def __init__(self) -> None:
        self.spent = -1

    def of(self, row: Row) -> list[Scalar]:
        measured, spent = scalars(row), costs(row)
        if spent and spent[0][2] != self.spent:
            self.spent = spent[0][2]
            measured += spent
        return measured


def seconds(row: Row) -> float:
    """Seconds of training at a row: a run that was stopped shows no gap."""
    return float(row.get("synthesis_seconds", 0.0)) + float(row.get("student_seconds", 0.0))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Name the settings of a trial one by one, those inside others with dots; without what says nothing.

    >>> flat({"seed": 0, "schedule": {"rounds": {"count": 6}}, "options": {}})
    {'seed': 0, 'schedule.rounds.count': 6}
    """
    named: dict[str, str | int | float | bool] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            named |= flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            named[f"{prefix}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return named
