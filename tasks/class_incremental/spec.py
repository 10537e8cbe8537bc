"""How a model takes on new classes: what a class-incremental recipe says beside its losses and images."""

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
    """Say how the classes of a phase are learnt from their real images, without images of earlier phases.

    Args:
        base: terms of the first phase.
        base_name: methods with the same name share the model of the first phase.
        base_optimiser: optimiser of the first phase; None: SGD, as the suite's teachers are trained.
        rotations: whether every real image is shown in its four rotations, as classes 4y + k of their own (PASS).
        keeps: which statistics of features are kept for every class (see `class_incremental.statistics`).
        refine: share of a phase's steps after which the extractor is frozen and only the classifier is trained.
        classifier: "network": trained by steps. "svc" and "fc" are fitted anew at the end of each phase, on features of
            a frozen extractor, where features of old classes are translated from those of new ones (FeTrIL).
        source_class: from which new class an old one is translated: the nearest, or the one whose translation is the
            most spread and confusing (RGAL).
        warm: whether the generator goes on from phase to phase; it then counts as kept.
        joint: whether a phase has the real images of all classes so far, as an upper bound.
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
        """Whether old classes are translated from new ones by an extractor that is never trained again."""
        return self.classifier != "network"

    @property
    def outputs(self) -> int:
        """Logits per class."""
        return 4 if self.rotations else 1

    @property
    def data_free(self) -> bool:
        """Whether the method does without real images of old classes."""
        return not self.joint

    def with_rgal(self, options: RgalOptions) -> RgalChange:
        """Return what RGAL changes: noisy means become negatives, old classes are translated from other new ones."""
        terms: tuple[LossTerm, ...] = ()
        if "radius" in self.keeps:
            terms = (prototype_relation(options.gather, options.student_band, options.margin),)
        extension = replace(self, source_class="spread") if self.translates else self
        return RgalChange(extension, terms)


def spec_of(recipe: Recipe) -> IncrementalSpec:
    """Return how a recipe takes on new classes.

    Raises:
        TypeError: the recipe was neither written nor adapted for this task.
    """
    if not isinstance(recipe.extension, IncrementalSpec):
        raise TypeError("the recipe does not say how a model takes on new classes")
    return recipe.extension
