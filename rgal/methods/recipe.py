"""A method is data: a Recipe names its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from rgal.core.optimiser import SGD, StudentOptimiser
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam, ImageSpec
from rgal.synthesis.views import View, crop_flip, identity
from rgal.tasks.class_incremental.spec import Learner
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import distillation

__all__ = [
    "INCREMENTAL",
    "SGD",
    "Follows",
    "Learner",
    "Recipe",
    "Rounds",
    "alternating",
    "dreaming",
    "learning",
    "replaying",
]

Follows = Literal["paper", "code"]  # where a paper and its release differ


@dataclass(frozen=True)
class Rounds:
    """How synthesis and student steps alternate. Budgets are steps.

    count rounds of (synthesis_steps, then student_steps); the first `warmup` rounds only synthesise. One-shot
    methods are warmup = count - 1.
    interleaved: the two kinds of step alternate inside a round, as evenly as their numbers allow, and every synthesis
    step makes a batch of its own (DAFL, ZSKT, GDFQ); a round is then what their authors call an epoch.
    synthesis_batch: images a round, or a synthesis step of an interleaved one. batch: pool images a student step.
    student_steps = 0: the student is not trained (calibration only).
    """

    count: int = 200
    synthesis_steps: int = 400
    student_steps: int = 400
    synthesis_batch: int = 256
    batch: int = 128
    warmup: int = 0
    interleaved: bool = False

    def total_student_steps(self) -> int:
        return (self.count - self.warmup) * self.student_steps


REPLAY_ROUNDS = 20  # of images, before each phase's learning: 5,120 of them at the usual 256 a round
# ABD's schedule of a phase: a tenth after epochs 100, 150 and 200 of 250.
STEPPED = SGD(0.1, 2e-4, schedule="steps", drops=((0.4, 0.1), (0.6, 0.01), (0.8, 0.001)))
# RGAL's parameters where a model learns new classes. Old and new model have the same layers: none is distilled through
# maps. At a phase's start they are one, so the old one's layers are those to spread. Batches are classes x samples.
INCREMENTAL: Mapping[str, Any] = MappingProxyType(
    {"cd": 0.0, "pairs": False, "per_class": 4, "target": "teacher"}
)
GLOBAL_VIEW: Mapping[str, View] = MappingProxyType({"global": crop_flip})


@dataclass(frozen=True)
class Recipe:
    """Everything a method is.

    images: what is optimised; None: nothing is synthesised.
    views: what the networks see in synthesis, by name; terms read "global" unless they say otherwise.
    synthesis, transfer: weighted terms of the two phases. keep: which iterate of a round enters the pool.
    source: students train on the pool, on fresh draws of a persistent generator, or on the batch that was synthesised
    last, as it is.
    student_view: augmentation of student batches. pairs: every image twice per batch, augmented independently.
    per_class: if not 0, batches of synthesis and of the student hold that many images of each of their classes, so
    that same-label pairs exist whatever the number of classes.
    fmix: mix student batches by FMix; the teacher labels the mixture.
    learner: how a model takes on new classes, of recipes for class-incremental learning: their student trains on real
    images of the new classes, and beside them on as many synthesised ones of the old if there are `images`.
    """

    images: ImageSpec | None
    transfer: tuple[LossTerm, ...] = (distillation(),)
    synthesis: tuple[LossTerm, ...] = ()
    views: Mapping[str, View] = field(default_factory=lambda: GLOBAL_VIEW)
    optimiser: Adam = Adam()
    student: StudentOptimiser = SGD()
    rounds: Rounds = Rounds()
    keep: Literal["best", "last"] = "best"
    source: Literal["pool", "generator", "batch"] = "pool"
    student_view: View = crop_flip
    pairs: bool = False
    per_class: int = 0
    fmix: bool = False
    learner: Learner | None = None

    @property
    def data_free(self) -> bool:
        """Whether no real image is used that the task keeps from its methods. The others are reference rows."""
        return self.images is not None if self.learner is None else not self.learner.joint

    def total_steps(self) -> dict[str, int]:
        """Optimiser steps of all rounds, by kind."""
        synthesis = self.rounds.count * self.rounds.synthesis_steps if self.images is not None else 0
        return {"synthesis": synthesis, "student": self.rounds.total_student_steps()}


def alternating(
    images: ImageSpec,
    synthesis: tuple[LossTerm, ...],
    transfer: tuple[LossTerm, ...],
    optimiser: Adam,
    student_steps: int,
    source: Literal["generator", "batch"] = "generator",
) -> Recipe:
    """A generator against a student: one step of the one, then `student_steps` of the other, 400 of these a round.

    The student sees images as they are, without augmentation: fresh draws of the generator, or with source "batch"
    the batch that its last step was made on. CMI's schedule for such methods: 200 rounds of 256 images a step.
    """
    rounds = Rounds(200, 400 // student_steps, 400, synthesis_batch=256, batch=256, interleaved=True)
    return Recipe(
        images=images,
        transfer=transfer,
        synthesis=synthesis,
        views={"global": identity},
        optimiser=optimiser,
        rounds=rounds,
        keep="last",
        source=source,
        student_view=identity,
    )


def learning(
    *transfer: LossTerm,
    learner: Learner = Learner(),  # noqa: B008
    student: StudentOptimiser = STEPPED,
    steps: int = 9750,
    batch: int = 128,
) -> Recipe:
    """A learner of new classes from their real images alone, under these terms; `steps` a phase of `batch` images.

    The default is ABD's 250 epochs of a phase with 5,000 images.
    """
    return Recipe(None, transfer, student=student, rounds=Rounds(1, 0, steps, batch=batch), learner=learner)


def dreaming(
    host: Recipe, synthesis: tuple[LossTerm, ...], lr: float = 1e-3, synthesis_steps: int = 10_000
) -> Recipe:
    """The learner `host` on images of an unconditional generator, which is trained before it learns and draws new ones
    in each of its steps; they are seen as they are (ABD, R-DFCIL)."""
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


def replaying(host: Recipe, source: Recipe) -> Recipe:
    """The learner `host` on the images of `source`, which come from a pool. ValueError if those do not."""
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
