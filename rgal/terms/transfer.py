"""Terms that a student minimises: distillation of outputs, attention, channels and channel relations."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.seeding import global_seed
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, stateless


def distillation(
    weight: float = 1.0, temperature: float = 20.0, reduction: Literal["batchmean", "mean"] = "batchmean"
) -> LossTerm:
    """Distil the teacher's outputs as Hinton et al. 2015: T^2 * KL(teacher || student), see `kl_div`.

    Args:
        weight: the term's weight.
        temperature: T.
        reduction: "batchmean" for the mean over samples; "mean" also divides by the number of classes, as torch's
            KLDivLoss() does by default, and GDFQ with it.
    """

    def loss(ctx: Context) -> Tensor:
        teacher = ctx.of("teacher").logits
        value = ctx.mean(kl_div(ctx.of("student").logits, teacher, temperature, "none"))
        return value / teacher.shape[1] if reduction == "mean" else value

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


def cross_entropy(weight: float = 1.0) -> LossTerm:
    """Train the student on the batch's labels by cross-entropy, or on the shares of the classes in mixed images.

    Real images have their true labels.
    """

    def loss(ctx: Context) -> Tensor:
        logits, targets = ctx.of("student").logits, ctx.cross_entropy_targets
        if ctx.weights is None:
            return F.cross_entropy(logits, targets)
        return ctx.mean(F.cross_entropy(logits, targets, reduction="none"))

    return stateless("ce", weight, loss, Reads("student"))


def logit_distance(weight: float = 1.0) -> LossTerm:
    """Distil logits as DFAD (Fang et al. 2019): mean |s - t| over samples and classes."""
    return stateless(
        "kd",
        weight,
        lambda ctx: F.l1_loss(ctx.of("student").logits, ctx.of("teacher").logits),
        Reads("student"),
        Reads("teacher"),
    )


def attention(layer: Tensor, size: tuple[int, int]) -> Tensor:
    """Map where a layer is active: the mean over channels of its squares, averaged to `size`.

    layer: (N,C,H,W). Returns (N, h*w), each row of unit l2 norm.

    >>> attention(torch.ones(1, 3, 4, 4), (2, 2))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    energy = layer.float().square().mean(1, keepdim=True)
    return F.normalize(F.adaptive_avg_pool2d(energy, size).flatten(1))


def attention_transfer(weight: float) -> LossTerm:
    """Distil where the layers are active (Zagoruyko & Komodakis 2017), with A = `attention` and images of H x W pixels.

    (H W / 32^2) sum_l mean over samples and positions of (A(s_l) - A(t_l))^2. At 32x32 this is their code and ZSKT's,
    whose weight of 250 is for it; ZSKT's paper writes unsquared norms, averaged over layers. Maps have unit norm, so
    that without the factor their mean over positions would be 16 times as large at 8x8. Layers are paired from the
    front, and each pair is compared at the smaller of its two sizes.
    """

    def loss(ctx: Context) -> Tensor:
        losses = []
        for s, t in zip(ctx.of("student").layers, ctx.of("teacher").layers, strict=False):
            size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
            losses.append(F.mse_loss(attention(s, size), attention(t, size)))
        _, height, width = ctx.domain.shape
        return torch.stack(losses).sum() * (height * width / 32**2)

    return stateless("at", weight, loss, Reads("student", "layers"), Reads("teacher", "layers"))


def channel_means(layer: Tensor) -> Tensor:
    """Average each channel over all positions: (N,C,H,W) -> (N,C) in float32."""
    return layer.float().mean((2, 3))


def gram_weights(teacher: Tensor) -> Tensor:
    """Weight each channel by how little it correlates with the others: 1.001 - minmax(A), A_nc = sum_c' <T_nc, T_nc'>.

    teacher: a layer (N,C,H,W). Returns (N,C). minmax scales to [0,1] over the whole batch and all channels; if A is
    constant, the weights are 1.001 instead of 0/0.
    """
    flat = teacher.float().flatten(2)
    affinity = (flat * flat.sum(1, keepdim=True)).sum(2)
    low, high = affinity.min(), affinity.max()
    return 1.001 - (affinity - low) / (high - low).clamp_min(1e-12)


class _LayerMatching(Term):
    """Map the student's layers to the teacher's widths by 1x1 convolutions, which are trained with the student.

    Layers are paired from the front; the extra layers of a deeper network are left out.
    """

    reads = (Reads("student", "layers"), Reads("teacher", "layers"))

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        widths = [
            [layer.shape[1] for layer in context.probe(name, "layers").layers]
            for name in ("student", "teacher")
        ]
        with global_seed(context.seed, "layer maps"):
            self.maps = nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(*widths, strict=False))

    def pairs(self, ctx: Context) -> list[tuple[nn.Conv2d, Tensor, Tensor]]:
        """List (the convolution, the student's layer, the teacher's layer) of each pair."""
        maps = [m for m in self.maps if isinstance(m, nn.Conv2d)]
        return list(zip(maps, ctx.of("student").layers, ctx.of("teacher").layers, strict=False))


class ChannelDistillation(_LayerMatching):
    """Match channel means: sum_l MSE(GAP(W_l s_l), GAP(t_l)), GAP the spatial mean. `CDLoss` of the RGAL release.

    A 1x1 convolution and the spatial mean commute; taking the mean first gives the same number for 1/HW of the work.
    """

    def forward(self, ctx: Context) -> Tensor:
        losses = [F.mse_loss(_conv1x1(m, channel_means(s)), channel_means(t)) for m, s, t in self.pairs(ctx)]
        return torch.stack(losses).sum()


class GramDistillation(_LayerMatching):
    """Match layers channel by channel: sum_l mean(m_l * (W_l s_l - t_l)^2) with m_l = `gram_weights`(t_l).

    `GRAMLoss` of the RGAL release; despite its name it is no distance between Gram matrices. The layers of a pair must
    have the same spatial size.
    """

    def forward(self, ctx: Context) -> Tensor:
        losses = []
        for conv, s, t in self.pairs(ctx):
            error = (conv(s.float()) - t.float()).square().flatten(2).mean(2)
            losses.append((gram_weights(t) * error).mean())
        return torch.stack(losses).sum()


def _conv1x1(conv: nn.Conv2d, pooled: Tensor) -> Tensor:
    return F.linear(pooled, conv.weight.flatten(1), conv.bias)


def channel_distillation(weight: float, until: float = 1.0) -> LossTerm:
    """Distil channel means by `ChannelDistillation`, until that share of the rounds after warm-up is done."""
    return LossTerm("cd", weight, ChannelDistillation, until=until)


def gram_distillation(weight: float, until: float = 1.0) -> LossTerm:
    """Distil layers by `GramDistillation`, until that share of the rounds after warm-up is done."""
    return LossTerm("gram", weight, GramDistillation, until=until)
