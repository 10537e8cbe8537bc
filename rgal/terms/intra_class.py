"""IntraQ's terms, which keep the images of a class different in confidence and in feature.

Zhong et al., "IntraQ: Learning Synthetic Images with Intra-Class Heterogeneity for Zero-Shot Network Quantization",
CVPR 2022, arXiv 2111.09136.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, of_the_best


def soft_inception_loss(logits: Tensor, labels: Tensor, goal: Tensor) -> Tensor:
    """Compute (1/N) sum_i (softmax(logits_i)[label_i] - goal_i)^2, the paper's soft inception loss as in its code.

    Args:
        logits: (N,C).
        labels: (N,).
        goal: the probabilities (N,) that the labels should get.

    Returns:
        A scalar, 0 without images.
    """
    p = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return (p - goal).square().sum() / max(1, len(p))


def marginal_distance_loss(
    features: Tensor, labels: Tensor, sums: Tensor, counts: Tensor, lower: float, upper: float
) -> Tensor:
    """Keep features neither too close to their class's mean feature nor too far from it.

    The mean of max(0, lower - d_i) + max(0, d_i - upper), with d_i = 1 - cos(feature_i, mean feature of class label_i),
    over the images whose class has a mean feature.

    Args:
        features: (N,D).
        labels: (N,).
        sums, counts: sums (C,D) and numbers (C,) of the features of each class so far.
        lower, upper: bounds of the cosine distance, in [0,2].

    Returns:
        A scalar; if no class has a mean feature, a zero that is attached to the graph.
    """
    # The cosine does not see the scale: a class's sum is as good as its mean.
    distance = 1 - F.cosine_similarity(features, sums[labels], eps=1e-6)
    has_mean = (counts[labels] > 0).to(distance.dtype)
    hinges = (lower - distance).clamp_min(0) + (distance - upper).clamp_min(0)
    return (hinges * has_mean).sum() / has_mean.sum().clamp_min(1)


class SoftInception(Term):
    """Apply `soft_inception_loss` with goals drawn once per round: 1, or with probability 0.5 one of U(low, 1).

    State: the round's goals.
    """

    reads = (Reads("teacher"),)

    def __init__(self, low: float) -> None:
        super().__init__()
        self.low = low
        self.goal: Tensor | None = None

    def get_extra_state(self) -> dict[str, Any]:
        return {"goal": self.goal}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.goal = state["goal"]

    def forward(self, ctx: Context) -> Tensor:
        logits = ctx.of("teacher").logits
        if self.goal is None:
            rng = ctx.streams.get("soft targets")
            coin, level = torch.rand(2, len(logits), generator=rng, device=logits.device)
            self.goal = torch.where(coin < 0.5, self.low + (1 - self.low) * level, 1.0)
        return soft_inception_loss(logits, ctx.targets, self.goal.to(logits.device))

    def end_round(self) -> None:
        self.goal = None


class MarginalDistance(Term):
    """Apply `marginal_distance_loss` to the teacher's features, with mean features over all earlier rounds.

    At the end of a round, the features of its kept images join the sums, as observed in the step and view in which the
    images were kept. State: the sum and number of features of each class, and the round's features and labels so far.
    """

    reads = (Reads("teacher", "feature"),)
    sums: Tensor
    counts: Tensor

    def __init__(self, context: TermContext, lower: float, upper: float) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper
        feature = context.probe("teacher", "feature").required_feature
        self.register_buffer("sums", feature.new_zeros(context.domain.classes, feature.shape[1]))
        self.register_buffer("counts", feature.new_zeros(context.domain.classes))
        self.kept_features, self.kept_labels = self._nothing()

    def _nothing(self) -> tuple[Tensor, Tensor]:
        return self.sums[:0], torch.empty(0, dtype=torch.int64, device=self.sums.device)

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"features": self.kept_features.clone(), "labels": self.kept_labels.clone()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.kept_features = state["features"].to(self.sums.device).clone()
        self.kept_labels = state["labels"].to(self.sums.device)

    def forward(self, ctx: Context) -> Tensor:
        feature = ctx.of("teacher").required_feature
        return marginal_distance_loss(feature, ctx.targets, self.sums, self.counts, self.lower, self.upper)

    @torch.no_grad()
    def kept(self, ctx: Context, better: Tensor) -> None:
        current = ctx.of("teacher").required_feature.detach()
        self.kept_features = of_the_best(self.kept_features, current, better)
        self.kept_labels = ctx.targets

    @torch.no_grad()
    def end_round(self) -> None:
        # A product with indicators, not index_add, whose order of summation varies on GPUs.
        classes = torch.arange(len(self.counts), device=self.counts.device)
        member = (self.kept_labels == classes[:, None]).to(self.sums.dtype)
        self.sums += member @ self.kept_features
        self.counts += member.sum(1)
        self.kept_features, self.kept_labels = self._nothing()


# The terms as recipes name them -------------------------------------------------------------------------------


def soft_inception(weight: float, low: float = 0.95) -> LossTerm:
    """Ask for different confidences within a class by `SoftInception`, with goals from `low` to 1."""
    return LossTerm("inception", weight, lambda context: SoftInception(low))


def marginal_distance(weight: float, lower: float = 0.05, upper: float = 0.8) -> LossTerm:
    """Keep features at some distance from their class's mean feature, by `MarginalDistance`.

    Args:
        weight: the term's weight.
        lower, upper: bounds of the cosine distance, in [0,2].
    """
    return LossTerm("margin", weight, lambda context: MarginalDistance(context, lower, upper))
