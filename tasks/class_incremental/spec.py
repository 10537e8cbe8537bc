"""How a model takes on new classes: what a class-incremental recipe is beside its losses and its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rgal.core.optimiser import StudentOptimiser
from rgal.methods.recipe import Recipe, RgalChange
from rgal.methods.rgal_options import RgalOptions
from rgal.tasks.class_incremental.prototypes import prototype_relation
from rgal.tasks.class_incremental.statistics import Statistic
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import cross_entropy


@dataclass(frozen=True)
class IncrementalSpec:
    """Say how the classes of each phase are learnt from its own real images, without those of earlier phases.

    Args:
        base: terms of the first phase.
        base_name: methods of one name share the model of that phase.
        base_optimiser: what trains it in that phase; None: SGD as the suite's recipe of its teacher has it.
        rotations: every real image in its four rotations, as classes 4y + k of their own (PASS).
        keeps: statistics of features that are kept of every class (see `class_incremental.statistics`).
        refine: share of a phase's steps after which the extractor is frozen and only the classifier trains.
        classifier: "network" is trained by steps. The others are fitted anew at the end of each phase, on features of a
            frozen extractor, old classes being translated from new ones (FeTrIL): "svc", "fc".
        source_class: which new class an old one is translated from: the nearest, or the one whose translation is most
            spread and confusing (RGAL).
        warm: the generator goes on from phase to phase, and is part of what is kept.
        joint: the real images of all classes so far are there: an upper bound.
    """

    base: tuple[LossTerm, ...] = (cross_entropy(),)
    base_name: str = ""
    base_optimiser: StudentOptimiser | None = None
    rotations: bool = False
    keeps: tuple[Statistic, ...] = ()
    refine: float = 1.0
    classifier: Literal["network", "svc", "fc"] = "network"
    source_class: Literal["nearest", "spread"] = "nearest"
    warm: bool = False
    joint: bool = False

    @property
    def translates(self) -> bool:
        """Whether old classes are translated from new ones, and the extractor never trains again."""
        return self.classifier != "network"

    @property
    def outputs(self) -> int:
        """Logits per class."""
        return 4 if self.rotations else 1

    @property
    def data_free(self) -> bool:
        """Whether no real image of an old class is used."""
        return not self.joint

    def with_rgal(self, options: RgalOptions) -> RgalChange:
        """Return what RGAL changes: noisy means become negatives, and other classes are translated."""
        terms: tuple[LossTerm, ...] = ()
        if "radius" in self.keeps:
            terms = (prototype_relation(options.gather, options.student_band, options.margin),)
        extension = replace(self, source_class="spread") if self.translates else self
        return RgalChange(extension, terms)


def spec_of(recipe: Recipe) -> IncrementalSpec:
    """Return how a recipe takes on new classes. TypeError for one that was not written or adapted for this task."""
    if not isinstance(recipe.extension, IncrementalSpec):
        raise TypeError("the recipe does not say how a model takes on new classes")
    return recipe.extension
