"""Terms of PRAKA: a classifier of rotated images and one of upright ones, on old classes mixed with new features.

A class has five logits: the plain one, then one for each of its rotations. A step shows R images in their four
rotations, all upright ones first. z (4R,5C) are the model's logits, f (4R,D) its features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.prototypes import _PrototypeTerm
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, TermContext, stateless

OUTPUTS = 5


def plain_and_turned(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Split logits (N,5C) into those of classes (N,C) and of their rotations (N,C,4)."""
    each = logits.unflatten(1, (-1, OUTPUTS))
    return each[:, :, 0], each[:, :, 1:]


def twofold_loss(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return CE(turned / T, 4y + k) + CE(plain / T, y) + KL(softmax a || softmax plain).

    The latter two are of upright images. a_c is the mean over k of the logit for class c and rotation k of the image
    turned by k, a constant.

    Args:
        logits: z, (4R,5C).
        labels: 4y + k, (4R,).
        temperature: T, of the cross-entropies alone.
    """
    plain, turned = plain_and_turned(logits)
    count = len(logits) // 4
    agreed = torch.stack([turned[k * count : (k + 1) * count, :, k] for k in range(4)]).mean(0).detach()
    of_rotations = F.cross_entropy(turned.flatten(1) / temperature, labels)
    of_classes = F.cross_entropy(plain[:count] / temperature, labels[:count] // 4)
    return of_rotations + of_classes + kl_div(plain[:count], agreed)


def mixed_prototypes(means: Tensor, features: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw (1-l) m_c + l x or (1+l) m_c - l x, either as likely, for as many c as there are features, and c.

    c is uniform, x a random row of the features, l ~ Beta(1/2, 1/2), that is sin^2 of a uniform angle in [0, pi/2];
    above 0.6 it is multiplied by 0.6.

    Args:
        means: m, (O,D).
        features: of new images, (R,D).
        rng: draws c, x, l and the form, in this order.
    """
    count, device = len(features), means.device
    classes = torch.randint(0, len(means), (count,), generator=rng, device=device)
    rows = torch.randint(0, count, (count,), generator=rng, device=device)
    share = (torch.rand(count, 1, generator=rng, device=device) * math.pi / 2).sin().square()
    share = torch.where(share > 0.6, 0.6 * share, share)
    sign = torch.where(torch.rand(count, 1, generator=rng, device=device) < 0.5, 1.0, -1.0)
    return (1 - sign * share) * means[classes] + sign * share * features[rows], classes


class MixedPrototypes(_PrototypeTerm):
    """Compute CE(plain(z) / T, c) + CE(turned(z) / T, 4c) + KL(softmax turned(z)_{4c} || softmax plain(z)).

    z are `mixed_prototypes` of old classes c with the upright images' features, constants; the KL's first argument are
    the logits of the upright classes, constants too.

    Args:
        context: see `_PrototypeTerm`.
        temperature: T, of the cross-entropies alone.
    """

    reads = (Reads("student", "feature"),)

    def __init__(self, context: TermContext, temperature: float) -> None:
        super().__init__("prototypes", context, 0)
        self.head, self.temperature = head_of(context.nets["student"]), temperature

    def forward(self, ctx: Context) -> Tensor:
        features = ctx.of("student").required_feature.detach()
        rng = ctx.streams.get(f"{self.name} draws")
        mixed, classes = mixed_prototypes(self.means, features[: len(features) // 4], rng)
        plain, turned = plain_and_turned(self.head[0](mixed))
        return (
            F.cross_entropy(plain / self.temperature, classes)
            + F.cross_entropy(turned.flatten(1) / self.temperature, 4 * classes)
            + kl_div(plain, turned[:, :, 0].detach())
        )


# The terms as recipes name them -------------------------------------------------------------------------------


def twofold_cross_entropy(weight: float = 1.0, temperature: float = 0.1) -> LossTerm:
    """Make `twofold_loss` of real images, which are all of the step's."""
    return stateless(
        "ce",
        weight,
        lambda ctx: twofold_loss(ctx.of("student").logits, ctx.targets, temperature),
        Reads("student"),
    )


def mixed_prototype_cross_entropy(weight: float, temperature: float = 0.1) -> LossTerm:
    """Make `MixedPrototypes`."""
    return LossTerm("prototypes", weight, lambda context: MixedPrototypes(context, temperature))
