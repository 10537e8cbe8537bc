"""Held-out images: what a student and its teacher are compared on where nobody has a labelled test image.

They are synthesised from the teacher alone, by one recipe for all methods and from random streams of their own, and no
student trains on them: classes are equally frequent, pixels minimise cross-entropy, total variation and, where the
teacher has them, the distance of batch norm statistics (the losses and weights of DeepInversion, Yin et al. 2020, for
small images). The same teacher and numbers give the same images.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rgal.core.observe import batch_norms
from rgal.core.precision import Precision
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.options import Diverged, Position, Row
from rgal.synthesis.image_source import Adam
from rgal.synthesis.loop import Inversion, InversionSpec
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.views import jitter_flip
from rgal.terms.inversion import bn_statistics, one_hot, total_variation
from rgal.terms.objective import Progress


@dataclass(frozen=True)
class HeldOutSpec:
    """How many held-out images there are, and how they are made.

    Args:
        images: how many.
        steps: optimiser steps of each batch.
        batch: images that are optimised together.
    """

    images: int = 512
    steps: int = 250
    batch: int = 128

    @property
    def batches(self) -> int:
        """Return how many batches it takes; the last one is as large as the others, and cut."""
        return math.ceil(self.images / self.batch)


class HeldOutRun:
    """Synthesise the held-out images of a teacher, step by step, so that it can be stopped between any two.

    Args:
        problem: the teacher and its domain.
        spec: how many images, and how.
        streams: where all draws come from; see `held_out_streams`.
        precision: of the teacher's forward passes.
    """

    def __init__(
        self, problem: Problem, spec: HeldOutSpec, streams: Streams, precision: Precision = "fp32"
    ) -> None:
        self.problem, self.spec, self.streams = problem, spec, streams
        norms = (bn_statistics(10.0),) if batch_norms(problem.teacher) else ()
        recipe = InversionSpec(
            images=Pixels(),
            terms=(one_hot(1.0), total_variation(1e-3, "l1"), *norms),
            views={"global": jitter_flip(4)},
            optimiser=Adam(0.1, (0.5, 0.99)),
            batch=spec.batch,
            steps=spec.steps,
        )
        self.inversion = Inversion(recipe, problem, {"student": problem.teacher}, streams, precision)
        self.pool = ImagePool(problem.domain.shape, problem.device)
        self.step = 0  # of the current batch
        self._began, self._taken = time.perf_counter(), 0

    @property
    def finished(self) -> bool:
        return self.pool.added >= self.spec.batches * self.spec.batch

    def advance(self) -> list[Row]:
        """Do one step; after the last one of a batch, keep its images and return a row with the mean losses.

        Raises:
            Diverged: a loss is no longer finite.
        """
        if self.step == 0:
            self.inversion.begin()
        batch = self.pool.added // self.spec.batch
        self.inversion.step(Progress(batch, self.spec.batches))
        self.step, self._taken = self.step + 1, self._taken + 1
        if self.step < self.spec.steps:
            return []
        self.pool.add(*self.inversion.finish())
        self.step = 0
        losses = self.inversion.meter.take()
        for name, value in losses.items():
            if not math.isfinite(value):
                raise Diverged(f"held-out images: the loss part '{name}' became {value}")
        return [{"kind": "held-out images", "round": batch + 1, "images": self.pool.added, **losses}]

    def images(self) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 (N,C,H,W), and the classes (N,) they were made for, both on the host."""
        wanted = slice(self.spec.images)
        return self.pool.images[wanted].cpu(), self.pool.targets[wanted].cpu()

    def position(self) -> Position:
        total = self.spec.batches * self.spec.steps
        at = self.pool.added // self.spec.batch
        done = (at * self.spec.steps + self.step) / total
        each = (time.perf_counter() - self._began) / max(1, self._taken)
        return Position("synthesis", at + 1, self.spec.batches, done, each * total * (1 - done), unit="batch")

    def loss(self) -> float | None:
        return self.inversion.meter.peek("total")

    def state_dict(self) -> dict[str, Any]:
        return {
            "inversion": self.inversion.state_dict(),
            "streams": self.streams.state_dict(),
            "pool": self.pool.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])
        self.inversion.load_state_dict(state["inversion"])
        self.pool.load_state_dict(state["pool"])
        self.step = int(state["step"])


def held_out_streams(problem: Problem, teacher: str) -> Streams:
    """Return the streams of a teacher's held-out images, which no trial shares. teacher: the network's name."""
    return Streams(problem.device, "held-out images", teacher)


def held_out_images(
    problem: Problem, spec: HeldOutSpec, teacher: str = "", precision: Precision = "fp32"
) -> tuple[Tensor, Tensor]:
    """Synthesise the held-out images of a teacher in one go; see `HeldOutRun`."""
    run = HeldOutRun(problem, spec, held_out_streams(problem, teacher), precision)
    while not run.finished:
        run.advance()
    return run.images()
