"""The student loop: optimiser steps under an objective. Teachers, students and reference rows are trained by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rgal.core.meters import Meter
from rgal.core.optimiser import StudentOptimiser
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain
from rgal.core.seeding import Streams, global_seed, seed_for
from rgal.engine.batches import Augmentation, StudentBatch
from rgal.terms.context import Context, PoolView
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext


@dataclass(frozen=True)
class StudentSpec:
    """Say what a student minimises, and how.

    Args:
        terms: the terms of its objective.
        optimiser: optimiser and learning rates.
        total_steps: length of the schedule of learning rates, in steps.
        augmentation: how batches are shown to the student.
        task_data: what a task hands to its own terms; None elsewhere.
        pool: the images that terms may read the statistics of; None where there is no pool.
    """

    terms: tuple[LossTerm, ...]
    optimiser: StudentOptimiser
    total_steps: int
    augmentation: Augmentation = Augmentation()
    task_data: object | None = None
    pool: PoolView | None = None


class StudentLoop:
    """Train `nets["student"]` on batches. The other networks are observed without gradient.

    One call of `step` is one optimiser step. `state_dict` holds all that later steps depend on.

    Args:
        nets: networks by the names that terms read, "student" among them.
        domain: the image domain.
        spec: terms, optimiser, number of steps, augmentation.
        streams: random draws of augmentation and terms.
        precision: "fp32" or "bf16", of the forward passes.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        domain: Domain,
        spec: StudentSpec,
        streams: Streams,
        precision: Precision = "fp32",
    ) -> None:
        self.student, self.domain, self.spec = nets["student"], domain, spec
        self.streams, self.precision = streams, precision
        self.device = next(self.student.parameters()).device
        seed = seed_for(*streams.parts, "student terms")
        context = TermContext(domain, nets, seed, spec.task_data, spec.pool, spec.total_steps)
        self.objective = Objective(spec.terms, context, no_grad=set(nets) - {"student"}).to(self.device)
        trainable = [p for p in self.student.parameters() if p.requires_grad]
        self.optimiser = spec.optimiser.make_for(
            self.student,
            [*trainable, *self.objective.parameters()],
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.steps = 0
        self.meter = Meter()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.spec.optimiser.learning_rate(step, self.spec.total_steps)

    def step(
        self,
        batch: StudentBatch,
        progress: Progress = Progress(),  # noqa: B008
    ) -> tuple[StudentBatch, Context]:
        """Do one optimiser step on a batch, without synchronising the host.

        Returns:
            The batch as it was augmented, and the context that the terms were given.
        """
        batch, shown = self.spec.augmentation(batch, self.domain, self.streams)
        inputs = self.domain.normalise(shown).contiguous(memory_format=torch.channels_last)
        # Dropout draws from torch's own stream: seeded by the step, a run that was stopped goes on with the same draws.
        with (
            global_seed(*self.streams.parts, "student step", self.steps),
            autocast(self.device, self.precision),
        ):
            total, parts, ctx = self.objective(
                batch.images,
                batch.targets,
                {"global": inputs},
                self.streams,
                progress,
                batch.groups,
                batch.weights,
            )
        self.spec.optimiser.set_rates(self.optimiser, self.steps, self.spec.total_steps)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        self.objective.stepped(ctx)
        self.steps += 1
        self.meter.add(parts)
        return batch, ctx

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        return {
            "student": self.student.state_dict(),
            "terms": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["terms"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = int(state["steps"])
        self.meter.load_state_dict(state["meter"])
