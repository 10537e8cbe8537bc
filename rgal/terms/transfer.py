"""Terms a student minimises: distillation of outputs, channels and channel relations."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.problem import evaluating
from rgal.core.seeding import global_seed
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, stateless


def distillation(
    weight: float = 1.0, temperature: float = 20.0, reduction: Literal["batchmean", "mean"] = "batchmean"
) -> LossTerm:
    """Hinton's KD: T^2 * KL(teacher || student), mean over samples.

    reduction "mean" also divides by the number of classes C, as torch's KLDivLoss() does by default and GDFQ with it.
    """

    def loss(ctx: Context) -> Tensor:
        teacher = ctx.of("teacher").logits
        value = kl_div(ctx.of("student").logits, teacher, temperature)
        return value / teacher.shape[1] if reduction == "mean" else value

    return stateless("kd", weight, loss, Reads("student"), Reads("teacher"))


def cross_entropy(weight: float = 1.0) -> LossTerm:
    """Cross-entropy of the student and the batch's labels (true labels where the images are real), or the shares of
    the classes in mixed images."""
    return stateless(
        "ce", weight, lambda ctx: F.cross_entropy(ctx.of("student").logits, ctx.wanted), Reads("student")
    )


def logit_distance(weight: float = 1.0) -> LossTerm:
    """Mean |s - t| of the logits over samples and classes: DFAD's distillation (Fang et al. 2019)."""
    return stateless(
        "kd",
        weight,
        lambda ctx: F.l1_loss(ctx.of("student").logits, ctx.of("teacher").logits),
        Reads("student"),
        Reads("teacher"),
    )


def attention(layer: Tensor, size: tuple[int, int]) -> Tensor:
    """Where a layer (N,C,H,W) is active: the mean over channels of its squares, averaged to `size`, of unit l2 norm a
    sample; (N, h*w)."""
    energy = layer.float().square().mean(1, keepdim=True)
    return F.normalize(F.adaptive_avg_pool2d(energy, size).flatten(1))


def attention_transfer(weight: float) -> LossTerm:
    """(H W / 32^2) sum_l mean over samples and positions of (A(s_l) - A(t_l))^2, A = `attention` (Zagoruyko & Komodakis
    2017), for images of H x W pixels.

    At 32x32 the form of their code and of ZSKT's, whose weight of 250 is for it; ZSKT's paper writes unsquared norms,
    averaged over layers. Maps have unit norm, so that their mean over positions would be 16 times as large at 8x8: the
    factor keeps the weight's meaning at all sizes. Layers are paired from the front, and compared at the smaller of
    their two sizes.
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
    """Global average pooling: (N,C,H,W) -> (N,C) in float32."""
    return layer.float().mean((2, 3))


def gram_weights(teacher: Tensor) -> Tensor:
    """1.001 - minmax(A), A_nc = sum_c' <T_nc, T_nc'>: how little a channel goes along with the others. (N,C).

    minmax runs over the whole batch and all channels; a constant A gives 1.001 everywhere instead of 0/0.
    """
    flat = teacher.float().flatten(2)
    affinity = (flat * flat.sum(1, keepdim=True)).sum(2)
    low, high = affinity.min(), affinity.max()
    return 1.001 - (affinity - low) / (high - low).clamp_min(1e-12)


class _LayerMatching(Term):
    """Student layers mapped to the teacher's widths by trainable 1x1 convolutions, which join the student's optimiser.

    Layers are paired from the front; a deeper net's extra layers are left alone.
    """

    reads = (Reads("student", "layers"), Reads("teacher", "layers"))

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        widths = [_layer_widths(context, name) for name in ("student", "teacher")]
        with global_seed(context.seed, "layer maps"):
            self.maps = nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(*widths, strict=False))

    def pairs(self, ctx: Context) -> list[tuple[nn.Conv2d, Tensor, Tensor]]:
        maps = [m for m in self.maps if isinstance(m, nn.Conv2d)]
        return list(zip(maps, ctx.of("student").layers, ctx.of("teacher").layers, strict=False))


class ChannelDistillation(_LayerMatching):
    """sum_l MSE(GAP(W_l s_l), GAP(t_l)): the RGAL release's `CDLoss`.

    A 1x1 convolution and the spatial mean commute, so the mean is taken first: the same number for 1/HW of the work.
    """

    def forward(self, ctx: Context) -> Tensor:
        losses = [F.mse_loss(_conv1x1(m, channel_means(s)), channel_means(t)) for m, s, t in self.pairs(ctx)]
        return torch.stack(losses).sum()


class GramDistillation(_LayerMatching):
    """sum_l mean(m_l * (W_l s_l - t_l)^2), m_l = `gram_weights`(t_l): the RGAL release's `GRAMLoss`. Not a distance
    of Gram matrices, whatever its name. Spatial sizes must agree."""

    def forward(self, ctx: Context) -> Tensor:
        losses = []
        for conv, s, t in self.pairs(ctx):
            error = (conv(s.float()) - t.float()).square().flatten(2).mean(2)
            losses.append((gram_weights(t) * error).mean())
        return torch.stack(losses).sum()


def _conv1x1(conv: nn.Conv2d, pooled: Tensor) -> Tensor:
    return F.linear(pooled, conv.weight.flatten(1), conv.bias)


def _layer_widths(context: TermContext, name: str) -> list[int]:
    net = context.nets[name]
    parameter = next(net.parameters())
    probe = torch.zeros(1, *context.domain.shape, device=parameter.device)
    with torch.no_grad(), evaluating(net):
        return [layer.shape[1] for layer in observe(net, probe, ["layers"]).layers]


def channel_distillation(weight: float, until: float = 1.0) -> LossTerm:
    return LossTerm("cd", weight, ChannelDistillation, until=until)


def gram_distillation(weight: float, until: float = 1.0) -> LossTerm:
    return LossTerm("gram", weight, GramDistillation, until=until)
