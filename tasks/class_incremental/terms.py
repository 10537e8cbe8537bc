"""Loss terms of a model that learns new classes and keeps old ones.

Notation: a step shows R real images of new classes, then S replayed ones of old classes. z (R+S, C) are the logits of
the model, of whose C classes O are old; t (R+S, O) those of the frozen old model; f and g (R+S, D) their pooled
features. W and b are the rows of the model's classifier, V those of the old model's. Replayed images have the label
argmax t.
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

# What losses are made of --------------------------------------------------------------------------------------


def incremental_labels(ctx: Context) -> Tensor:
    """Return labels (R+S,): the true ones of real images, the old model's predictions for replayed ones."""
    replayed = ctx.of("teacher").logits[real_images(ctx) :].argmax(1)
    return torch.cat([ctx.targets[: real_images(ctx)], replayed])


def old_classes(ctx: Context) -> int:
    """Return O, the number of the old model's logits."""
    return ctx.of("teacher").logits.shape[1]


def head_of(net: nn.Module) -> tuple[GrowingHead]:
    """Return a network's growing classifier, in a tuple: as an attribute of a term it must not become its submodule."""
    return (cast(GrowingHead, net.get_submodule(cast(str, net.head_name))),)


def r_dfcil_factors(old: int, new: int) -> tuple[float, float]:
    """Return (alpha, beta) = (log2(new/2 + 1), sqrt(old/new)), by which R-DFCIL weighs terms by numbers of classes.

    >>> r_dfcil_factors(old=54, new=6)
    (2.0, 3.0)
    """
    return math.log2(new / 2 + 1), math.sqrt(old / new)


def angle_cosines(x: Tensor) -> Tensor:
    """Return, for rows x (N,D), the cosine of the angle at i between j and k, (N,N,N); 0 where two of them coincide.

    >>> angle_cosines(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))[0]
    tensor([[0., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    difference = F.normalize(x[None, :, :] - x[:, None, :], dim=2)
    return difference @ difference.transpose(1, 2)


# Formulas -----------------------------------------------------------------------------------------------------


def local_cross_entropy_loss(logits: Tensor, labels: Tensor, old: int) -> Tensor:
    """Return the cross-entropy over the new classes alone; no gradient reaches the rows of old classes.

    Args:
        logits: of real images, (R,C).
        labels: (R,), each at least `old`.
        old: number of old classes.
    """
    return F.cross_entropy(logits[:, old:], labels - old)


def balanced_cross_entropy_loss(logits: Tensor, labels: Tensor, real: int, old: int) -> Tensor:
    """Return 1/(R+S) [(C-O)/C sum over real images CE + O/C sum over replayed images CE] (ABD's L_head).

    Args:
        logits: over all classes, (R+S, C).
        labels: (R+S,).
        real: R; the first images are real.
        old: O, number of old classes.
    """
    classes = logits.shape[1]
    each = F.cross_entropy(logits, labels, reduction="none")
    return ((classes - old) / classes * each[:real].sum() + old / classes * each[real:].sum()) / len(each)


def feature_distillation_loss(features: Tensor, old_features: Tensor, old_head: Tensor) -> Tensor:
    """Return mean_i (1/O) |V (f_i - g_i)|^2 (ABD's L_kd): features may move where the old classifier does not look.

    Args:
        features: f, (N,D).
        old_features: g, (N,D).
        old_head: V, (O,D).
    """
    return F.linear(features - old_features, old_head).square().mean()


def relational_distillation_loss(new: Tensor, old: Tensor) -> Tensor:
    """Return the mean over (i,j,k) of |cos angle_i(j,k) of new - of old|, rows (N,D) (Park et al., CVPR 2019)."""
    return (angle_cosines(new) - angle_cosines(old)).abs().mean()


def old_logit_distillation_loss(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Return -mean_i sum_c softmax(t_i/T)_c log softmax(z_i/T)_c over the old classes, without a factor T^2.

    That is LwF's loss in the form of PyCIL.

    Args:
        logits: z, (N,C).
        old_logits: t, (N,O).
        temperature: T.
    """
    log_q = F.log_softmax(logits[:, : old_logits.shape[1]] / temperature, dim=1)
    return -(F.softmax(old_logits / temperature, dim=1) * log_q).sum(1).mean()


# The terms as recipes name them -------------------------------------------------------------------------------


def seen_cross_entropy(weight: float = 1.0, temperature: float = 1.0) -> LossTerm:
    """Make the cross-entropy of z / temperature over all classes seen so far, on real images."""

    def loss(ctx: Context) -> Tensor:
        real = real_images(ctx) or len(ctx.targets)
        return F.cross_entropy(ctx.of("student").logits[:real] / temperature, ctx.targets[:real])

    return stateless("ce", weight, loss, Reads("student"))


def local_cross_entropy(weight: float = 1.0, scale: Scale = "none", until: float = 1.0) -> LossTerm:
    """Make `local_cross_entropy_loss` of real images.

    Args:
        weight: of the term.
        scale: a factor by numbers of classes. "share": (C-O)/C, as in ABD; "r_dfcil": (1 + 1/alpha) / beta.
        until: progress from which on the term is off.
    """

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
    """Make `old_logit_distillation_loss` of real images (LwF)."""

    def loss(ctx: Context) -> Tensor:
        z, t = (ctx.of(net).logits[: real_images(ctx)] for net in ("student", "teacher"))
        return old_logit_distillation_loss(z, t, temperature)

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


class HeadCrossEntropy(Term):
    """Compute the cross-entropy over all classes on detached features, which trains the classifier and nothing else.

    Args:
        context: its student has a growing classifier.
        form: "share": `balanced_cross_entropy_loss`. "counts": the mean weighted by w_c = sum of counts / max(1,
            count_c), where labels are counted over the steps of the phase in which the term is active, the current one
            included (R-DFCIL).
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
        features = ctx.of("student").required_feature
        logits, labels = self.head[0](features.detach()), incremental_labels(ctx)
        if self.form == "share":
            return balanced_cross_entropy_loss(logits, labels, real_images(ctx), old_classes(ctx))
        with torch.no_grad():
            self.counts += F.one_hot(labels, logits.shape[1]).sum(0)
            weight = self.counts.sum() / self.counts.clamp_min(1)
        return F.cross_entropy(logits, labels, weight)


def head_cross_entropy(
    weight: float = 1.0, form: Literal["share", "counts"] = "share", since: float = 0.0
) -> LossTerm:
    """Make `HeadCrossEntropy`, which is on from progress `since` on."""
    return LossTerm("head", weight, lambda context: HeadCrossEntropy(context, form), since=since)


class FeatureDistillation(Term):
    """Compute `feature_distillation_loss` of all images through the classifier of the context's teacher."""

    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        self.head = head_of(context.nets["teacher"])

    def forward(self, ctx: Context) -> Tensor:
        f, g = ctx.of("student").required_feature, ctx.of("teacher").required_feature
        return feature_distillation_loss(f, g, self.head[0].weight().detach())


def feature_distillation(weight: float) -> LossTerm:
    """Make `FeatureDistillation`."""
    return LossTerm("kd", weight, FeatureDistillation)


def hard_distillation(weight: float) -> LossTerm:
    """Make alpha beta mean |z - t| over old classes, of replayed images (R-DFCIL)."""

    def loss(ctx: Context) -> Tensor:
        z, t = (ctx.of(net).logits[real_images(ctx) :] for net in ("student", "teacher"))
        old, new = t.shape[1], z.shape[1] - t.shape[1]
        alpha, beta = r_dfcil_factors(old, new)
        return alpha * beta * F.l1_loss(z[:, :old], t)

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


class RelationalDistillation(Term):
    """Compute alpha beta `relational_distillation_loss` of P f and Q g of real images.

    P and Q are linear, D to 2D, and both are trained, as in R-DFCIL's code.
    """

    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        width = head_of(context.nets["student"])[0].features
        with global_seed(context.seed, "relational projections"):
            self.new, self.old = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)

    def forward(self, ctx: Context) -> Tensor:
        f, g, real = ctx.of("student").required_feature, ctx.of("teacher").required_feature, real_images(ctx)
        old = old_classes(ctx)
        alpha, beta = r_dfcil_factors(old, ctx.of("student").logits.shape[1] - old)
        return alpha * beta * relational_distillation_loss(self.new(f[:real]), self.old(g[:real].detach()))


def relational_distillation(weight: float, until: float = 1.0) -> LossTerm:
    """Make `RelationalDistillation`, which is on until progress `until`."""
    return LossTerm("rkd", weight, RelationalDistillation, until=until)


def feature_norm_distillation(weight: float) -> LossTerm:
    """Make |f - g|_F over the whole batch, neither squared nor averaged (PASS); it grows like the root of the batch."""

    def loss(ctx: Context) -> Tensor:
        f, g = ctx.of("student").required_feature, ctx.of("teacher").required_feature
        return torch.linalg.vector_norm(f - g)

    return stateless("kd", weight, loss, Reads("student", "feature"), Reads("teacher", "feature"))


def replay_learning(kd: float = 0.1) -> tuple[LossTerm, ...]:
    """Make ABD's three terms, the default of methods that replay images; `kd` is the weight of the third."""
    return local_cross_entropy(1.0, "share"), head_cross_entropy(), feature_distillation(kd)
