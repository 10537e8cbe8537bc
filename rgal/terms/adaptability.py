"""AdaDFQ's terms: images on which teacher and student disagree neither too little nor too much.

Qian et al., "Adaptive Data-Free Quantization", CVPR 2023, arXiv 2303.06869, in the form of its code.

Notation: N images, C classes, t and s the logits (N,C) of teacher and student, y labels, H the entropy of a softmax.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from rgal.terms.objective import Context, LossTerm, Reads, stateless


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of each row in nats, (N,C) -> (N,)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def adaptability_loss(student: Tensor, teacher: Tensor, lower: float, upper: float) -> Tensor:
    """Compute mean relu(lower - h) + relu(h - upper), h = (H(t - s) - m) / (ln C - m), m the batch's least H(t - s).

    The gradient flows through m too. The image of the least entropy has h = 0, so that the loss is at least lower / N.

    Args:
        student, teacher: logits (N,C).
        lower, upper: bounds of h, in [0,1].
    """
    gap = entropy(teacher - student)
    least = gap.min()
    # Where the networks agree on every image there is nothing to scale: all entropies are ln C.
    h = (gap - least) / (math.log(teacher.shape[1]) - least).clamp_min(1e-6)
    return ((lower - h).relu() + (h - upper).relu()).mean()


def logit_gap_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute -T^2 mean_i H((t_i - s_i) / T), which is least where the logits differ by a constant only.

    For large T this is -T^2 ln C plus half the variance over classes of t - s: the mean squared error of centred logits
    but for its scale, whatever T.
    """
    return -(temperature**2) * entropy((teacher - student) / temperature).mean()


# The terms as recipes name them -------------------------------------------------------------------------------

BOTH = (Reads("teacher"), Reads("student"))


def adaptability(weight: float, lower: float, upper: float) -> LossTerm:
    """Keep the disagreement of teacher and student on images between two bounds, by `adaptability_loss`."""

    def loss(ctx: Context) -> Tensor:
        return adaptability_loss(ctx.of("student").logits, ctx.of("teacher").logits, lower, upper)

    return stateless("margin", weight, loss, *BOTH)


def label_of_difference(weight: float) -> LossTerm:
    """Make what the teacher says beyond the student point to the label: CE(t - s, y)."""

    def loss(ctx: Context) -> Tensor:
        difference = ctx.of("teacher").logits - ctx.of("student").logits
        return F.cross_entropy(difference, ctx.cross_entropy_targets)

    return stateless("disagree", weight, loss, *BOTH)


def label_of_sum(weight: float) -> LossTerm:
    """Make what teacher and student say together point to the label: CE(t + s, y)."""

    def loss(ctx: Context) -> Tensor:
        return F.cross_entropy(ctx.of("teacher").logits + ctx.of("student").logits, ctx.cross_entropy_targets)

    return stateless("agree", weight, loss, *BOTH)


def logit_gap(weight: float, temperature: float) -> LossTerm:
    """Distil logits up to a constant, by `logit_gap_loss`."""

    def loss(ctx: Context) -> Tensor:
        return logit_gap_loss(ctx.of("student").logits, ctx.of("teacher").logits, temperature)

    return stateless("kd", weight, loss, *BOTH)
