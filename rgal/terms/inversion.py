"""Terms that synthesise images from a teacher: class, batch norm statistics, image priors, disagreement.

Notation: N images, C classes, t and s the logits of teacher and student, p = softmax(t), q = softmax(s).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.batch_statistics import image_statistics, segment_norms
from rgal.core.errors import UserError
from rgal.core.observe import BatchNormStatistics, batch_norms
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext, stateless
from rgal.terms.patches import has_tokens, patch_similarity


def kl_div(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, reduction: str = "batchmean"
) -> Tensor:
    """Compute T^2 * KL(softmax(teacher/T) || softmax(student/T)), always with the factor T^2 (Hinton et al. 2015).

    Args:
        student, teacher: logits (N,C).
        temperature: T.
        reduction: "batchmean" for the mean over samples, a scalar; "none" for one value per sample, (N,).

    >>> uniform, sure = torch.zeros(1, 2), torch.tensor([[50.0, 0.0]])
    >>> round(kl_div(uniform, sure).item(), 4)  # ln 2
    0.6931
    """
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher / temperature, dim=1)
    per_sample = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1) * temperature**2
    return per_sample if reduction == "none" else per_sample.mean()


def joined(statistics: Sequence[BatchNormStatistics]) -> tuple[Tensor, Tensor]:
    """Join the layers' variances, then their means: (2 * sum of C_l,) each, of the batch and the running ones."""
    now = torch.cat([*(s.var for s in statistics), *(s.mean for s in statistics)])
    running = torch.cat([*(s.running_var for s in statistics), *(s.running_mean for s in statistics)])
    return now, running


def bn_l2_loss(statistics: Sequence[BatchNormStatistics], first: float = 1.0) -> Tensor:
    """Compute sum_l f_l (||var_l - running_var_l||_2 + ||mean_l - running_mean_l||_2), with f_1 = first, else 1.

    The norms are neither squared nor divided, and the batch variance is biased: DeepInversion (Yin et al. 2020, eq. 4)
    in the form of its own code, where first is 10 on ImageNet and 1 on CIFAR-10, and of CMI's.
    """
    now, wanted = joined(statistics)
    norms = segment_norms(wanted - now, 2 * [len(s.mean) for s in statistics]).view(2, -1)
    return norms.sum() if first == 1 else norms[:, 1:].sum() + first * norms[:, 0].sum()


def bn_mse_loss(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """Compute (1/L) sum_l MSE(mean_l, running_mean_l) + MSE(var_l, running_var_l), where MSE averages over channels.

    GDFQ (Xu et al. 2020, eq. 4) in the form of its code; the batch variance is biased.
    """
    now, running = joined(statistics)
    sizes = 2 * [len(s.mean) for s in statistics]
    errors = torch.stack([part.mean() for part in (now - running).square().split(sizes)])
    return errors.sum() / len(statistics)


def bn_images_loss(statistics: Sequence[BatchNormStatistics], images: Tensor) -> Tensor:
    """Match the statistics of every single image: ZeroQ (Cai et al. 2020, eq. 3) in the form of its code.

    (1/N) sum_i [sum_l |mu_l - m_l(i)|^2 + |sd_l - d_l(i)|^2 + |m_0(i)|^2 + |d_0(i) - 1|^2], where m and d are means and
    standard deviations, the latter from variance + 1e-6, and layer 0 is the images.

    Args:
        statistics: of single images, from `Observation.bn_images`.
        images: (N,C,H,W), normalised.
    """
    mean, var = image_statistics(images)
    parts = [mean.square().sum(1) + ((var + 1e-6).sqrt() - 1).square().sum(1)]
    for s in statistics:
        deviation = (s.running_var.float() + 1e-6).sqrt() - (s.var + 1e-6).sqrt()
        parts.append((s.running_mean.float() - s.mean).square().sum(1) + deviation.square().sum(1))
    return torch.stack(parts).sum(0).mean()


def total_variation_l1_loss(images: Tensor) -> Tensor:
    """Sum the mean absolute differences between neighbours along x, y and both diagonals of images (N,C,H,W).

    >>> total_variation_l1_loss(torch.tensor([[0.0, 1.0], [0.0, 1.0]]).view(1, 1, 2, 2)).item()  # x and both diagonals
    3.0
    """
    x = images
    return (
        (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
        + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
        + (x[..., 1:, 1:] - x[..., :-1, :-1]).abs().mean()
        + (x[..., 1:, :-1] - x[..., :-1, 1:]).abs().mean()
    )


def total_variation_l2_loss(images: Tensor) -> Tensor:
    """Sum the l2 norms of all differences between neighbours along x, y and both diagonals of images (N,C,H,W).

    This is DeepInversion's own code: each norm is taken over the whole batch, so that the loss grows with sqrt(N) and
    its gradient for one image shrinks with it. Published weights are for the batch sizes they were published with.
    """
    x = images
    differences = (
        x[..., :, 1:] - x[..., :, :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(d) for d in differences]).sum()


def masked_disagreement_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Seek images on which student and teacher agree on the class but not on the probabilities.

    -(1/N) sum_i 1[argmax s_i = argmax t_i] KL(p_i || q_i) at temperature 1, for logits (N,C). N counts masked samples
    too, as in CMI, Fast and RGAL. The gradient flows through both networks.
    """
    agree = (student.argmax(1) == teacher.argmax(1)).to(student.dtype)
    return -(agree * kl_div(student, teacher, 1.0, "none")).mean()


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float = 3.0, clamp: bool = False) -> Tensor:
    """Compute the Jensen-Shannon divergence of softmax(logits / T), the mean over samples, in [0, ln 2].

    Args:
        student, teacher: logits (N,C).
        temperature: T.
        clamp: reproduce the public implementations, which clamp P, Q and their mean M to [0.01, 0.99] without
            renormalising and exchange the arguments of both divergences (KL(M||P) instead of KL(P||M)). With many
            classes that form is nearly constant and can be negative.

    >>> sure = 300 * torch.eye(2)
    >>> round(jensen_shannon(sure, sure.flip(0)).item(), 4)  # ln 2
    0.6931
    """
    log_q, log_p = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    if clamp:
        p, q = log_p.exp(), log_q.exp()
        p, q, m = (x.clamp(0.01, 0.99) for x in (p, q, (p + q) / 2))
        return (0.5 * (m * (m / p).log() + m * (m / q).log())).sum(1).mean()
    # In logarithms, because x ln x has no finite gradient at a probability that underflowed to 0.
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * sum((x.exp() * (x - log_m)).sum(1).mean() for x in (log_p, log_q))  # type: ignore[return-value]


# The terms as recipes name them -------------------------------------------------------------------------------


def one_hot(weight: float) -> LossTerm:
    """Make the teacher recognise the targets: cross-entropy with the labels, or with the shares of mixed images."""
    return stateless(
        "oh",
        weight,
        lambda ctx: F.cross_entropy(ctx.of("teacher").logits, ctx.cross_entropy_targets),
        Reads("teacher"),
    )


def teacher_norms(context: TermContext) -> list[nn.Module]:
    """List the teacher's batch norm layers. Raises UserError if there are none."""
    if layers := batch_norms(context.nets["teacher"]):
        return layers
    raise UserError(
        "the term 'bn' matches batch norm statistics, but the teacher has no BatchNorm2d layer; "
        "use another teacher or set the method's parameter bn=0"
    )


def matched(context: TermContext, statistics: Callable[[], Term]) -> Term:
    """Make the term of batch norm statistics; for a teacher of tokens, `patch_similarity` in its place.

    Raises:
        UserError: the teacher has neither.
    """
    teacher = context.nets["teacher"]
    if has_tokens(teacher) and not batch_norms(teacher):
        return patch_similarity()
    teacher_norms(context)
    return statistics()


def bn_statistics(weight: float, form: Literal["l2", "mse", "images"] = "l2", first: float = 1.0) -> LossTerm:
    """Match the teacher's batch norm statistics; of a teacher of tokens, make its patches differ (`matched`).

    Args:
        weight: the term's weight.
        form: "l2" for `bn_l2_loss`, "mse" for `bn_mse_loss`, "images" for `bn_images_loss`.
        first: the first layer's factor, for "l2" only.
    """
    terms = {
        "l2": FunctionTerm(lambda ctx: bn_l2_loss(ctx.of("teacher").bn, first), [Reads("teacher", "bn")]),
        "mse": FunctionTerm(lambda ctx: bn_mse_loss(ctx.of("teacher").bn), [Reads("teacher", "bn")]),
        "images": FunctionTerm(
            lambda ctx: bn_images_loss(ctx.of("teacher").bn_images, ctx.views["global"]),
            [Reads("teacher", "bn_images")],
        ),
    }

    return LossTerm("bn", weight, lambda context: matched(context, lambda: terms[form]))


def adversarial(weight: float, form: str = "kl", after_warmup: bool = True) -> LossTerm:
    """Maximise the disagreement of teacher and student.

    Args:
        weight: the term's weight.
        form: "kl" for `masked_disagreement_loss`, "js" for minus `jensen_shannon` at T = 3, "js_clamped" for the same
            with `clamp` and the result clamped to [0, 1], beyond which it has no gradient (DeepInversion's own code).
        after_warmup: leave the term out in warm-up rounds, in which the student is untrained.
    """
    forms = {
        "kl": masked_disagreement_loss,
        "js": lambda s, t: -jensen_shannon(s, t),
        "js_clamped": lambda s, t: -jensen_shannon(s, t, clamp=True).clamp(0, 1),
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
    """Penalise rough images, in normalised space.

    Args:
        weight: the term's weight.
        form: "l1" for `total_variation_l1_loss` of the images before any view, as in CMI's DeepInversion; "l2" for
            `total_variation_l2_loss` of the global view, including the seams that rolling leaves (DeepInversion's own).
    """
    if form == "l2":
        return stateless("tv", weight, lambda ctx: total_variation_l2_loss(ctx.views["global"]))
    return stateless("tv", weight, lambda ctx: total_variation_l1_loss(ctx.domain.normalise(ctx.images)))


def image_l2(weight: float) -> LossTerm:
    """Penalise large pixels: the l2 norm of the normalised image, mean over images."""

    def loss(ctx: Context) -> Tensor:
        return torch.linalg.vector_norm(ctx.domain.normalise(ctx.images).flatten(1), dim=1).mean()

    return stateless("l2", weight, loss)
