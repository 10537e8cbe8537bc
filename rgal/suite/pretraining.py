"""What a teacher is trained for: a task's answer, which the suite turns into a trained or imported network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from rgal.core.optimiser import StudentOptimiser
from rgal.core.problem import Domain
from rgal.data import Dataset
from rgal.engine.batches import Augmentation
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import cross_entropy


def as_it_is(net: nn.Module) -> nn.Module:
    """Return the network itself."""
    return net


@dataclass(frozen=True)
class Pretraining:
    """What a teacher is trained for: all classes under cross-entropy, unless a task says otherwise.

    Args:
        classes: only these of the data set, labelled by their positions; None: all.
        terms: what it minimises.
        augmentation: how it is shown its images.
        optimiser: what trains it; None: SGD as the suite's recipe of its teacher has it. Steps and batch are the
            recipe's either way.
        outputs: its logits per class.
        evaluated: what of the network is measured, a view of it with one logit per class.
        own: whether a method trains it in its own way, so that it cannot be given as weights.
        identity: what tells this teacher from others of the same network, data and recipe; a part of its key, as is a
            "seed" of its own.
        title: the same for people.
    """

    classes: tuple[int, ...] | None = None
    terms: tuple[LossTerm, ...] = (cross_entropy(),)
    augmentation: Augmentation = Augmentation()
    optimiser: StudentOptimiser | None = None
    outputs: int = 1
    evaluated: Callable[[nn.Module], nn.Module] = as_it_is
    own: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    def part(self, dataset: Dataset) -> Dataset:
        """Return the part of a data set that the teacher learns."""
        return dataset if self.classes is None else dataset.select(self.classes)

    def domain(self, domain: Domain) -> Domain:
        """The domain of the whole data set, cut to the teacher's classes."""
        return domain if self.classes is None else replace(domain, classes=len(self.classes))
