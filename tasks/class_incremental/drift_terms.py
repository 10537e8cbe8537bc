"""Terms of methods that let the extractor move where this does little harm, and keep its features apart.

Notation of `class_incremental.terms`: f and g (N,D) are features of the model and of the frozen old one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.seeding import global_seed
from rgal.tasks.class_incremental.groups import statistics_of
from rgal.tasks.class_incremental.head import GrowingHead
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, stateless

BOTH = (Reads("student", "feature"), Reads("teacher", "feature"))


@torch.no_grad()
def feature_importance(head: GrowingHead, features: Tensor) -> Tensor:
    """Return E = mean_i W'(diag p_i - p_i p_i')W (D,D), p_i the softmax over all outputs (EFC's empirical matrix).

    A step of a feature in E's null space changes no output. Summed in float64.

    Args:
        head: the classifier, rows W.
        features: (N,D).
    """
    weight, p = head.weight().double(), head(features).double().softmax(1)
    mean = torch.diag(p.mean(0)) - p.T @ p / len(p)
    return (weight.T @ mean @ weight).float()


def importance_distillation_loss(
    features: Tensor, old_features: Tensor, importance: Tensor, strength: float, damping: float
) -> Tensor:
    """Return mean_i (f_i - g_i)'(a E + b I)(f_i - g_i) (EFC).

    Args:
        features, old_features: f and g, (N,D).
        importance: E, (D,D).
        strength: a.
        damping: b.
    """
    difference = features - old_features
    quadratic = ((difference @ importance) * difference).sum(1)
    return (strength * quadratic + damping * difference.square().sum(1)).mean()


def anti_collapse_loss(features: Tensor, limit: float = 1.0, jitter: float = 1e-4) -> Tensor:
    """Return -mean_j min(L_jj, limit), L the Cholesky factor of the unbiased covariance of rows (N,D) (AdaGauss).

    In float64, of the covariance + jitter I: a batch of fewer rows than features has no factor without, for which
    AdaGauss's code stops.
    """
    rows = features.double()
    rows = rows - rows.mean(0)
    covariance = rows.T @ rows / max(1, len(rows) - 1)
    identity = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    factor = torch.linalg.cholesky(covariance + jitter * identity)
    return -factor.diagonal().clamp(max=limit).mean().to(features.dtype)


class ImportanceDistillation(Term):
    """Compute `importance_distillation_loss` under the importance that the last phase left."""

    reads = BOTH

    def __init__(self, context: TermContext, strength: float, damping: float) -> None:
        super().__init__()
        self.statistics, self.strength, self.damping = statistics_of(context), strength, damping

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").required_feature, ctx.of("teacher").required_feature
        importance = self.statistics.importance
        assert importance is not None, "the method keeps no importance of features"
        return importance_distillation_loss(f, g, importance, self.strength, self.damping)


class ProjectedDistillation(Term):
    """Compute the mean squared error between q(f) and g, q = Linear(D, w D) - GELU - Linear(w D, D), trained too.

    Args:
        context: its student has a growing classifier.
        width: w.
    """

    reads = BOTH

    def __init__(self, context: TermContext, width: int) -> None:
        super().__init__()
        wide = head_of(context.nets["student"])[0].features
        with global_seed(context.seed, "projected distillation"):
            self.layers = nn.Sequential(
                nn.Linear(wide, width * wide), nn.GELU(), nn.Linear(width * wide, wide)
            )

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").required_feature, ctx.of("teacher").required_feature
        return F.mse_loss(self.layers(f), g)


# The terms as recipes name them -------------------------------------------------------------------------------


def importance_distillation(weight: float, strength: float = 10.0, damping: float = 0.1) -> LossTerm:
    """Make `ImportanceDistillation`."""
    return LossTerm("efm", weight, lambda context: ImportanceDistillation(context, strength, damping))


def projected_distillation(weight: float, width: int = 32) -> LossTerm:
    """Make `ProjectedDistillation`."""
    return LossTerm("kd", weight, lambda context: ProjectedDistillation(context, width))


def anti_collapse(weight: float, limit: float = 1.0) -> LossTerm:
    """Make `anti_collapse_loss` of the features of all images."""

    def loss(ctx: Context) -> Tensor:
        return anti_collapse_loss(ctx.of("student").required_feature, limit)

    return stateless("collapse", weight, loss, Reads("student", "feature"))
