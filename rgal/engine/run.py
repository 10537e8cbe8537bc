"""One teacher, one student, one recipe: the rounds of synthesis and student steps, as a machine that can be stopped.

`advance()` does one optimiser step, or changes from one kind of step to the other. Between any two calls `state_dict()`
holds all that the rest depends on: a run that was killed and goes on from its last state ends with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from rgal.core.observe import batch_norms
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.batches import (
    NEXT_BATCH,
    Augmentation,
    BatchSupply,
    GeneratorSupply,
    LastBatchSupply,
    PoolSupply,
    PrioritySupply,
)
from rgal.engine.clock import Clock
from rgal.engine.networks import FurtherNetworks
from rgal.engine.options import SHOWN, Diverged, Hooks, Position, Row, RunOptions
from rgal.engine.schedule import MODES, Mode, Schedule
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.methods.recipe import Recipe
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pool import ImagePool
from rgal.terms.objective import Progress, labels_of


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
        given = recipe.source == "given"
        if hooks.batches is None and (hooks.real is None) != (synthesises or given):
            raise ValueError("real images are for recipes without image synthesis, and only for them")
        self.recipe, self.problem, self.student, self.streams = recipe, problem, student, streams
        self.measure, self.options, self.hooks = measure, options, hooks
        self.trainable = [p for p in student.parameters() if p.requires_grad]
        self.pool = ImagePool(problem.domain.shape, problem.device, self._capacity(), options.pool_file)
        self.further = FurtherNetworks(recipe.networks, problem, student, streams, options.precision)
        shown_student = hooks.student_seen_by_synthesis or student
        others = {"student": shown_student, **self.further.nets}
        self.inversion = (
            Inversion(recipe.inversion(), problem, others, streams, options.precision, self.pool)
            if synthesises
            else None
        )
        self.schedule, self.clock = Schedule(recipe.rounds, synthesises), Clock(problem.device)
        self.synthesised = self._synthesised_batches()
        self.batches = self._student_batches()
        self.loop = StudentLoop(
            {"student": student, "teacher": problem.teacher, **self.further.nets},
            problem.domain,
            student_spec(recipe, hooks, self.pool if hooks.real is None else hooks.real),
            streams,
            options.precision,
        )
        self.mode: Mode = "synthesis"
        self.taken = 0  # images that synthesis has finished
        self._set_mode()

    def _capacity(self) -> int | None:
        if self.recipe.memory is not None:
            return self.recipe.memory.capacity
        trained_on = self.recipe.source in ("pool", "given")
        return self.options.capacity if trained_on else self.options.capacity or SHOWN

    def _synthesised_batches(self) -> PoolSupply | LastBatchSupply | GeneratorSupply | None:
        """Return the supplier that the recipe's `source` names, or None without synthesis."""
        recipe, size = self.recipe, self.recipe.rounds.batch
        if recipe.source == "given":
            return PoolSupply(self.pool, self.streams, size, recipe.per_class)
        if self.inversion is None:
            return None
        if recipe.source == "batch":
            return LastBatchSupply()
        if recipe.source == "generator":
            source, is_last = self.inversion.images, lambda: self.schedule.is_last("student")
            return GeneratorSupply(source, self.problem, self.streams, size, self.pool, is_last)
        purpose = NEXT_BATCH if self.hooks.batches is None else "replayed batches"
        if recipe.sampling is not None:
            fraction = lambda: self.progress.fraction  # noqa: E731
            return PrioritySupply(self.pool, self.streams, size, recipe.sampling, fraction, purpose)
        return PoolSupply(self.pool, self.streams, size, recipe.per_class, purpose)

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
            self._train()
        self.schedule.count(due)
        return []

    def _train(self) -> None:
        """Do one student step, move and train further networks after it, and keep the priorities that it set."""
        progress = self.progress
        if self.further.nets:
            self.further.before_student()
        batch, ctx = self.loop.step(self.batches.next(), progress)
        if losses := self.further.after("student", ctx, progress):
            self.loop.meter.add(losses)
        if ctx.priority is not None and batch.rows is not None and self.batches is self.synthesised:
            self.pool.set_priorities(batch.rows, ctx.priority.detach())

    def _synthesise(self) -> None:
        """Do one synthesis step. In interleaved rounds, every step makes a batch of its own."""
        assert self.inversion is not None
        alone = self.recipe.rounds.interleaved
        if alone or self.schedule.done["synthesis"] == 0:
            self.inversion.begin()
        ctx = self.inversion.step(self.progress)
        if losses := self.further.after("synthesis", ctx, self.progress):
            self.inversion.meter.add(losses)
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
            memory = self.recipe.memory
            room = None if memory is None else memory.making_room(self.pool, self.problem)
            self.pool.add(images, labels, room)
        self.taken += len(images)

    def _close_round(self) -> list[Row]:
        """End the round and return its rows: losses of interleaved kinds, and the evaluation where one is due."""
        rows: list[Row] = []
        if self.recipe.rounds.interleaved:
            rows += self._loss_row("synthesis") + self._loss_row("student")
        self.loop.objective.end_round()
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
            if self.recipe.student_norms == "batch":
                for norm in batch_norms(self.student):
                    norm.train()
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
            "further": self.further.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state. The run must have been made from the same arguments as the stored one."""
        self.streams.load_state_dict(state["streams"])
        self.loop.load_state_dict(state["loop"])
        if self.inversion is not None:
            self.inversion.load_state_dict(state["inversion"])
        self.pool.load_state_dict(state["pool"])
        self.batches.load_state_dict(state["batches"])
        if self.further.nets:
            self.further.load_state_dict(state["further"])
        self.schedule.load_state_dict(state["schedule"])
        self.clock.load_state_dict(state)
        self.taken, self.mode = int(state["taken"]), state["mode"]
        self._set_mode()


def student_spec(recipe: Recipe, hooks: Hooks, pool: ImagePool) -> StudentSpec:
    """Return what a recipe's student minimises, how its batches are augmented, and the pool its terms may read."""
    own = Augmentation(recipe.student_view, recipe.pairs, recipe.fmix)
    return StudentSpec(
        recipe.transfer,
        recipe.student,
        recipe.rounds.total_student_steps(),
        hooks.augmentation or own,
        hooks.task_data,
        pool,
    )
