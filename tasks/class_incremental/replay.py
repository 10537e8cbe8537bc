"""Terms that pull images of old classes out of a model without asking for labels: ABD's, which R-DFCIL took over.

Smith et al., "Always Be Dreaming", ICCV 2021, in the form of its code. t (N,O): the old model's logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.observe import BatchNormStatistics
from rgal.terms.batch_norm import EPSILON
from rgal.terms.game import information_entropy_loss
from rgal.terms.inversion import teacher_norms
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext, stateless


def content_loss(teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of t / temperature and argmax t: confident in whatever class it is."""
    return F.cross_entropy(teacher / temperature, teacher.argmax(1))


def running_divergence(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """Mean over layers of the mean over channels of KL(N(M, V) || N(m, v)) = ((M - m)^2 + V) / 2v + ln(v/V)/2 - 1/2,
    (m, v) of the batch, biased, (M, V) running; both variances + 1e-5.

    The other direction than `bn_gaussian_loss`, and averaged.
    """
    parts = []
    for s in statistics:
        var, wanted = s.var + EPSILON, s.running_var + EPSILON
        divergence = ((s.running_mean - s.mean).square() + wanted) / var + (var / wanted).log() - 1
        parts.append(0.5 * divergence.mean())
    return torch.stack(parts).mean()


def gaussian_kernel(deviation: float = math.sqrt(2), size: int = 5) -> Tensor:
    """(size, size), of sum 1."""
    at = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    line = torch.exp(-at.square() / (2 * deviation**2))
    kernel = line[:, None] * line[None, :]
    return kernel / kernel.sum()


def roughness(images: Tensor, kernel: Tensor) -> Tensor:
    """Mean squared difference of images (N,C,H,W) and themselves blurred by the kernel, reflected at the border."""
    channels, reach = images.shape[1], kernel.shape[0] // 2
    padded = F.pad(images, [reach] * 4, mode="reflect")
    weight = kernel.to(images).expand(channels, 1, *kernel.shape)
    return F.mse_loss(images, F.conv2d(padded, weight, groups=channels))


# The terms as recipes name them -------------------------------------------------------------------------------


def content(weight: float, temperature: float = 1000.0) -> LossTerm:
    """`content_loss`. At the release's temperature its gradient is a thousandth of a plain cross-entropy's."""
    return stateless(
        "oh", weight, lambda ctx: content_loss(ctx.of("teacher").logits, temperature), Reads("teacher")
    )


def diversity(weight: float) -> LossTerm:
    """1 + sum_c P_c ln P_c / ln O, P the batch mean of softmax(t): 0 when all classes come equally often."""

    def loss(ctx: Context) -> Tensor:
        teacher = ctx.of("teacher").logits
        return 1 + information_entropy_loss(teacher) / math.log(max(2, teacher.shape[1]))

    return stateless("ie", weight, loss, Reads("teacher"))


def bn_running(weight: float) -> LossTerm:
    """`running_divergence` of the old model's statistics."""

    def build(context: TermContext) -> Term:
        teacher_norms(context)
        return FunctionTerm(lambda ctx: running_divergence(ctx.of("teacher").bn), [Reads("teacher", "bn")])

    return LossTerm("bn", weight, build)


def smoothness(weight: float) -> LossTerm:
    """`roughness` of the normalised images under a 5x5 Gaussian whose deviation is sqrt(2), as the code has it."""

    def build(context: TermContext) -> Term:
        return _Smoothness()

    return LossTerm("smooth", weight, build)


class _Smoothness(Term):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", gaussian_kernel(), persistent=False)

    def forward(self, ctx: Context) -> Tensor:
        return roughness(ctx.domain.normalise(ctx.images), self.kernel)


def dreams(oh: float, oh_temperature: float, ie: float, bn: float, smooth: float) -> tuple[LossTerm, ...]:
    """The four terms by their weights: content, diversity, statistics, smoothness."""
    return content(oh, oh_temperature), diversity(ie), bn_running(bn), smoothness(smooth)
