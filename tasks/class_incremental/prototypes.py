"""Terms of learners that keep statistics of features instead of images: noisy class means stand for old classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.groups import real_images, statistics_of
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext
from rgal.terms.relation import BANDS, BandName, fallback_share, sample_negatives, triplet


class _OfMeans(Term):
    """Base: `draws` noisy means of old classes a step."""

    reads = (Reads("student", "feature"), Reads("teacher"))

    def __init__(self, name: str, context: TermContext, draws: int) -> None:
        super().__init__()
        self.name, self.statistics, self.draws = name, statistics_of(context), draws

    def noisy_means(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """(mu_c + r e (draws,D), c (draws,)): c uniform over old classes, e standard normal (PASS)."""
        means, radius, rng = (
            self.statistics.means,
            self.statistics.radius,
            ctx.streams.get(f"{self.name} draws"),
        )
        assert means is not None and radius is not None, "the learner keeps neither means nor radius"
        classes = torch.randint(0, len(means), (self.draws,), generator=rng, device=means.device)
        noise = torch.randn(self.draws, means.shape[1], generator=rng, device=means.device)
        return means[classes] + radius * noise, classes

    def outputs_per_class(self, ctx: Context) -> int:
        """Logits of the old model over classes that are kept: 4 with rotations as classes."""
        assert self.statistics.means is not None
        return ctx.of("teacher").logits.shape[1] // len(self.statistics.means)


class PrototypeCrossEntropy(_OfMeans):
    """Cross-entropy over all classes of (W z + b) / T at noisy means z, labels o c with o outputs a class (PASS)."""

    def __init__(self, context: TermContext, draws: int, temperature: float) -> None:
        super().__init__("prototypes", context, draws)
        self.head, self.temperature = head_of(context.nets["student"]), temperature

    def forward(self, ctx: Context) -> Tensor:
        features, classes = self.noisy_means(ctx)
        logits = self.head[0](features) / self.temperature
        return F.cross_entropy(logits, self.outputs_per_class(ctx) * classes)


class SemanticAugmentation(_OfMeans):
    """Cross-entropy of (W m_c + b + (k/2) q) / T, q_j = (w_j - w_c)' S_c (w_j - w_c): the bound of sampling features
    from N(m_c, k S_c) without end (IL2A, after ISDA). S_c: covariance of class c."""

    def __init__(self, context: TermContext, draws: int, temperature: float, strength: float) -> None:
        super().__init__("prototypes", context, draws)
        self.head, self.temperature, self.strength = (
            head_of(context.nets["student"]),
            temperature,
            strength,
        )

    def forward(self, ctx: Context) -> Tensor:
        means, covariances = self.statistics.means, self.statistics.covariances
        assert means is not None and covariances is not None
        rng = ctx.streams.get(f"{self.name} draws")
        classes = torch.randint(0, len(means), (self.draws,), generator=rng, device=means.device)
        labels = self.outputs_per_class(ctx) * classes
        return semantic_augmentation(
            self.head[0], means[classes], covariances[classes], labels, self.strength, self.temperature
        )


def semantic_augmentation(
    head: torch.nn.Module,
    means: Tensor,
    covariances: Tensor,
    classes: Tensor,
    strength: float,
    temperature: float,
) -> Tensor:
    """See `SemanticAugmentation`; means (M,D), covariances (M,D,D), classes (M,): rows of the classifier."""
    weight: Tensor = head.weight()  # type: ignore[operator]
    difference = weight[None] - weight[classes][:, None]
    quadratic = ((difference @ covariances) * difference).sum(2)
    return F.cross_entropy((head(means) + strength / 2 * quadratic) / temperature, classes)


class PrototypeTriplet(_OfMeans):
    """RGAL's gather triplet whose negatives are noisy means of old classes: new images of a class together, away from
    where old classes were. The means are constants; gradients reach the extractor through the real images alone.

    Anchors and positives: pooled features of real images, of the unrotated ones where there are rotations, as means
    are of such. Means are clamped at 0, like the features, which come out of a ReLU.
    """

    def __init__(self, context: TermContext, draws: int, band: BandName, margin: float) -> None:
        super().__init__("prototype_gather", context, draws)
        self.band, self.margin = BANDS[band], margin

    def forward(self, ctx: Context) -> Tensor:
        features = ctx.of("student").feature
        assert features is not None
        upright = real_images(ctx) // self.outputs_per_class(ctx)
        means, classes = self.noisy_means(ctx)
        rng = ctx.streams.get(f"{self.name} negatives")
        return self.of(features[:upright], ctx.targets[:upright], means.clamp_min(0), classes, rng, ctx)

    def of(
        self,
        features: Tensor,
        labels: Tensor,
        means: Tensor,
        classes: Tensor,
        rng: torch.Generator,
        ctx: Context,
    ) -> Tensor:
        """Of real features (R,D) with labels (R,), and means (M,D) of old classes (M,)."""
        rows = torch.cat([features, means.detach()])
        real = torch.arange(len(rows), device=rows.device) < len(features)
        known = torch.cat([labels, -1 - classes])  # an old class is no new one's label
        negatives = sample_negatives(
            rows.detach(), known, self.band, rng, among=real[:, None] & ~real[None, :]
        )
        ctx.notes[f"{self.name}_fallback"] = fallback_share(known, negatives)
        return triplet([rows], known, negatives, "gather", self.margin)


# The terms as recipes name them -------------------------------------------------------------------------------


def prototype_cross_entropy(weight: float, draws: int = 64, temperature: float = 0.1) -> LossTerm:
    _some(draws)
    return LossTerm("prototypes", weight, lambda context: PrototypeCrossEntropy(context, draws, temperature))


def semantic_prototypes(
    weight: float, draws: int = 64, temperature: float = 0.1, strength: float = 2.5
) -> LossTerm:
    _some(draws)
    return LossTerm(
        "prototypes", weight, lambda context: SemanticAugmentation(context, draws, temperature, strength)
    )


def prototype_relation(weight: float, band: BandName, margin: float, draws: int = 64) -> LossTerm:
    return LossTerm(
        "prototype_gather", weight, lambda context: PrototypeTriplet(context, draws, band, margin)
    )


def _some(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws={draws}: expected 1 or more; the term's weight switches it off")
