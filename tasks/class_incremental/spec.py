"""How a model takes on new classes: what a class-incremental recipe says beside its losses and images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from rgal.core.optimiser import StudentOptimiser
from rgal.methods.recipe import Recipe, RgalChange
from rgal.methods.rgal_options import RgalOptions
from rgal.tasks.class_incremental.compensation import Compensation
from rgal.tasks.class_incremental.head import NearestRow, OneLogitPerClass
from rgal.tasks.class_incremental.prototypes import prototype_relation
from rgal.tasks.class_incremental.rebalance import Rebalance
from rgal.tasks.class_incremental.scoring import StatisticClassifier
from rgal.tasks.class_incremental.statistics import Statistic
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import cross_entropy

Part = Literal["extractor", "norms", "old outputs"]


@dataclass(frozen=True)
class IncrementalSpec:
    """Say how the classes of a phase are learnt from their real images, without images of earlier phases.

    Args:
        base: terms of the first phase.
        base_name: methods with the same name share the model of the first phase.
        base_optimiser: optimiser of the first phase; None: SGD, as the suite's teachers are trained.
        base_rotations: whether images of the first phase are shown in their four rotations, as classes of their own, of
            which the upright ones stay after it (EFC, AdaGauss).
        rotations: whether every real image is shown in its four rotations, as classes 4y + k of their own (PASS).
        plain_output: whether a class has one logit more, before those of its rotations, by which it is scored (PRAKA).
        keeps: which statistics of features are kept for every class (see `class_incremental.statistics`).
        refine: share of a phase's steps after which the extractor is frozen and only the classifier is trained.
        power: of features before their covariances are taken (see `statistics.Collecting`).
        frozen: parts of the network that are never trained after the first phase. "extractor": all but the classifier,
            and no steps are taken; "norms": batch norms, affine part and statistics; "old outputs": the classifier's
            rows of old classes.
        compensate: moves the statistics of old classes at the end of a phase (see `class_incremental.compensation`).
        rebalance: trains the classifier alone at the end of a phase, see `class_incremental.rebalance`.
        classifier: what test images are shown. "network": its own classifier, trained by steps. "svc" and "fc": the
            same, fitted anew at the end of each phase, on features of a frozen extractor, where features of old classes
            are translated from those of new ones (FeTrIL). "rows": the class whose first row in the network's
            classifier has the least angle to the feature (NAPA-VQ). Else a classifier that is computed from the
            statistics (see `class_incremental.scoring`).
        source_class: from which new class an old one is translated: the nearest, or the one whose translation is the
            most spread and confusing (RGAL).
        warm: whether the generator goes on from phase to phase; it then counts as kept.
        joint: whether a phase has the real images of all classes so far, as an upper bound.
    """

    base: tuple[LossTerm, ...] = (cross_entropy(),)
    base_name: str = ""
    base_optimiser: StudentOptimiser | None = None
    base_rotations: bool = False
    rotations: bool = False
    plain_output: bool = False
    keeps: tuple[Statistic, ...] = ()
    refine: float = 1.0
    power: float = 1.0
    frozen: tuple[Part, ...] = ()
    compensate: Compensation | None = None
    rebalance: Rebalance | None = None
    classifier: Literal["network", "svc", "fc", "rows"] | StatisticClassifier = "network"
    source_class: Literal["nearest", "spread"] = "nearest"
    warm: bool = False
    joint: bool = False

    @property
    def translates(self) -> bool:
        """Whether the classifier is fitted to translations of old classes from new ones."""
        return self.classifier in ("svc", "fc")

    @property
    def learns(self) -> bool:
        """Whether the network is trained after the first phase."""
        return "extractor" not in self.frozen

    @property
    def base_outputs(self) -> int:
        """Logits per class in the first phase."""
        return 4 if self.base_rotations else self.outputs

    @property
    def outputs(self) -> int:
        """Logits per class."""
        return (4 if self.rotations else 1) + self.plain_output

    def scored(self, net: nn.Module, outputs: int) -> nn.Module:
        """Return what shows one score per class of a network with `outputs` logits per class."""
        return NearestRow(net, outputs) if self.classifier == "rows" else OneLogitPerClass(net, outputs)

    @property
    def data_free(self) -> bool:
        """Whether the method does without real images of old classes."""
        return not self.joint

    def with_rgal(self, options: RgalOptions) -> RgalChange:
        """Return what RGAL changes: noisy means become negatives, old classes are translated from other new ones.

        Raises:
            ValueError: the network is not trained, and nothing is chosen that a triplet could choose.
        """
        if not self.learns and not self.translates:
            raise ValueError(
                "its extractor is frozen and its classifier a closed formula: there is nothing that RGAL could train"
            )
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
