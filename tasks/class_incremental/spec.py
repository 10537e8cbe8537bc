"""How a model takes on new classes: what a class-incremental recipe is beside its losses and its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rgal.tasks.class_incremental.statistics import Kept
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import cross_entropy


@dataclass(frozen=True)
class Learner:
    """The classes of each phase are learnt from its own real images; nothing of earlier ones is there.

    base: terms of the first phase. base_name: methods of one name share that phase's model.
    rotations: every real image in its four rotations, as classes 4y + k of their own (PASS).
    keeps: statistics of features that are kept of every class (see rgal.tasks.class_incremental.statistics).
    refine: share of a phase's steps after which the extractor is frozen and only the classifier trains.
    classifier: "network", trained by steps; else refitted at the end of each phase on features of a frozen extractor,
    old classes translated from new ones (FeTrIL): "svc", "fc". donor: which new class an old one is translated from,
    the nearest, or the one whose translation is most spread and confusing (RGAL).
    warm: the generator goes on from phase to phase, and is part of what is kept.
    joint: the real images of all classes so far are there: an upper bound.
    """

    base: tuple[LossTerm, ...] = (cross_entropy(),)
    base_name: str = ""
    rotations: bool = False
    keeps: tuple[Kept, ...] = ()
    refine: float = 1.0
    classifier: Literal["network", "svc", "fc"] = "network"
    donor: Literal["nearest", "spread"] = "nearest"
    warm: bool = False
    joint: bool = False

    @property
    def translates(self) -> bool:
        return self.classifier != "network"

    @property
    def outputs(self) -> int:
        """Of the classifier, for each class."""
        return 4 if self.rotations else 1
