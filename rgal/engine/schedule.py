"""Which optimiser step is due: the rounds of a recipe as a counter that can be stored."""

from __future__ import annotations

from typing import Any, Literal

from rgal.methods.recipe import Rounds
from rgal.terms.objective import Progress

Mode = Literal["synthesis", "student"]
MODES: tuple[Mode, ...] = ("synthesis", "student")


class Schedule:
    """Count the steps of a run and say which kind is due next.

    A round's synthesis steps come before its student steps. In interleaved rounds the two kinds alternate as evenly as
    their numbers allow:

    >>> schedule = Schedule(Rounds(1, synthesis_steps=2, student_steps=4, interleaved=True))
    >>> order = []
    >>> while (mode := schedule.due()) is not None:
    ...     order.append(mode)
    ...     schedule.count(mode)
    >>> " ".join(order)
    'synthesis student student synthesis student student'

    Args:
        rounds: the recipe's rounds.
        synthesises: whether there are images to synthesise. If not, rounds consist of student steps alone.
    """

    def __init__(self, rounds: Rounds, synthesises: bool = True) -> None:
        self.rounds, self.synthesises = rounds, synthesises
        self.round = 0  # complete rounds
        self.done: dict[Mode, int] = {"synthesis": 0, "student": 0}  # in the current round
        self.steps: dict[Mode, int] = {"synthesis": 0, "student": 0}  # in all rounds

    @property
    def finished(self) -> bool:
        """Whether all rounds are complete."""
        return self.round >= self.rounds.count

    def quota(self) -> dict[Mode, int]:
        """Return the number of optimiser steps of each kind in the current round.

        >>> Schedule(Rounds(3, synthesis_steps=4, student_steps=2, warmup=1)).quota()
        {'synthesis': 4, 'student': 0}
        """
        return {
            "synthesis": self.rounds.synthesis_steps if self.synthesises else 0,
            "student": self.rounds.student_steps if self.round >= self.rounds.warmup else 0,
        }

    def due(self) -> Mode | None:
        """Return the kind of the next step, or None at the end of the round."""
        quota, done = self.quota(), self.done
        student_is_behind = done["student"] * quota["synthesis"] < done["synthesis"] * quota["student"]
        if self.rounds.interleaved and student_is_behind:
            return "student"
        return next((mode for mode in MODES if done[mode] < quota[mode]), None)

    def count(self, mode: Mode) -> None:
        """Count one step of this kind as done."""
        self.done[mode] += 1
        self.steps[mode] += 1

    def close_round(self) -> None:
        """Go on to the next round."""
        self.round += 1
        self.done = {"synthesis": 0, "student": 0}

    def is_last(self, mode: Mode) -> bool:
        """Return whether the step that is due is the round's last of this kind."""
        return self.done[mode] + 1 >= self.quota()[mode]

    def progress(self, within: bool = False) -> Progress:
        """Return how far the run is, for terms; with `within`, student steps inside the round count too."""
        share = self.done["student"] / max(1, self.rounds.student_steps) if within else 0.0
        return Progress(self.round, self.rounds.count, self.rounds.warmup, share)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters, for a checkpoint."""
        return {"round": self.round, "done": dict(self.done), "steps": dict(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the counters of a checkpoint."""
        self.round = int(state["round"])
        self.done, self.steps = dict(state["done"]), dict(state["steps"])
