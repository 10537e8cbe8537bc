"""Terms that pull images out of a teacher: class, batch statistics, image priors, disagreement.

Notation: N images, C classes, t/s teacher/student logits, p = softmax(t), q = softmax(s).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import BatchNormStatistics, batch_norms, image_statistics
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext, stateless


def kl_div(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, reduction: str = "batchmean"
) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)) of logits (N,C).

    "batchmean": summed over classes, mean over samples -> scalar. "none": one value a sample, (N,).
    Hinton et al. 2015; the T^2 factor is always applied.
    """
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher / temperature, dim=1)
    per_sample = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1) * temperature**2
    return per_sample if reduction == "none" else per_sample.mean()


def batch_norm_l2(statistics: Sequence[BatchNormStatistics], first: float = 1.0) -> Tensor:
    """sum_l f_l (||var_l - running_var_l||_2 + ||mean_l - running_mean_l||_2): plain norms, not squared, not divided;
    f_1 = first, else 1.

    DeepInversion (Yin et al. 2020, eq. 4) in the form of its own code (first = 10 on ImageNet, 1 on CIFAR-10) and of
    CMI's; biased batch variance.
    """
    norms = [
        torch.linalg.vector_norm(s.running_var - s.var) + torch.linalg.vector_norm(s.running_mean - s.mean)
        for s in statistics
    ]
    return torch.stack([first * norms[0], *norms[1:]]).sum()


def batch_norm_mse(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """(1/L) sum_l MSE(mean_l, running_mean_l) + MSE(var_l, running_var_l), MSE the mean over channels.

    GDFQ (Xu et al. 2020, eq. 4) in the form of its code; biased batch variance.
    """
    errors = [
        F.mse_loss(s.mean, s.running_mean.float()) + F.mse_loss(s.var, s.running_var.float())
        for s in statistics
    ]
    return torch.stack(errors).mean()


def image_norm_l2(statistics: Sequence[BatchNormStatistics], images: Tensor) -> Tensor:
    """(1/N) sum_i [sum_l |mu_l - m_l(i)|^2 + |sd_l - d_l(i)|^2 + |m_0(i)|^2 + |d_0(i) - 1|^2], deviations from
    variance + 1e-6, statistics of single images (ZeroQ, Cai et al. 2020, eq. 3 as its code has it).

    images: (N,C,H,W) normalised, the 0th layer.
    """
    mean, var = image_statistics(images)
    parts = [mean.square().sum(1) + ((var + 1e-6).sqrt() - 1).square().sum(1)]
    for s in statistics:
        deviation = (s.running_var.float() + 1e-6).sqrt() - (s.var + 1e-6).sqrt()
        parts.append((s.running_mean.float() - s.mean).square().sum(1) + deviation.square().sum(1))
    return torch.stack(parts).sum(0).mean()


def total_variation_l1(images: Tensor) -> Tensor:
    """Sum of the mean absolute differences along x, y and both diagonals of (N,C,H,W)."""
    x = images
    return (
        (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
        + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
        + (x[..., 1:, 1:] - x[..., :-1, :-1]).abs().mean()
        + (x[..., 1:, :-1] - x[..., :-1, 1:]).abs().mean()
    )


def total_variation_l2(images: Tensor) -> Tensor:
    """Sum of the l2 norms of all differences along x, y and both diagonals of (N,C,H,W).

    DeepInversion in the form of its own code: each norm is one over the whole batch, so that the term grows with
    sqrt(N) and its pull on an image falls with it; published weights are for their batch sizes.
    """
    x = images
    differences = (
        x[..., :, 1:] - x[..., :, :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(d) for d in differences]).sum()


def masked_disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """-(1/N) sum_i 1[argmax s_i = argmax t_i] KL(p_i || q_i), T = 1: seek images on which the nets still agree on
    the class but not on the probabilities. N counts masked samples too (CMI, Fast, RGAL). Gradient through both."""
    agree = (student.argmax(1) == teacher.argmax(1)).to(student.dtype)
    return -(agree * kl_div(student, teacher, 1.0, "none")).mean()


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float = 3.0, clamp: bool = False) -> Tensor:
    """Jensen-Shannon divergence of softmax(logits / T), mean over samples; in [0, ln 2].

    clamp=True reproduces the public implementations: P, Q and their mean M each clamped to [0.01, 0.99] without
    renormalising and the arguments of both KLs exchanged (KL(M||P) instead of KL(P||M)). With many classes that
    form is nearly constant and can be negative.
    """
    log_q, log_p = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    if clamp:
        p, q = log_p.exp(), log_q.exp()
        p, q, m = (x.clamp(0.01, 0.99) for x in (p, q, (p + q) / 2))
        return (0.5 * (m * (m / p).log() + m * (m / q).log())).sum(1).mean()
    # In logarithms throughout: x ln x has no finite gradient at a probability that underflowed to 0.
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * sum((x.exp() * (x - log_m)).sum(1).mean() for x in (log_p, log_q))  # type: ignore[return-value]


# The terms as recipes name them -------------------------------------------------------------------------------


def one_hot(weight: float) -> LossTerm:
    """Cross-entropy of the teacher's logits and the drawn targets, of mixed images with their classes' shares."""
    return stateless(
        "oh", weight, lambda ctx: F.cross_entropy(ctx.of("teacher").logits, ctx.wanted), Reads("teacher")
    )


def teacher_norms(context: TermContext) -> list[nn.Module]:
    """The teacher's batch norm layers. UserError when there are none."""
    if layers := batch_norms(context.nets["teacher"]):
        return layers
    raise UserError(
        "the term 'bn' matches batch norm statistics, but the teacher has no BatchNorm2d layer; "
        "use another teacher or set the method's parameter bn=0"
    )


def bn_statistics(weight: float, form: Literal["l2", "mse", "images"] = "l2", first: float = 1.0) -> LossTerm:
    """Batch norm statistics of the teacher: `batch_norm_l2`, `batch_norm_mse` or `image_norm_l2`. Needs a teacher with
    BatchNorm2d layers. first: of "l2", the first layer's factor."""
    terms = {
        "l2": FunctionTerm(lambda ctx: batch_norm_l2(ctx.of("teacher").bn, first), [Reads("teacher", "bn")]),
        "mse": FunctionTerm(lambda ctx: batch_norm_mse(ctx.of("teacher").bn), [Reads("teacher", "bn")]),
        "images": FunctionTerm(
            lambda ctx: image_norm_l2(ctx.of("teacher").bn_images, ctx.views["global"]),
            [Reads("teacher", "bn_images")],
        ),
    }

    def build(context: TermContext) -> Term:
        teacher_norms(context)
        return terms[form]

    return LossTerm("bn", weight, build)


def adversarial(weight: float, form: str = "kl", after_warmup: bool = True) -> LossTerm:
    """Disagreement of teacher and student, maximised. "kl": `masked_disagreement`; "js": minus `jensen_shannon`
    at T = 3; "js_clamped": the same as publicly implemented. During warm-up rounds the student is untrained and
    its opinion is not asked."""
    forms = {
        "kl": masked_disagreement,
        "js": lambda s, t: -jensen_shannon(s, t),
        "js_clamped": lambda s, t: -jensen_shannon(s, t, clamp=True),
    }
    loss = forms[form]
    return stateless(
        "adv",
        weight,
        lambda ctx: loss(ctx.of("student").logits, ctx.of("teacher").logits),
        Reads("teacher"),
        Reads("student"),
        after_warmup=after_warmup,
    )


def total_variation(weight: float, form: Literal["l1", "l2"] = "l1") -> LossTerm:
    """Roughness in normalised space. "l1": `total_variation_l1` of the un-augmented image (CMI's DeepInversion); "l2":
    `total_variation_l2` of the image as networks see it, the seam of a rolled one included (its authors')."""
    if form == "l2":
        return stateless("tv", weight, lambda ctx: total_variation_l2(ctx.views["global"]))
    return stateless("tv", weight, lambda ctx: total_variation_l1(ctx.domain.normalise(ctx.images)))


def image_l2(weight: float) -> LossTerm:
    """Mean over images of the l2 norm of the normalised image."""

    def loss(ctx: Context) -> Tensor:
        return torch.linalg.vector_norm(ctx.domain.normalise(ctx.images).flatten(1), dim=1).mean()

    return stateless("l2", weight, loss)
