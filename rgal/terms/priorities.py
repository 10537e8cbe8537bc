"""Terms of a student that sees often what it has not learnt, and of images that are hard and of rare classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, stateless

LEAST_PRIORITY = 1e-6


def rarity(counts: Tensor, low: float = 0.5, high: float = 2.0) -> Tensor:
    """Weigh each class by how rare it is among the kept images: clamp(n / (C n_c), low, high), 1 while there are none.

    counts: n_c, images of each class, (C,).

    >>> rarity(torch.tensor([2, 2, 8, 0]))
    tensor([1.5000, 1.5000, 0.5000, 2.0000])
    """
    total = counts.sum()
    share = total / (len(counts) * counts.clamp_min(1e-3))
    return torch.where(total > 0, share.clamp(low, high), torch.ones_like(share))


def hard_and_rare(weight: float, gamma: float = 2.0) -> LossTerm:
    """Make the teacher recognise the targets: mean_i r_y (1 - p_iy)^gamma CE_i, r = `rarity` in the pool.

    Both factors are constants. In the place of `one_hot`.
    """

    def loss(ctx: Context) -> Tensor:
        logits, labels = ctx.of("teacher").logits, ctx.targets
        assert ctx.pool is not None, "there is no pool to count classes in"
        sure = logits.detach().softmax(1).gather(1, labels[:, None]).squeeze(1)
        factors = rarity(ctx.pool.class_counts(ctx.domain.classes))[labels] * (1 - sure) ** gamma
        return (factors * F.cross_entropy(logits, labels, reduction="none")).mean()

    return stateless("oh", weight, loss, Reads("teacher"))


def prioritised_distillation(weight: float = 1.0, temperature: float = 1.0) -> LossTerm:
    """Distil by mean_i w_i T^2 KL_i, w the importance weights; an image's priority becomes its KL at T = 1."""

    def loss(ctx: Context) -> Tensor:
        student, teacher = ctx.of("student").logits, ctx.of("teacher").logits
        ctx.priority = kl_div(student, teacher, 1.0, "none").detach() + LEAST_PRIORITY
        return ctx.mean(kl_div(student, teacher, temperature, "none"))

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))
