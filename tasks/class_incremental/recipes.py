"""Recipes of class-incremental learners: from real images alone, and beside them on replayed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from rgal.core.optimiser import SGD, StudentOptimiser
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import resolve
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.views import identity
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.terms.objective import LossTerm

REPLAY_ROUNDS = 20  # of images, before each phase's learning: 5,120 of them at the usual 256 per round
# ABD's schedule of a phase: a tenth after epochs 100, 150 and 200 of 250.
STEPPED = SGD(0.1, 2e-4, schedule="steps", drops=((0.4, 0.1), (0.6, 0.01), (0.8, 0.001)))
# RGAL's parameters where a model learns new classes. Old and new model have the same layers: none is distilled through
# maps. At a phase's start they are one, so the old one's layers are those to spread. Batches are classes x samples.
RGAL_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"cd": 0.0, "pairs": False, "per_class": 4, "target": "teacher"}
)


def incremental(
    *transfer: LossTerm,
    spec: IncrementalSpec = IncrementalSpec(),  # noqa: B008
    student: StudentOptimiser = STEPPED,
    steps: int = 9750,
    batch: int = 128,
) -> Recipe:
    """Learn new classes from their real images alone, under these terms.

    The default is ABD's 250 epochs of a phase with 5,000 images.

    Args:
        transfer: what the model minimises in each phase after the first.
        spec: how it takes on new classes.
        student: optimiser and learning rates, anew in each phase.
        steps: optimiser steps per phase.
        batch: real images per step.
    """
    return Recipe(None, transfer, student=student, rounds=Rounds(1, 0, steps, batch=batch), extension=spec)


def generated_replay(
    host: Recipe, synthesis: tuple[LossTerm, ...], lr: float = 1e-3, synthesis_steps: int = 10_000
) -> Recipe:
    """Let a learner replay images of an unconditional generator (ABD, R-DFCIL).

    The generator is trained before each phase is learnt and draws new images in each of its steps, which are seen as
    they are.

    Args:
        host: the learner.
        synthesis: what the generator minimises.
        lr: the generator's learning rate.
        synthesis_steps: its optimiser steps per phase.
    """
    return replace(
        host,
        images=PersistentGenerator(latent=1000),
        views={"global": identity},
        synthesis=synthesis,
        optimiser=Adam(lr, (0.9, 0.999)),
        keep="last",
        source="generator",
        student_view=identity,
        rounds=replace(host.rounds, synthesis_steps=synthesis_steps, synthesis_batch=host.rounds.batch),
    )


def pool_replay(host: Recipe, source: Recipe) -> Recipe:
    """Let a learner replay the images that another recipe synthesises into a pool.

    Raises:
        ValueError: the source does not fill a pool in rounds.
    """
    if source.images is None or source.source != "pool" or source.rounds.interleaved:
        raise ValueError("a source of replayed images synthesises rounds of them into a pool")
    return replace(
        host,
        images=source.images,
        synthesis=source.synthesis,
        views=source.views,
        optimiser=source.optimiser,
        keep=source.keep,
        source="pool",
        student_view=source.student_view,
        per_class=source.per_class,
        rounds=replace(
            host.rounds,
            count=REPLAY_ROUNDS,
            warmup=REPLAY_ROUNDS - 1,
            synthesis_steps=source.rounds.synthesis_steps,
            synthesis_batch=source.rounds.synthesis_batch,
        ),
    )


def from_source(source: str, host: Recipe) -> Recipe:
    """Let a learner replay the images of the method called `source`; "" leaves it its own.

    Raises:
        ValueError: that method makes no images that could be replayed.
    """
    if not source:
        return host
    try:
        return pool_replay(host, resolve(source, None, RGAL_DEFAULTS).recipe)
    except ValueError as error:
        raise ValueError(f"source={source}: {error}") from error
