"""Terms of methods that keep statistics of features in place of images: noisy class means represent old classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.groups import real_images, statistics_of
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.negatives import BANDS, BandName, sample_negatives
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext
from rgal.terms.relation import fallback_share, triplet


class _PrototypeTerm(Term):
    """Draw old classes and noisy means of them, for the terms below.

    Args:
        name: of the term; its streams are called after it.
        context: its task data holds the class statistics.
        draws: noisy means per step.
    """

    reads: tuple[Reads, ...] = (Reads("student", "feature"), Reads("teacher"))

    def __init__(self, name: str, context: TermContext, draws: int) -> None:
        super().__init__()
        self.name, self.statistics, self.draws = name, statistics_of(context), draws

    @property
    def means(self) -> Tensor:
        """Class means (C,D) of the old classes."""
        assert self.statistics.means is not None, "the method keeps no class means"
        return self.statistics.means

    def drawn_classes(self, rng: torch.Generator) -> Tensor:
        """Draw old classes (draws,), uniformly."""
        return torch.randint(0, len(self.means), (self.draws,), generator=rng, device=self.means.device)

    def noisy_means(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """Draw mu_c + r e (draws,D) and c (draws,): c uniform, e standard normal, r the radius (PASS)."""
        means, radius = self.statistics.means, self.statistics.radius
        assert means is not None and radius is not None, "the method keeps neither means nor radius"
        rng = ctx.streams.get(f"{self.name} draws")
        classes = self.drawn_classes(rng)
        noise = torch.randn(self.draws, means.shape[1], generator=rng, device=means.device)
        return means[classes] + radius * noise, classes

    def outputs_per_class(self, ctx: Context) -> int:
        """Return the old model's number of logits per class: 4 where rotations are classes, else 1."""
        return ctx.of("teacher").logits.shape[1] // len(self.means)


class PrototypeCrossEntropy(_PrototypeTerm):
    """Compute the cross-entropy over all classes of (W z + b) / T at noisy means z of old classes c (PASS).

    The label is o c, where o is the number of logits per class.

    Args:
        context: see `_PrototypeTerm`.
        draws: noisy means per step.
        temperature: T.
    """

    def __init__(self, context: TermContext, draws: int, temperature: float) -> None:
        super().__init__("prototypes", context, draws)
        self.head, self.temperature = head_of(context.nets["student"]), temperature

    def forward(self, ctx: Context) -> Tensor:
        features, classes = self.noisy_means(ctx)
        logits = self.head[0](features) / self.temperature
        return F.cross_entropy(logits, self.outputs_per_class(ctx) * classes)


class SemanticAugmentation(_PrototypeTerm):
    """Compute `semantic_augmentation_loss` at the means of old classes that are drawn uniformly (IL2A).

    Args:
        context: see `_PrototypeTerm`; covariances are kept too.
        draws: means per step.
        temperature: divisor of the logits.
        strength: k.
    """

    def __init__(self, context: TermContext, draws: int, temperature: float, strength: float) -> None:
        super().__init__("prototypes", context, draws)
        self.head, self.temperature, self.strength = (
            head_of(context.nets["student"]),
            temperature,
            strength,
        )

    def forward(self, ctx: Context) -> Tensor:
        covariances = self.statistics.covariances
        assert covariances is not None, "the method keeps no covariances"
        classes = self.drawn_classes(ctx.streams.get(f"{self.name} draws"))
        labels = self.outputs_per_class(ctx) * classes
        return semantic_augmentation_loss(
            self.head[0], self.means[classes], covariances[classes], labels, self.strength, self.temperature
        )


def semantic_augmentation_loss(
    head: torch.nn.Module,
    means: Tensor,
    covariances: Tensor,
    classes: Tensor,
    strength: float,
    temperature: float,
) -> Tensor:
    """Return the cross-entropy of (W m_c + b + (k/2) q) / T with q_j = (w_j - w_c)' S_c (w_j - w_c).

    It is an upper bound of the cross-entropy of features that are drawn from N(m_c, k S_c) without end (IL2A, after
    ISDA).

    Args:
        head: a growing classifier with rows w_j.
        means: m_c, (M,D).
        covariances: S_c, (M,D,D).
        classes: c, the row of the classifier that is right, (M,).
        strength: k.
        temperature: T.
    """
    weight: Tensor = head.weight()  # type: ignore[operator]
    difference = weight[None] - weight[classes][:, None]
    quadratic = ((difference @ covariances) * difference).sum(2)
    return F.cross_entropy((head(means) + strength / 2 * quadratic) / temperature, classes)


class PrototypeRelation(_PrototypeTerm):
    """Compute RGAL's gather triplet with noisy means of old classes as negatives.

    New images of a class are drawn together, away from where old classes were. The means are constants: gradients reach
    the extractor through the real images alone. Anchors and positives are the pooled features of real images; where
    there are rotations, of the unrotated ones, of which the means are too. Means are clamped at 0, as the features come
    out of a ReLU.

    Args:
        context: see `_PrototypeTerm`.
        draws: noisy means per step.
        band: which distances negatives may have.
        margin: of the hinge, in units of the distance of unit vectors.
    """

    def __init__(self, context: TermContext, draws: int, band: BandName, margin: float) -> None:
        super().__init__("prototype_gather", context, draws)
        self.band, self.margin = BANDS[band], margin

    def forward(self, ctx: Context) -> Tensor:
        features = ctx.of("student").required_feature
        upright = real_images(ctx) // self.outputs_per_class(ctx)
        means, classes = self.noisy_means(ctx)
        rng = ctx.streams.get(f"{self.name} negatives")
        return self.loss(features[:upright], ctx.targets[:upright], means.clamp_min(0), classes, rng, ctx)

    def loss(
        self,
        features: Tensor,
        labels: Tensor,
        means: Tensor,
        classes: Tensor,
        rng: torch.Generator,
        ctx: Context,
    ) -> Tensor:
        """Return the loss, and note the share of anchors without a negative inside the band.

        Args:
            features: of real images, (R,D).
            labels: theirs, (R,).
            means: noisy means of old classes, (M,D).
            classes: theirs, (M,).
            rng: draws the negatives.
            ctx: takes the note.
        """
        rows = torch.cat([features, means.detach()])
        real = torch.arange(len(rows), device=rows.device) < len(features)
        row_labels = torch.cat([labels, -1 - classes])  # an old class never has the label of a new one
        negatives = sample_negatives(
            rows.detach(), row_labels, self.band, rng, among=real[:, None] & ~real[None, :]
        )
        ctx.notes[f"{self.name}_fallback"] = fallback_share(negatives)
        return triplet([rows], negatives, "gather", self.margin)


# The terms as recipes name them -------------------------------------------------------------------------------


def prototype_cross_entropy(weight: float, draws: int = 64, temperature: float = 0.1) -> LossTerm:
    """Make `PrototypeCrossEntropy`. Raises ValueError for less than one draw."""
    _check_draws(draws)
    return LossTerm("prototypes", weight, lambda context: PrototypeCrossEntropy(context, draws, temperature))


def semantic_augmentation(
    weight: float, draws: int = 64, temperature: float = 0.1, strength: float = 2.5
) -> LossTerm:
    """Make `SemanticAugmentation`. Raises ValueError for less than one draw."""
    _check_draws(draws)
    return LossTerm(
        "prototypes", weight, lambda context: SemanticAugmentation(context, draws, temperature, strength)
    )


def prototype_relation(weight: float, band: BandName, margin: float, draws: int = 64) -> LossTerm:
    """Make `PrototypeRelation`."""
    return LossTerm(
        "prototype_gather", weight, lambda context: PrototypeRelation(context, draws, band, margin)
    )


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws={draws}: expected 1 or more; the term's weight switches it off")
