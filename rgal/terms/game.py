"""Terms of games between a generator and a student, and what keeps such a generator on the teacher's classes.

Notation: N images, C classes, t/s teacher/student logits (N,C), p = softmax(t), f (N,D) the teacher's pooled
penultimate feature. Entropies are in nats.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, stateless


def negative_information_entropy(teacher: Tensor) -> Tensor:
    """sum_c P_c ln P_c, P the batch mean of p: least when all classes come equally often.

    DAFL (Chen et al. 2019); in [-ln C, 0]. In logarithms throughout: where P_c underflows to 0 the public
    implementations' p * log(p) is NaN.
    """
    log_mean = torch.logsumexp(teacher.log_softmax(1), 0) - math.log(len(teacher))
    return (log_mean.exp() * log_mean).sum()


def instance_entropy(teacher: Tensor) -> Tensor:
    """-(1/N) sum_i sum_c p_ic ln p_ic (Choi et al. 2020, "instance categorical entropy")."""
    log_p = teacher.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


# The terms as recipes name them -------------------------------------------------------------------------------


def confident(weight: float, form: Literal["class", "entropy"] = "class") -> LossTerm:
    """One-hot outputs without drawn labels. "class": cross-entropy of t and argmax t, which is constant (DAFL,
    and CMI's adversarial DFQ); "entropy": `instance_entropy`. Named "oh", as it stands where `one_hot`
    stands in methods that draw labels."""

    def predicted(ctx: Context) -> Tensor:
        teacher = ctx.of("teacher").logits
        return F.cross_entropy(teacher, teacher.argmax(1))

    def entropy(ctx: Context) -> Tensor:
        return instance_entropy(ctx.of("teacher").logits)

    return stateless("oh", weight, predicted if form == "class" else entropy, Reads("teacher"))


def information_entropy(weight: float) -> LossTerm:
    """`negative_information_entropy` of the teacher's outputs."""
    return stateless(
        "ie", weight, lambda ctx: negative_information_entropy(ctx.of("teacher").logits), Reads("teacher")
    )


def activation(weight: float) -> LossTerm:
    """-mean |f| over images and features: real images excite features (DAFL). The paper sums over features;
    the mean is the form of its code and of CMI's, and the published weights are for it."""

    def loss(ctx: Context) -> Tensor:
        feature = ctx.of("teacher").feature
        assert feature is not None
        return -feature.abs().mean()

    return stateless("act", weight, loss, Reads("teacher", "feature"))


def game(weight: float, form: Literal["kl", "l1"] = "kl") -> LossTerm:
    """The student's loss, maximised by the generator. "kl": -KL(p || softmax(s)), T = 1, mean over samples (ZSKT,
    Micaelli & Storkey 2019); "l1": -mean |s - t| over samples and classes (DFAD, Fang et al. 2019).

    Unlike `rgal.terms.inversion.adversarial` nothing is masked, and it is on in warm-up rounds too: some games have
    no other term. Gradient through both networks.
    """

    def loss(ctx: Context) -> Tensor:
        student, teacher = ctx.of("student").logits, ctx.of("teacher").logits
        return -kl_div(student, teacher) if form == "kl" else -F.l1_loss(student, teacher)

    return stateless("adv", weight, loss, Reads("teacher"), Reads("student"))
