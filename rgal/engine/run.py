"""One teacher, one student, one recipe: the rounds of synthesis and student steps, as a machine that can be stopped.

`advance()` does one optimiser step, or changes from one kind of step to the other. Between any two calls `state_dict()`
holds all that the rest depends on: a run that was killed and goes on from its last state ends with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rgal.core.precision import Precision
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.batches import Augmentation, BatchSupply, GeneratorSupply, LastBatchSupply, PoolSupply
from rgal.engine.clock import Clock
from rgal.engine.schedule import MODES, Mode, Schedule
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.methods.recipe import Recipe
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pool import ImagePool
from rgal.terms.objective import Progress, labels_of

Row = dict[str, Any]
SHOWN = 2_000  # images kept to look at


class Diverged(RuntimeError):
    """A loss is no longer finite. The message names the kind of step, the round and the part of the loss."""


@dataclass(frozen=True)
class Position:
    """Say how far a run is, for a progress line.

    Args:
        mode: the current kind of step.
        at: number of the current unit, from 1.
        of: number of units.
        done: share of the run that is done, in [0,1].
        remaining_seconds: estimate for what is left, of the kinds of step that have been timed.
        at_least: whether a kind of step is left that has not been timed yet.
        unit: what is counted: "round" or "phase".
    """

    mode: str
    at: int
    of: int
    done: float
    remaining_seconds: float
    at_least: bool = False
    unit: str = "round"


@dataclass(frozen=True)
class RunOptions:
    """Set what is no part of the method.

    Args:
        precision: "fp32" or "bf16", of the networks' forward passes.
        evaluate_every: rounds from one evaluation to the next. The last round is always followed by one.
        capacity: how many images the pool holds at most; None: all, or `SHOWN` where no student reads it.
    """

    precision: Precision = "fp32"
    evaluate_every: int = 1
    capacity: int | None = None


@dataclass(frozen=True)
class Hooks:
    """Say how a task's run differs from "train the student on the pool". Distillation leaves all at their defaults.

    Args:
        train_mode: puts the student into the mode of its training steps.
        on_images: is called with every synthesised batch, (N,C,H,W) in [0,1] and labels (N,), before the student trains
            on it.
        real: real images to train on in place of synthesised ones, for reference rows.
        student_seen_by_synthesis: the network that synthesis takes for the student; None: the student itself.
        batches: makes the supplier of student batches from that of synthesised batches, which is None without
            synthesis.
        augmentation: how batches are shown to the student; None: as the recipe says.
        task_data: what the task hands to its own terms.
        progress_within_rounds: whether terms may be switched on or off inside a round.
    """

    train_mode: Callable[[nn.Module], Any] = nn.Module.train
    on_images: Callable[[torch.Tensor, torch.Tensor], None] | None = None
    real: ImagePool | None = None
    student_seen_by_synthesis: nn.Module | None = None
    batches: Callable[[BatchSupply | None], BatchSupply] | None = None
    augmentation: Augmentation | None = None
    task_data: object | None = None
    progress_within_rounds: bool = False


class TransferRun:
    """Alternate synthesis and student steps as a recipe says.

    Args:
        recipe: the method.
        problem: the frozen teacher and its image domain.
        student: the network to train.
        streams: all random draws of the run.
        measure: returns the numbers of an evaluation of the student, by name.
        options: precision, evaluation, capacity.
        hooks: what the task changes.

    Raises:
        ValueError: the recipe synthesises images and real ones are given too, or there are neither.
    """

    def __init__(
        self,
        recipe: Recipe,
        problem: Problem,
        student: nn.Module,
        streams: Streams,
        measure: Callable[[nn.Module], dict[str, float]],
        options: RunOptions = RunOptions(),  # noqa: B008
        hooks: Hooks = Hooks(),  # noqa: B008
    ) -> None:
        synthesises = recipe.images is not None
        if hooks.batches is None and (hooks.real is None) != synthesises:
            raise ValueError("real images are for recipes without image synthesis, and only for them")
        self.recipe, self.problem, self.student, self.streams = recipe, problem, student, streams
        self.measure, self.options, self.hooks = measure, options, hooks
        self.trainable = [p for p in student.parameters() if p.requires_grad]
        capacity = options.capacity
        if recipe.source != "pool" and capacity is None:
            capacity = SHOWN
        self.pool = ImagePool(problem.domain.shape, problem.device, capacity)
        shown_student = hooks.student_seen_by_synthesis or student
        self.inversion = (
            Inversion(recipe.inversion(), problem, shown_student, streams, options.precision)
            if synthesises
            else None
        )
        self.schedule, self.clock = Schedule(recipe.rounds, synthesises), Clock(problem.device)
        self.synthesised = self._synthesised_batches()
        self.batches = self._student_batches()
        self.loop = StudentLoop(
            {"student": student, "teacher": problem.teacher},
            problem.domain,
            student_spec(recipe, hooks),
            streams,
            options.precision,
        )
        self.mode: Mode = "synthesis"
        self.taken = 0  # images that synthesis has finished
        self._set_mode()

    def _synthesised_batches(self) -> PoolSupply | LastBatchSupply | GeneratorSupply | None:
        """Return the supplier that the recipe's `source` names, or None without synthesis."""
        recipe, size = self.recipe, self.recipe.rounds.batch
        if self.inversion is None:
            return None
        if recipe.source == "batch":
            return LastBatchSupply()
        if recipe.source == "generator":
            source, is_last = self.inversion.images, lambda: self.schedule.is_last("student")
            return GeneratorSupply(source, self.problem, self.streams, size, self.pool, is_last)
        if self.hooks.batches is not None:
            return PoolSupply(self.pool, self.streams, size, recipe.per_class, "replayed batches")
        return PoolSupply(self.pool, self.streams, size, recipe.per_class)

    def _student_batches(self) -> BatchSupply:
        """Return the supplier of student batches: the task's, that of real images for a reference row, or synthesis."""
        if self.hooks.batches is not None:
            return self.hooks.batches(self.synthesised)
        if self.hooks.real is not None:
            size, per_class = self.recipe.rounds.batch, self.recipe.per_class
            return PoolSupply(self.hooks.real, self.streams, size, per_class, real=True)
        assert self.synthesised is not None
        return self.synthesised

    # The machine ------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether all rounds are complete."""
        return self.schedule.finished

    @property
    def images(self) -> int:
        """How many images have been synthesised so far."""
        return self.taken + (self.synthesised.drawn if isinstance(self.synthesised, GeneratorSupply) else 0)

    @property
    def progress(self) -> Progress:
        """How far the run is, for terms."""
        return self.schedule.progress(self.hooks.progress_within_rounds and self.mode == "student")

    def advance(self) -> list[Row]:
        """Do one optimiser step, change the kind of step, or end the round. Returns the metric rows that result.

        Raises:
            Diverged: a loss is no longer finite.
        """
        self.clock.start()
        due = self.schedule.due()
        if due is None:
            return self._leave(self.mode) + self._close_round()
        if due != self.mode:
            return self._enter(due)
        if due == "synthesis":
            self._synthesise()
        else:
            batch = self.batches.next()
            self.loop.step(batch, self.progress)
        self.schedule.count(due)
        return []

    def _synthesise(self) -> None:
        """Do one synthesis step. In interleaved rounds, every step makes a batch of its own."""
        assert self.inversion is not None
        alone = self.recipe.rounds.interleaved
        if alone or self.schedule.done["synthesis"] == 0:
            self.inversion.begin()
        self.inversion.step(self.progress)
        if alone:
            self._take_images()

    def _leave(self, mode: Mode) -> list[Row]:
        """End a kind of step and return its row of losses. Interleaved kinds have theirs at the end of the round."""
        interleaved = self.recipe.rounds.interleaved
        if mode == "synthesis":
            if self.inversion is None:
                return []
            without_steps = not self.schedule.quota()["synthesis"]
            if without_steps:
                self.inversion.begin()
            if without_steps or not interleaved:
                self._take_images()
        self.clock.lap(mode)
        return [] if interleaved else self._loss_row(mode)

    def _enter(self, mode: Mode) -> list[Row]:
        """Change to the other kind of step and return the row of the one that ended."""
        rows = self._leave(self.mode)
        self.mode = mode
        self._set_mode()
        return rows

    def _take_images(self) -> None:
        """Move finished images to where the student's batches come from."""
        assert self.inversion is not None
        images, targets = self.inversion.finish()
        labels = labels_of(targets)
        if self.hooks.on_images is not None:
            self.hooks.on_images(images, labels)
        if self.recipe.source == "generator":
            return
        if isinstance(self.synthesised, LastBatchSupply):
            self.synthesised.latest = images, targets
        # Where the student trains on the last batch alone, the pool keeps one batch per round, to look at.
        if self.recipe.source == "pool" or self.schedule.is_last("synthesis"):
            self.pool.add(images, labels)
        self.taken += len(images)

    def _close_round(self) -> list[Row]:
        """End the round and return its rows: losses of interleaved kinds, and the evaluation where one is due."""
        rows: list[Row] = []
        if self.recipe.rounds.interleaved:
            rows += self._loss_row("synthesis") + self._loss_row("student")
        self.schedule.close_round()
        due = self.finished or self.schedule.round % self.options.evaluate_every == 0
        if due and (self.finished or self.schedule.steps["student"]):
            rows.append(self._row("evaluation", self.measure(self.student)))
        self.clock.stop()
        self.mode = "synthesis"
        self._set_mode()
        return rows

    def _set_mode(self) -> None:
        """Freeze the student while images are synthesised; put it into training mode otherwise."""
        if self.mode == "synthesis":
            self.student.eval()
        else:
            self.hooks.train_mode(self.student)
        for parameter in self.trainable:
            parameter.requires_grad_(self.mode == "student")
            if self.mode == "synthesis":
                parameter.grad = None

    # Reporting --------------------------------------------------------------------------------------------------

    def _loss_row(self, mode: Mode) -> list[Row]:
        """Return a row with the mean losses of a kind of step, or nothing where the round has no such step."""
        if not self.schedule.quota()[mode]:
            return []
        meter = self.loop.meter if mode == "student" or self.inversion is None else self.inversion.meter
        return [self._row(mode, self._finite(mode, meter.take()))]

    def _row(self, kind: str, values: dict[str, float]) -> Row:
        """Return a row of metrics.jsonl: the values, and at which cost they were reached."""
        steps = self.schedule.steps
        return {
            "kind": kind,
            "round": self.schedule.round if kind == "evaluation" else self.schedule.round + 1,
            "synthesis_steps": steps["synthesis"],
            "student_steps": steps["student"],
            "images": self.images,
            **{name: round(seconds, 3) for name, seconds in self.clock.costs().items()},
            **values,
        }

    def _finite(self, mode: Mode, values: dict[str, float]) -> dict[str, float]:
        """Return the values, or raise Diverged for one that is not finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"the {mode} loss part '{name}' became {value} in round {self.schedule.round + 1}; "
                    "lower the learning rate or use fp32"
                )
        return values

    def position(self) -> Position:
        """Return how far the run is and how long the rest will take."""
        rounds, total, steps = self.recipe.rounds, self.recipe.total_steps(), self.schedule.steps
        spent = self.clock.spent(self.mode)
        left = {mode: total[mode] - steps[mode] for mode in MODES}
        remaining = sum(n * spent[mode] / steps[mode] for mode, n in left.items() if steps[mode])
        untimed = any(n and not steps[mode] for mode, n in left.items())
        # A calibration alone takes no steps at all.
        done = sum(steps.values()) / sum(total.values()) if sum(total.values()) else float(self.finished)
        at = min(self.schedule.round + 1, rounds.count)
        return Position(self.mode, at, rounds.count, done, remaining, untimed)

    def loss(self) -> float | None:
        """Return the mean total loss of the current kind of step so far. Synchronises the device."""
        if self.mode == "student" or self.inversion is None:
            return self.loop.meter.peek("total")
        return self.inversion.meter.peek("total")

    # State ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        self.clock.lap(self.mode)
        return {
            "mode": self.mode,
            "schedule": self.schedule.state_dict(),
            **self.clock.state_dict(),
            "taken": self.taken,
            "streams": self.streams.state_dict(),
            "loop": self.loop.state_dict(),
            "inversion": None if self.inversion is None else self.inversion.state_dict(),
            "pool": self.pool.state_dict(),
            "batches": self.batches.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state. The run must have been made from the same arguments as the stored one."""
        self.streams.load_state_dict(state["streams"])
        self.loop.load_state_dict(state["loop"])
        if self.inversion is not None:
            self.inversion.load_state_dict(state["inversion"])
        self.pool.load_state_dict(state["pool"])
        self.batches.load_state_dict(state["batches"])
        self.schedule.load_state_dict(state["schedule"])
        self.clock.load_state_dict(state)
        self.taken, self.mode = int(state["taken"]), state["mode"]
        self._set_mode()


def student_spec(recipe: Recipe, hooks: Hooks) -> StudentSpec:
    """Return what a recipe's student minimises and how its batches are augmented."""
    own = Augmentation(recipe.student_view, recipe.pairs, recipe.fmix)
    return StudentSpec(
        recipe.transfer,
        recipe.student,
        recipe.rounds.total_student_steps(),
        hooks.augmentation or own,
        hooks.task_data,
    )
