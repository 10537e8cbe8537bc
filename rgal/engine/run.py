"""One teacher, one student, one recipe: the rounds of synthesis and student steps, as a machine that can be stopped.

`advance()` does one optimiser step, or closes a phase. Between any two calls `state_dict()` holds everything, so a
run that was killed and taken up again from its last stored state ends with the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rgal.core.precision import Precision
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.student import StudentLoop
from rgal.methods.recipe import Recipe
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pool import ImagePool
from rgal.tasks.class_incremental.statistics import Memory
from rgal.terms.objective import Progress, labels_of

Row = dict[str, Any]
SHOWN = 2_000  # images kept to look at


class Diverged(RuntimeError):
    """A loss is no longer finite. The message names the phase, the round and the part."""


@dataclass(frozen=True)
class Position:
    """Where a run stands, for a progress line: number `at` of `of` `unit`s. While a phase has not been timed yet,
    remaining_seconds leaves it out and `at_least` says so."""

    phase: str
    at: int
    of: int
    done: float
    remaining_seconds: float
    at_least: bool = False
    unit: str = "round"


class TransferRun:
    """See the module. `real` is a pool of real images: of those that reference rows train on, or of a learner's new
    classes, beside which its student sees as many synthesised ones. Recipes with images synthesise into a pool of their
    own. `consult` is what synthesis sees of the student (default: all of it); `memory` what the terms of a learner know
    of old classes. `measure(student)` gives the evaluation row's numbers. `train_mode` readies the student for
    training steps (default: `.train()`). `on_images(images, targets)` is told of every synthesised batch, (N,C,H,W) in
    [0,1], before the student trains on it."""

    def __init__(
        self,
        recipe: Recipe,
        problem: Problem,
        student: nn.Module,
        streams: Streams,
        measure: Callable[[nn.Module], dict[str, float]],
        precision: Precision = "fp32",
        evaluate_every: int = 1,
        real: ImagePool | None = None,
        capacity: int | None = None,
        train_mode: Callable[[nn.Module], Any] = nn.Module.train,
        on_images: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
        consult: nn.Module | None = None,
        memory: Memory = Memory(),  # noqa: B008
    ) -> None:
        synthesises, learner = recipe.images is not None, recipe.learner
        if (real is None) != (synthesises and learner is None):
            raise ValueError(
                "real images are for learners and recipes without image synthesis, and only for them"
            )
        self.recipe, self.problem, self.student, self.streams = recipe, problem, student, streams
        self.measure, self.evaluate_every, self.train_mode = measure, evaluate_every, train_mode
        self.on_images = on_images
        self.trainable = [p for p in student.parameters() if p.requires_grad]
        if recipe.source != "pool" and capacity is None:
            capacity = SHOWN
        self.real = real
        self.pool = ImagePool(problem.domain.shape, problem.device, capacity)
        self.inversion = (
            Inversion(recipe, problem, consult or student, streams, precision) if synthesises else None
        )
        self.loop = StudentLoop(
            {"student": student, "teacher": problem.teacher},
            problem.domain,
            recipe.transfer,
            recipe.student,
            recipe.rounds.total_student_steps(),
            streams,
            precision,
            recipe.student_view,
            recipe.pairs,
            recipe.fmix,
            learner is not None and learner.rotations,
            memory,
        )
        self.batch: tuple[torch.Tensor, torch.Tensor] | None = None  # for students that train on the last one
        self.round, self.phase = 0, "synthesis"
        self.done = {"synthesis": 0, "student": 0}  # steps of the current round
        self.steps = {"synthesis": 0, "student": 0}
        self.seconds = {"synthesis": 0.0, "student": 0.0}
        self.images = 0
        self._mark: float | None = None
        self._set_mode()

    # The machine ------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.round >= self.recipe.rounds.count

    def advance(self) -> list[Row]:
        """One optimiser step, the change from one phase to the other, or the end of a round; with its metric rows."""
        if self._mark is None:
            self._mark = time.perf_counter()
        due = self._due()
        if due is None:
            return self._leave(self.phase) + self._close_round()
        if due != self.phase:
            return self._enter(due)
        if due == "synthesis":
            self._synthesise()
        else:
            images, targets, real = self._student_batch()
            self.loop.step(images, targets, self.progress, real)
        self.done[due] += 1
        self.steps[due] += 1
        return []

    def quota(self) -> dict[str, int]:
        """Optimiser steps of the current round."""
        rounds = self.recipe.rounds
        return {
            "synthesis": rounds.synthesis_steps if self.inversion is not None else 0,
            "student": rounds.student_steps if self.round >= rounds.warmup else 0,
        }

    def _due(self) -> str | None:
        """The phase that the next step belongs to; None at the end of the round."""
        quota, done = self.quota(), self.done
        behind = done["student"] * quota["synthesis"] < done["synthesis"] * quota["student"]
        if self.recipe.rounds.interleaved and behind:
            return "student"
        return next((phase for phase in ("synthesis", "student") if done[phase] < quota[phase]), None)

    @property
    def progress(self) -> Progress:
        rounds = self.recipe.rounds
        within = 0.0
        if self.recipe.learner is not None and self.phase == "student":
            within = self.done["student"] / max(1, rounds.student_steps)
        return Progress(self.round, rounds.count, rounds.warmup, within)

    def _synthesise(self) -> None:
        assert self.inversion is not None
        alone = self.recipe.rounds.interleaved
        if alone or self.done["synthesis"] == 0:
            self.inversion.begin()
        self.inversion.step(self.progress)
        if alone:
            self._take_images()

    def _student_batch(self) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Images (N,C,H,W), targets, and how many of them, the first, are real ones of new classes."""
        batch = self.recipe.rounds.batch
        if self.real is None:
            return *self._synthesised(batch), 0
        rng = self.streams.get("student batches")
        images, targets = self.real.sample(batch, rng, self.recipe.per_class)
        if self.recipe.learner is None:
            return images, targets, 0
        if self.inversion is None:
            return images, targets, batch
        replayed, theirs = self._synthesised(batch)
        return torch.cat([images, replayed]), torch.cat([targets, labels_of(theirs)]), batch

    def _synthesised(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.recipe.source == "pool":
            purpose = "student batches" if self.real is None else "replayed batches"
            return self.pool.sample(batch, self.streams.get(purpose), self.recipe.per_class)
        if self.recipe.source == "batch":
            assert self.batch is not None
            return self.batch
        assert self.inversion is not None
        images = self.inversion.images.draw(batch, self.streams.get("student batches"))
        self.images += len(images)
        # To look at, the pool keeps the last of each round, under the labels that the teacher gives them.
        if self.done["student"] + 1 >= self.quota()["student"]:
            with torch.no_grad():
                seen = self.problem.teacher(self.problem.domain.normalise(images))
            self.pool.add(images, seen.argmax(1))
        return images, images.new_zeros(batch, dtype=torch.int64)

    def _leave(self, phase: str) -> list[Row]:
        """End a phase. Interleaved ones are summed up at the end of the round."""
        interleaved = self.recipe.rounds.interleaved
        if phase == "synthesis":
            if self.inversion is None:
                return []
            unmade = not self.quota()["synthesis"]
            if unmade:
                self.inversion.begin()
            if unmade or not interleaved:
                self._take_images()
        self._lap()
        return [] if interleaved else self._phase_row(phase)

    def _enter(self, phase: str) -> list[Row]:
        rows = self._leave(self.phase)
        self.phase = phase
        self._set_mode()
        return rows

    def _take_images(self) -> None:
        """The images that are done, to where the student finds them."""
        assert self.inversion is not None
        images, targets = self.inversion.finish()
        labels = labels_of(targets)
        if self.on_images is not None:
            self.on_images(images, labels)
        if self.recipe.source == "generator":
            return
        if self.recipe.source == "batch":
            self.batch = images, targets
        # Of a student that sees every batch once, the pool keeps the last of each round, to look at.
        if self.recipe.source == "pool" or self.done["synthesis"] + 1 >= self.quota()["synthesis"]:
            self.pool.add(images, labels)
        self.images += len(images)

    def _phase_row(self, phase: str) -> list[Row]:
        if not self.quota()[phase]:
            return []
        meter = self.loop.meter if phase == "student" or self.inversion is None else self.inversion.meter
        return [self._row(phase, self._finite(phase, meter.take()))]

    def _close_round(self) -> list[Row]:
        rows: list[Row] = []
        if self.recipe.rounds.interleaved:
            rows += self._phase_row("synthesis") + self._phase_row("student")
        self.round += 1
        due = self.finished or self.round % self.evaluate_every == 0
        if due and (self.finished or self.steps["student"]):
            rows.append(self._row("evaluation", self.measure(self.student)))
        self._mark = None
        self.done = {"synthesis": 0, "student": 0}
        self.phase = "synthesis"
        self._set_mode()
        return rows

    def _set_mode(self) -> None:
        """Frozen while images are synthesised, training otherwise."""
        if self.phase == "synthesis":
            self.student.eval()
        else:
            self.train_mode(self.student)
        for parameter in self.trainable:
            parameter.requires_grad_(self.phase == "student")
            if self.phase == "synthesis":
                parameter.grad = None

    # Reporting --------------------------------------------------------------------------------------------------

    def _row(self, kind: str, values: dict[str, float]) -> Row:
        return {
            "kind": kind,
            "round": self.round if kind == "evaluation" else self.round + 1,
            "synthesis_steps": self.steps["synthesis"],
            "student_steps": self.steps["student"],
            "images": self.images,
            "synthesis_seconds": round(self.seconds["synthesis"], 3),
            "student_seconds": round(self.seconds["student"], 3),
            **values,
        }

    def _finite(self, phase: str, values: dict[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"the {phase} loss part '{name}' became {value} in round {self.round + 1}; "
                    "lower the learning rate or use fp32"
                )
        return values

    def _lap(self) -> None:
        """Add the time since the mark to the current phase, with the device synchronised."""
        if self._mark is None:
            return
        if self.problem.device.type == "cuda":
            torch.cuda.synchronize(self.problem.device)
        now = time.perf_counter()
        self.seconds[self.phase] += now - self._mark
        self._mark = now

    def position(self) -> Position:
        rounds, total = self.recipe.rounds, self.recipe.total_steps()
        running = 0.0 if self._mark is None else time.perf_counter() - self._mark
        spent = {k: v + (running if k == self.phase else 0.0) for k, v in self.seconds.items()}
        left = {kind: steps - self.steps[kind] for kind, steps in total.items()}
        remaining = sum(n * spent[kind] / self.steps[kind] for kind, n in left.items() if self.steps[kind])
        untimed = any(n and not self.steps[kind] for kind, n in left.items())
        # Ranges alone take no steps at all.
        done = sum(self.steps.values()) / sum(total.values()) if sum(total.values()) else float(self.finished)
        return Position(self.phase, min(self.round + 1, rounds.count), rounds.count, done, remaining, untimed)

    def loss(self) -> float | None:
        """Mean total loss of the current phase so far (synchronises)."""
        if self.phase == "student" or self.inversion is None:
            return self.loop.meter.peek("total")
        return self.inversion.meter.peek("total")

    # State ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        self._lap()
        state = {
            "cursor": (self.round, self.phase),
            "done": dict(self.done),
            "batch": self.batch,
            "steps": dict(self.steps),
            "seconds": dict(self.seconds),
            "images": self.images,
            "streams": self.streams.state_dict(),
            "loop": self.loop.state_dict(),
            "inversion": None if self.inversion is None else self.inversion.state_dict(),
            "pool": self.pool.state_dict(),
            # Real images come from the data set; only where sampling stands in them is stored.
            "real": None if self.real is None else self.real.state_dict(contents=False),
        }
        self._mark = None if self._mark is None else time.perf_counter()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])
        self.loop.load_state_dict(state["loop"])
        if self.inversion is not None:
            self.inversion.load_state_dict(state["inversion"])
        self.pool.load_state_dict(state["pool"])
        if self.real is not None:
            self.real.load_state_dict(state["real"])
        self.steps, self.seconds = dict(state["steps"]), dict(state["seconds"])
        self.images = int(state["images"])
        self.round, self.phase = state["cursor"]
        self.done, self.batch = dict(state["done"]), state["batch"]
        self._set_mode()
        self._mark = None
