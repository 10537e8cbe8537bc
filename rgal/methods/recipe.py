"""Recipes: a method as data, which names the parts of the machine that every method shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from rgal.core.optimiser import SGD, StudentOptimiser
from rgal.methods.networks import FurtherNetwork
from rgal.methods.rgal_options import RgalOptions
from rgal.synthesis.image_source import Adam, ImageSpec
from rgal.synthesis.loop import InversionSpec
from rgal.synthesis.sampling import Memory, Prioritised
from rgal.synthesis.views import View, crop_flip, identity
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import distillation


@dataclass(frozen=True)
class Rounds:
    """Say how synthesis and student steps alternate: in each round the synthesis steps, then the student steps.

    >>> Rounds(count=200, student_steps=400, warmup=20).total_student_steps()
    72000

    Args:
        count: number of rounds.
        synthesis_steps: optimiser steps of the images in each round.
        student_steps: optimiser steps of the student in each round. With 0 the student is never trained, for methods
            that only calibrate it.
        synthesis_batch: images that a round makes, or, if interleaved, each synthesis step.
        batch: images per student step.
        warmup: how many of the first rounds synthesise only. One-shot methods have warmup = count - 1.
        interleaved: whether the two kinds of step alternate inside a round, as evenly as their numbers allow. Every
            synthesis step then makes a batch of its own (DAFL, ZSKT, GDFQ), and a round is what these authors call an
            epoch.
    """

    count: int = 200
    synthesis_steps: int = 400
    student_steps: int = 400
    synthesis_batch: int = 256
    batch: int = 128
    warmup: int = 0
    interleaved: bool = False

    def total_student_steps(self) -> int:
        """Return the number of student steps in all rounds."""
        return (self.count - self.warmup) * self.student_steps


GLOBAL_VIEW: Mapping[str, View] = MappingProxyType({"global": crop_flip})


class RecipeExtension(Protocol):
    """What a task adds to its recipes. The core asks it these two questions and hands it on to the task."""

    @property
    def data_free(self) -> bool:
        """Whether the recipe does without the real images that the task keeps from its methods."""
        ...

    def with_rgal(self, options: RgalOptions) -> RgalChange:
        """Return what changes when RGAL is added to the recipe."""
        ...


@dataclass(frozen=True)
class RgalChange:
    """What RGAL changes in a recipe that belongs to one task.

    Args:
        extension: the recipe's new extension.
        terms: further terms of the student's objective.
    """

    extension: RecipeExtension | None = None
    terms: tuple[LossTerm, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Hold everything that a method is.

    Args:
        images: what is optimised to make images; None: nothing is synthesised.
        transfer: weighted terms that the student minimises.
        synthesis: weighted terms that the images minimise.
        views: what the networks are shown in synthesis, by name. Terms read "global" unless they say otherwise.
        optimiser: of the images.
        student: optimiser and learning rates of the student.
        rounds: how synthesis and student steps alternate.
        student_norms: by which statistics the student's batch norms normalise in synthesis: their running ones, or
            those of the batch, which move the running ones too, as where authors leave a student in training mode.
        keep: which images of a round enter the pool: those of the step with the least loss, or of the last step.
        source: what the student trains on: the pool, fresh draws of a persistent generator, the batch that was
            synthesised last, as it is, or a pool that the run is given, without any synthesis.
        student_view: augmentation of student batches.
        pairs: whether every image is in a student batch twice, augmented independently.
        per_class: if not 0, batches of synthesis and of the student hold that many images of each of their classes, so
            that there are pairs of one label whatever the number of classes.
        fmix: whether student batches are mixed by FMix. The teacher labels the mixtures.
        sampling: how student batches are drawn from a pool by priority; None: in shuffled epochs.
        memory: how many images the pool holds, and which make room for new ones; None: it holds all.
        networks: further networks, which terms read by these names beside "teacher" and "student".
        extension: what only one task understands of its recipes, such as how a model takes on new classes.
    """

    images: ImageSpec | None
    transfer: tuple[LossTerm, ...] = (distillation(),)
    synthesis: tuple[LossTerm, ...] = ()
    views: Mapping[str, View] = field(default_factory=lambda: GLOBAL_VIEW)
    optimiser: Adam = Adam()
    student: StudentOptimiser = SGD()
    rounds: Rounds = Rounds()
    student_norms: Literal["running", "batch"] = "running"
    keep: Literal["best", "last"] = "best"
    source: Literal["pool", "generator", "batch", "given"] = "pool"
    student_view: View = crop_flip
    pairs: bool = False
    per_class: int = 0
    fmix: bool = False
    sampling: Prioritised | None = None
    memory: Memory | None = None
    networks: Mapping[str, FurtherNetwork] = field(default_factory=lambda: MappingProxyType({}))
    extension: RecipeExtension | None = None

    def __post_init__(self) -> None:
        """Refuse what no run could do. Raises ValueError."""
        if self.source != "pool" and (self.sampling or self.memory):
            raise ValueError(
                "images are drawn by priority, and make room, in a pool that a method fills only"
            )
        if self.sampling is not None and self.per_class:
            raise ValueError("images are drawn by priority or by class (per_class), not both")
        if reserved := {"teacher", "student"} & set(self.networks):
            raise ValueError(f"a further network is called '{reserved.pop()}', which there is one of already")

    @property
    def data_free(self) -> bool:
        """Whether the recipe does without the real images that its task keeps from methods."""
        if self.extension is not None:
            return self.extension.data_free
        return self.images is not None or self.source == "given"

    def inversion(self) -> InversionSpec:
        """Return what the inversion loop needs.

        Raises:
            ValueError: the recipe synthesises nothing.
        """
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
        """Return the optimiser steps of all rounds, by kind of step."""
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
    """Make the recipe of a game: one step of a generator, then `student_steps` of the student, and so on.

    Rounds are CMI's for such methods: 200 of 400 student steps, with 256 images in each step. The student sees images
    without augmentation.

    Args:
        images: the generator.
        synthesis: terms that the generator minimises.
        transfer: terms that the student minimises.
        optimiser: of the generator.
        student_steps: student steps after each step of the generator.
        source: "generator": the student trains on fresh draws; "batch": on the batch of the generator's last step.
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
