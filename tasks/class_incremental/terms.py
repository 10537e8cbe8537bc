"""What a model minimises while it learns new classes and keeps old ones.

Notation: a step sees R real images of new classes and S replayed ones of old classes, in this order. z (R+S, C): logits
of the model, O of its C classes are old; t (R+S, O): of the frozen old model; f, g (R+S, D): their pooled features.
W, b: rows of the model's classifier, V: of the old one's. Replayed images have the label argmax t.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.seeding import global_seed
from rgal.tasks.class_incremental.groups import real_images
from rgal.tasks.class_incremental.head import GrowingHead
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, stateless

Scale = Literal["none", "share", "r_dfcil"]


def incremental_labels(ctx: Context) -> Tensor:
    """Labels (R+S,): the true ones of real images, the old model's own of replayed ones."""
    replayed = ctx.of("teacher").logits[real_images(ctx) :].argmax(1)
    return torch.cat([ctx.targets[: real_images(ctx)], replayed])


def r_dfcil_factors(old: int, new: int) -> tuple[float, float]:
    """(alpha, beta) = (log2(new/2 + 1), sqrt(old/new)): how R-DFCIL weighs its terms by numbers of classes."""
    return math.log2(new / 2 + 1), math.sqrt(old / new)


def local_cross_entropy_loss(logits: Tensor, labels: Tensor, old: int) -> Tensor:
    """Cross-entropy over the new classes alone, (R,C) and labels (R,) >= old: no gradient reaches old rows."""
    return F.cross_entropy(logits[:, old:], labels - old)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, real: int, old: int) -> Tensor:
    """1/(R+S) [ (C-O)/C sum over real CE + O/C sum over replayed CE ], CE over all C classes (ABD's L_head)."""
    classes = logits.shape[1]
    each = F.cross_entropy(logits, labels, reduction="none")
    return ((classes - old) / classes * each[:real].sum() + old / classes * each[real:].sum()) / len(each)


def feature_distillation_loss(features: Tensor, old_features: Tensor, old_head: Tensor) -> Tensor:
    """mean_i (1/O) |V (f_i - g_i)|^2: features may move where the old classifier does not look (ABD's L_kd)."""
    return F.linear(features - old_features, old_head).square().mean()


def angle_cosines(x: Tensor) -> Tensor:
    """cos of the angle at i between j and k, (N,N,N) of rows x (N,D); 0 where two of the three coincide."""
    difference = F.normalize(x[None, :, :] - x[:, None, :], dim=2)
    return difference @ difference.transpose(1, 2)


def angle_distillation(new: Tensor, old: Tensor) -> Tensor:
    """Mean over all (i,j,k) of |cos angle_i(j,k) of new - of old| (relational distillation, Park et al. 2019)."""
    return (angle_cosines(new) - angle_cosines(old)).abs().mean()


def soft_cross_entropy(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """-mean_i sum_c softmax(t_i/T)_c log softmax(z_i/T)_c over the old classes, without a factor T^2 (LwF, PyCIL)."""
    log_q = F.log_softmax(logits[:, : old_logits.shape[1]] / temperature, dim=1)
    return -(F.softmax(old_logits / temperature, dim=1) * log_q).sum(1).mean()


# The terms as recipes name them -------------------------------------------------------------------------------


def old_classes(ctx: Context) -> int:
    """Outputs of the old model."""
    return ctx.of("teacher").logits.shape[1]


def seen_cross_entropy(weight: float = 1.0, temperature: float = 1.0) -> LossTerm:
    """Cross-entropy of z / temperature over all classes, of real images."""

    def loss(ctx: Context) -> Tensor:
        real = real_images(ctx) or len(ctx.targets)
        return F.cross_entropy(ctx.of("student").logits[:real] / temperature, ctx.targets[:real])

    return stateless("ce", weight, loss, Reads("student"))


def local_cross_entropy(weight: float = 1.0, scale: Scale = "none", until: float = 1.0) -> LossTerm:
    """`local_cross_entropy_loss` of real images. scale "share": times (C-O)/C (ABD); "r_dfcil":
    times (1 + 1/alpha) / beta."""

    def loss(ctx: Context) -> Tensor:
        logits, old = ctx.of("student").logits, old_classes(ctx)
        new = logits.shape[1] - old
        alpha, beta = r_dfcil_factors(old, new)
        factor = {"none": 1.0, "share": new / (new + old), "r_dfcil": (1 + 1 / alpha) / beta}[scale]
        return factor * local_cross_entropy_loss(
            logits[: real_images(ctx)], ctx.targets[: real_images(ctx)], old
        )

    return stateless("ce", weight, loss, Reads("student"), Reads("teacher"), until=until)


def old_logit_distillation(weight: float, temperature: float = 2.0) -> LossTerm:
    """`soft_cross_entropy` of real images (LwF)."""

    def loss(ctx: Context) -> Tensor:
        z, t = (ctx.of(net).logits[: real_images(ctx)] for net in ("student", "teacher"))
        return soft_cross_entropy(z, t, temperature)

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


class HeadCrossEntropy(Term):
    """Cross-entropy over all classes on detached features: it trains the classifier and nothing else.

    form "share": `balanced_cross_entropy`. "counts": mean weighted by w_c = sum of counts / max(1, count_c), counts of
    labels over the phase's steps in which the term is active, this one included (R-DFCIL).
    """

    reads = (Reads("student", "feature"), Reads("teacher"))
    counts: Tensor

    def __init__(self, context: TermContext, form: Literal["share", "counts"]) -> None:
        super().__init__()
        self.head = head_of(context.nets["student"])
        self.form = form
        outputs = sum(cast(nn.Linear, part).out_features for part in self.head[0].parts)
        self.register_buffer("counts", torch.zeros(outputs))

    def forward(self, ctx: Context) -> Tensor:
        seen = ctx.of("student")
        assert seen.feature is not None
        logits, labels = self.head[0](seen.feature.detach()), incremental_labels(ctx)
        if self.form == "share":
            return balanced_cross_entropy(logits, labels, real_images(ctx), old_classes(ctx))
        with torch.no_grad():
            self.counts += F.one_hot(labels, logits.shape[1]).sum(0)
            weight = self.counts.sum() / self.counts.clamp_min(1)
        return F.cross_entropy(logits, labels, weight)


def head_of(net: nn.Module) -> tuple[GrowingHead]:
    """The net's growing classifier, in a tuple: as an attribute of a term it must not become its submodule."""
    return (cast(GrowingHead, net.get_submodule(cast(str, net.head_name))),)


def head_cross_entropy(
    weight: float = 1.0, form: Literal["share", "counts"] = "share", since: float = 0.0
) -> LossTerm:
    return LossTerm("head", weight, lambda context: HeadCrossEntropy(context, form), since=since)


def feature_distillation(weight: float) -> LossTerm:
    """`feature_distillation_loss` of all images."""

    def build(context: TermContext) -> Term:
        head = head_of(context.nets["teacher"])
        return _FeatureDistillation(head)

    return LossTerm("kd", weight, build)


class _FeatureDistillation(Term):
    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, head: tuple[GrowingHead]) -> None:
        super().__init__()
        self.head = head

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").feature, ctx.of("teacher").feature
        assert f is not None and g is not None
        return feature_distillation_loss(f, g, self.head[0].weight().detach())


def hard_distillation(weight: float) -> LossTerm:
    """alpha beta mean |z - t| over old classes, of replayed images (R-DFCIL)."""

    def loss(ctx: Context) -> Tensor:
        z, t = (ctx.of(net).logits[real_images(ctx) :] for net in ("student", "teacher"))
        old, new = t.shape[1], z.shape[1] - t.shape[1]
        alpha, beta = r_dfcil_factors(old, new)
        return alpha * beta * F.l1_loss(z[:, :old], t)

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


class RelationalDistillation(Term):
    """alpha beta `angle_distillation` of P f and Q g of real images; P and Q (D -> 2D) are trained, Q too, as in
    R-DFCIL's code."""

    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        width = head_of(context.nets["student"])[0].features
        with global_seed(context.seed, "relational projections"):
            self.new, self.old = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").feature, ctx.of("teacher").feature
        assert f is not None and g is not None
        old = old_classes(ctx)
        alpha, beta = r_dfcil_factors(old, ctx.of("student").logits.shape[1] - old)
        return (
            alpha
            * beta
            * angle_distillation(self.new(f[: real_images(ctx)]), self.old(g[: real_images(ctx)].detach()))
        )


def relational_distillation(weight: float, until: float = 1.0) -> LossTerm:
    return LossTerm("rkd", weight, RelationalDistillation, until=until)


def feature_norm_distillation(weight: float) -> LossTerm:
    """|f - g|_F over the whole batch, not squared and not averaged (PASS): it grows like the root of the batch."""

    def loss(ctx: Context) -> Tensor:
        f, g = ctx.of("student").feature, ctx.of("teacher").feature
        assert f is not None and g is not None
        return torch.linalg.vector_norm(f - g)

    return stateless("kd", weight, loss, Reads("student", "feature"), Reads("teacher", "feature"))


def replay_learning(kd: float = 0.1) -> tuple[LossTerm, ...]:
    """ABD's three terms (Smith et al. 2021): what every learner minimises that replays and names nothing else."""
    return local_cross_entropy(1.0, "share"), head_cross_entropy(), feature_distillation(kd)
