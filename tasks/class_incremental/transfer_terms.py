"""Terms of FCS: a layer that carries old features over to the new extractor, and contrast against old classes.

Notation of `class_incremental.terms`: f and g (N,D) are features of the model and of the frozen old one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.synthesis.views import resized_crop
from rgal.tasks.class_incremental.groups import statistics_of
from rgal.tasks.class_incremental.prototypes import _PrototypeTerm
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.objective import Context, LossTerm, Reads, TermContext

SECOND_VIEW = resized_crop(scale=(0.2, 1.0))


def supervised_contrast_loss(similarities: Tensor, positives: Tensor) -> Tensor:
    """Return the mean over i of the weighted mean over p of ln(1 + e^{-s_ip} sum over negatives n of e^{s_in}).

    Args:
        similarities: s, (N,K).
        positives: weight of each column as a positive, (N,K), at least one a row; columns of weight 0 are negatives.
    """
    negatives = similarities.masked_fill(positives > 0, -1e9).logsumexp(1, keepdim=True)
    each = F.softplus(negatives - similarities)
    return ((each * positives).sum(1) / positives.sum(1)).mean()


class TransferredPrototypes(_PrototypeTerm):
    """Train T from g to f, and the classifier on T of noisy means of old classes (FCS).

    The loss is mean_i |f_i - T g_i| + p CE((W T z + b) / temperature, o c), T z without a gradient; T is linear and
    starts as the identity in each phase. Its layer carries the means over at the end (`compensation.LearntDrift`).

    Args:
        context: see `_PrototypeTerm`.
        draws: noisy means z per step.
        prototypes: p.
        temperature: divisor of the logits.
    """

    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, context: TermContext, draws: int, prototypes: float, temperature: float) -> None:
        super().__init__("transfer", context, draws)
        self.head, self.weight, self.temperature = head_of(context.nets["student"]), prototypes, temperature
        self.layer = nn.utils.skip_init(nn.Linear, self.head[0].features, self.head[0].features)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").required_feature, ctx.of("teacher").required_feature
        transfer = (f - self.layer(g)).norm(dim=1).mean()
        means, classes = self.noisy_means(ctx)
        with torch.no_grad():
            carried = self.layer(means)
        logits = self.head[0](carried) / self.temperature
        prototypes = F.cross_entropy(logits, self.outputs_per_class(ctx) * classes)
        ctx.notes["prototypes"] = prototypes.detach()
        return transfer + self.weight * prototypes


class SupervisedContrast(_PrototypeTerm):
    """Draw features of a class together, away from other classes and from noisy means of old ones (FCS).

    Queries are the unit features of the step's images; keys those of a second view of them, a resized crop, by the same
    model without gradient, and noisy means of old classes, which are of no query's class. An image's own key counts
    twice. `supervised_contrast_loss` of cosines / temperature.

    Args:
        context: see `_PrototypeTerm`; without statistics, as in the first phase, there are no old keys.
        draws: noisy means per step.
        temperature: divisor of the cosines.
    """

    reads: tuple[Reads, ...] = (Reads("student", "feature"),)
    asks = reads

    def __init__(self, context: TermContext, draws: int, temperature: float) -> None:
        super().__init__("contrast", context, draws)
        self.temperature, self.old = temperature, statistics_of(context).means is not None

    def forward(self, ctx: Context) -> Tensor:
        features = ctx.of("student").required_feature
        second = SECOND_VIEW(ctx.images, ctx.domain, ctx.streams.get(f"{self.name} view"))
        with torch.no_grad():
            keys = ctx.observe("student", ctx.domain.normalise(second), ("feature",)).required_feature
            keys = torch.cat([keys, self.noisy_means(ctx)[0]]) if self.old else keys
        similarities = F.normalize(features, dim=1) @ F.normalize(keys, dim=1).T / self.temperature
        own = torch.eye(len(features), device=features.device)
        positives = (ctx.targets[:, None] == ctx.targets[None, :]).to(own) + own
        positives = F.pad(positives, (0, len(keys) - len(features)))
        return supervised_contrast_loss(similarities, positives)


# The terms as recipes name them -------------------------------------------------------------------------------


def transferred_prototypes(
    weight: float, prototypes: float = 10.0, draws: int = 64, temperature: float = 0.1
) -> LossTerm:
    """Make `TransferredPrototypes`, of the name by which its layer is found."""
    return LossTerm(
        "transfer", weight, lambda context: TransferredPrototypes(context, draws, prototypes, temperature)
    )


def supervised_contrast(weight: float, temperature: float = 0.07, draws: int = 64) -> LossTerm:
    """Make `SupervisedContrast`."""
    return LossTerm("contrast", weight, lambda context: SupervisedContrast(context, draws, temperature))
