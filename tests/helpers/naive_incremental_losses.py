"""The whole loss of a class-incremental method's step, from its paper's and release's formulas and published weights.

Slow and obvious, in float64; nothing here is taken from `rgal.terms` or from a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.helpers import naive
from tests.helpers import naive_incremental as slow
from tests.helpers import naive_statistics_learners as statistics


@dataclass
class Step:
    """What a step gives: features f, g and classifiers of the new and old model, labels of real images; noisy means
    with their classes; the two projections; labels of earlier steps of the phase, of which the term knows."""

    features: Tensor
    old_features: Tensor
    weight: Tensor
    bias: Tensor
    old_weight: Tensor
    old_bias: Tensor
    labels: list[int]
    real: int
    drawn: tuple[Tensor, list[int]] | None = None
    projections: Sequence[tuple[Tensor, Tensor]] = ()
    earlier: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.old, self.classes = len(self.old_weight), len(self.weight)
        self.logits = slow.head_logits(self.features, self.weight, self.bias)
        self.old_logits = slow.head_logits(self.old_features, self.old_weight, self.old_bias).detach()
        self.head_only = slow.head_logits(self.features.detach(), self.weight, self.bias)
        replayed = [int(t.argmax()) for t in self.old_logits[self.real :]]
        self.all_labels = self.labels[: self.real] + replayed


def finetune(s: Step) -> Tensor:
    return naive.cross_entropy(s.logits, torch.tensor(s.labels))


def finetune_new(s: Step) -> Tensor:
    return slow.local_cross_entropy(s.logits, s.labels, s.old)


def lwf(s: Step) -> Tensor:
    return slow.local_cross_entropy(s.logits, s.labels, s.old) + 3 * slow.soft_cross_entropy(
        s.logits, s.old_logits, 2
    )


def distilled(s: Step) -> Tensor:
    """LDC, ADC, DPCR."""
    return slow.local_cross_entropy(s.logits, s.labels, s.old) + 10 * slow.soft_cross_entropy(
        s.logits, s.old_logits, 2
    )


def efcpp(s: Step, importance: Tensor) -> Tensor:
    local = slow.local_cross_entropy(s.logits, s.labels, s.old)
    metric = 10 * importance.double() + 0.1 * torch.eye(len(importance), dtype=torch.float64)
    moved = [f - g for f, g in zip(s.features, s.old_features, strict=True)]
    return local + sum(d @ metric @ d for d in moved) / len(moved)


def adagauss(s: Step) -> Tensor:
    """The projection is Linear, GELU, Linear."""
    (first, shift), (second, offset) = s.projections
    hidden = torch.nn.functional.gelu(s.features @ first.T + shift)
    projected = hidden @ second.T + offset
    distance = (projected - s.old_features).square().sum() / s.old_features.numel()
    local = slow.local_cross_entropy(s.logits, s.labels, s.old)
    return local + 10 * distance + statistics.anti_collapse(s.features, jitter=1e-4)


def pass_(s: Step) -> Tensor:
    assert s.drawn is not None
    drawn, classes = s.drawn
    return (
        naive.cross_entropy(s.logits / 0.1, torch.tensor(s.labels))
        + 10 * slow.prototype_cross_entropy(s.weight, s.bias, drawn, classes, 4, 0.1)
        + 10 * slow.frobenius(s.features, s.old_features)
    )


def abd(s: Step) -> Tensor:
    local = slow.local_cross_entropy(s.logits[: s.real], s.labels[: s.real], s.old)
    return (
        (s.classes - s.old) / s.classes * local
        + slow.balanced_head(s.head_only, s.all_labels, s.real, s.old)
        + 0.1 * slow.feature_distillation(s.features, s.old_features, s.old_weight)
    )


def r_dfcil(s: Step) -> Tensor:
    """The first 160 of 200 epochs."""
    alpha, beta = slow.factors(s.old, s.classes - s.old)
    local = slow.local_cross_entropy(s.logits[: s.real], s.labels[: s.real], s.old)
    new, old = (
        slow.head_logits(f[: s.real], *projection)
        for f, projection in zip((s.features, s.old_features), s.projections, strict=True)
    )
    return (
        0.5 * (1 + 1 / alpha) / beta * local
        + 0.15 * slow.hard_distillation(s.logits[s.real :], s.old_logits[s.real :])
        + 0.5 * alpha * beta * slow.angle_distillation(new, old)
    )


def r_dfcil_refined(s: Step) -> Tensor:
    """The last 40 epochs."""
    so_far = s.earlier + s.all_labels
    return 0.5 * slow.counted_cross_entropy(
        s.head_only, s.all_labels, so_far
    ) + 0.15 * slow.hard_distillation(s.logits[s.real :], s.old_logits[s.real :])
