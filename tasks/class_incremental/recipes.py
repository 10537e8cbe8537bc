"""Recipes of class-incremental learning: from real images of new classes alone, or with replayed images of old ones."""

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
from rgal.tasks.class_incremental.terms import local_cross_entropy, old_logit_distillation
from rgal.terms.objective import LossTerm

REPLAY_ROUNDS = 20  # rounds of synthesis before a phase is learnt: 5,120 images at the usual 256 per round
# ABD's schedule of a phase: a tenth after epochs 100, 150 and 200 of 250.
STEPPED = SGD(0.1, 2e-4, schedule="steps", drops=((0.4, 0.1), (0.6, 0.01), (0.8, 0.001)))
# The budget `paper` of this host, on every data set: what a suite says for others is not for it.
DISTILLED_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "student_steps": {"epochs": 100},
        "batch": 128,
        "student_lr": 0.05,
        "student_weight_decay": 2e-4,
        "student_drops": [[0.45, 0.1], [0.9, 0.01]],
    }
)
# RGAL's parameters where a model learns new classes. Old and new model have the same layers, so nothing is distilled
# through maps. At the start of a phase the two are equal, so images are spread on the layers of the old one. Batches
# hold several images of each of their classes.
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
        steps: optimiser steps in each phase.
        batch: real images per step.
    """
    return Recipe(None, transfer, student=student, rounds=Rounds(1, 0, steps, batch=batch), extension=spec)


def distilled(kd: float, spec: IncrementalSpec) -> Recipe:
    """Learn new classes by local cross-entropy and LwF's distillation, the host of LDC, ADC and DPCR.

    Their schedule of a phase: SGD at 0.05, a tenth after epochs 45 and 90 of 100, batches of 128.

    Args:
        kd: weight of the distillation, T = 2.
        spec: what is kept, how it is compensated for drift, and what classifies.
    """
    student = SGD(0.05, 2e-4, schedule="steps", drops=((0.45, 0.1), (0.9, 0.01)))
    return incremental(
        local_cross_entropy(), old_logit_distillation(kd), spec=spec, student=student, steps=4000
    )


def generated_replay(
    host: Recipe, synthesis: tuple[LossTerm, ...], lr: float = 1e-3, synthesis_steps: int = 10_000
) -> Recipe:
    """Add the replay of images of an unconditional generator to a recipe (ABD, R-DFCIL).

    The generator is trained before a phase is learnt. It draws new images in each step of the phase, which are shown
    without augmentation.

    Args:
        host: a recipe that learns new classes.
        synthesis: terms that the generator minimises.
        lr: learning rate of the generator.
        synthesis_steps: optimiser steps of the generator in each phase.
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
    """Add the replay of images that another recipe synthesises into a pool.

    Args:
        host: a recipe that learns new classes.
        source: the recipe of the images.

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
    """Let a recipe replay the images of the method called `source` in place of its own; "" changes nothing.

    Raises:
        ValueError: that method makes no images that could be replayed.
    """
    if not source:
        return host
    try:
        return pool_replay(host, resolve(source, None, RGAL_DEFAULTS).recipe)
    except ValueError as error:
        raise ValueError(f"source={source}: {error}") from error
