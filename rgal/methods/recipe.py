"""A method is data: a Recipe names its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from rgal.core.optimiser import SGD, StudentOptimiser
from rgal.synthesis.image_source import Adam, ImageSpec
from rgal.synthesis.loop import InversionSpec
from rgal.synthesis.views import View, crop_flip, identity
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import distillation

if TYPE_CHECKING:
    from rgal.methods.plus_rgal import RgalChange, RgalOptions

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


GLOBAL_VIEW: Mapping[str, View] = MappingProxyType({"global": crop_flip})


class RecipeExtension(Protocol):
    """What a task adds to its recipes. The core asks it these two things and hands it on."""

    @property
    def data_free(self) -> bool:
        """Whether no real image is used that the task keeps from its methods."""
        ...

    def with_rgal(self, options: RgalOptions) -> RgalChange:
        """Return what changes when RGAL is added to the recipe."""
        ...


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
    extension: what only one task knows about its recipes, such as how a model takes on new classes.
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
    extension: RecipeExtension | None = None

    @property
    def data_free(self) -> bool:
        """Whether no real image is used that the task keeps from its methods. The others are reference rows."""
        return self.images is not None if self.extension is None else self.extension.data_free

    def inversion(self) -> InversionSpec:
        """Return what the inversion loop needs. ValueError for a recipe that synthesises nothing."""
        if self.images is None:
            raise ValueError("the recipe synthesises no images")
        return InversionSpec(
            images=self.images,
            terms=self.synthesis,
            views=self.views,
            optimiser=self.optimiser,
            batch=self.rounds.synthesis_batch,
            steps=self.rounds.synthesis_steps,
            keep=self.keep,
            per_class=self.per_class,
        )

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
