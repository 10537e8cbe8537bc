"""Terms of games between a generator and a student, and terms that keep the generator on the teacher's classes.

Notation: N images, C classes, t and s the logits (N,C) of teacher and student, p = softmax(t), f (N,D) the teacher's
pooled penultimate feature. Entropies are in nats.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, stateless


def information_entropy_loss(teacher: Tensor) -> Tensor:
    """Compute sum_c P_c ln P_c, P the batch mean of p, which is lowest when all classes are equally frequent.

    From DAFL (Chen et al. 2019). The result lies in [-ln C, 0]. Everything stays in logarithms: if P_c underflows to 0,
    p * log(p) as in the public implementations is NaN.

    >>> round(information_entropy_loss(torch.eye(4) * 100).item(), 4)  # four images, each of another class: -ln 4
    -1.3863
    """
    log_mean = torch.logsumexp(teacher.log_softmax(1), 0) - math.log(len(teacher))
    return (log_mean.exp() * log_mean).sum()


def instance_entropy_loss(teacher: Tensor) -> Tensor:
    """Compute -(1/N) sum_i sum_c p_ic ln p_ic, the "instance categorical entropy" of Choi et al. 2020."""
    log_p = teacher.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


# The terms as recipes name them -------------------------------------------------------------------------------


def confident(weight: float, form: Literal["class", "entropy"] = "class") -> LossTerm:
    """Make the teacher's outputs confident without drawing labels.

    The term is named "oh" because it replaces `one_hot`, which methods that draw labels use.

    Args:
        weight: the term's weight.
        form: "class" for the cross-entropy of t and argmax t, the latter constant (DAFL, and CMI's adversarial DFQ);
            "entropy" for `instance_entropy_loss`.
    """

    def predicted(ctx: Context) -> Tensor:
        teacher = ctx.of("teacher").logits
        return F.cross_entropy(teacher, teacher.argmax(1))

    def entropy(ctx: Context) -> Tensor:
        return instance_entropy_loss(ctx.of("teacher").logits)

    return stateless("oh", weight, predicted if form == "class" else entropy, Reads("teacher"))


def information_entropy(weight: float) -> LossTerm:
    """Balance the classes of the teacher's outputs by `information_entropy_loss`."""
    return stateless(
        "ie", weight, lambda ctx: information_entropy_loss(ctx.of("teacher").logits), Reads("teacher")
    )


def activation(weight: float) -> LossTerm:
    """Make the teacher's features large, as they are for real images: -mean |f| over images and features.

    The paper (DAFL) sums over features; its code and CMI's take the mean, and the published weights are for the mean.
    """

    def loss(ctx: Context) -> Tensor:
        return -ctx.of("teacher").required_feature.abs().mean()

    return stateless("act", weight, loss, Reads("teacher", "feature"))


def game(weight: float, form: Literal["kl", "l1"] = "kl") -> LossTerm:
    """Let the generator maximise the student's loss; the gradient flows through both networks.

    Unlike `rgal.terms.inversion.adversarial`, no image is masked, and the term is active in warm-up rounds too, because
    some games have no other term.

    Args:
        weight: the term's weight.
        form: "kl" for -KL(p || softmax(s)) at temperature 1, mean over samples (ZSKT, Micaelli & Storkey 2019);
            "l1" for -mean |s - t| over samples and classes (DFAD, Fang et al. 2019).
    """

    def loss(ctx: Context) -> Tensor:
        student, teacher = ctx.of("student").logits, ctx.of("teacher").logits
        return -kl_div(student, teacher) if form == "kl" else -F.l1_loss(student, teacher)

    return stateless("adv", weight, loss, Reads("teacher"), Reads("student"))
