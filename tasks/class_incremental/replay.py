"""Terms that invert images of old classes from a model without drawn labels: ABD's, which R-DFCIL took over.

Smith et al., "Always Be Dreaming", ICCV 2021, in the form of its code. t (N,O) are the old model's logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.observe import BatchNormStatistics
from rgal.terms.game import information_entropy_loss
from rgal.terms.inversion import teacher_norms
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext, stateless

EPSILON = 1e-8  # added to variances, as ABD's code does


def content_loss(teacher: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of t / temperature and argmax t: low for an image of one class, whichever it is."""
    return F.cross_entropy(teacher / temperature, teacher.argmax(1))


def diversity_loss(teacher: Tensor) -> Tensor:
    """Return 1 + sum_c P_c ln P_c / ln O, P the batch mean of softmax(t): 0 when all classes come equally often.

    >>> diversity_loss(torch.tensor([[9.0, 0.0], [0.0, 9.0]])).abs() < 1e-6
    tensor(True)
    """
    return 1 + information_entropy_loss(teacher) / math.log(max(2, teacher.shape[1]))


def bn_running_loss(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """Return the mean over layers of the mean over channels of KL(N(M, V) || N(m, v)).

    KL = ((M - m)^2 + V) / 2v + ln(v/V)/2 - 1/2, (m, v) mean and biased variance of the batch, (M, V) the running ones;
    1e-8 is added to both variances, as in ABD's code. `bn_gaussian_loss` takes the other direction, without averaging.
    """
    divergences = []
    for layer in statistics:
        variance, running_variance = layer.var + EPSILON, layer.running_var + EPSILON
        shift = (layer.running_mean - layer.mean).square()
        divergence = (shift + running_variance) / variance + (variance / running_variance).log() - 1
        divergences.append(0.5 * divergence.mean())
    return torch.stack(divergences).mean()


def gaussian_kernel(deviation: float = math.sqrt(2), size: int = 5) -> Tensor:
    """Return a Gaussian kernel (size, size) whose sum is 1; `deviation` in pixels."""
    at = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    line = torch.exp(-at.square() / (2 * deviation**2))
    kernel = line[:, None] * line[None, :]
    return kernel / kernel.sum()


def smoothness_loss(images: Tensor, kernel: Tensor) -> Tensor:
    """Return the mean squared difference of images (N,C,H,W) and their blur by the kernel, reflected at borders."""
    channels, reach = images.shape[1], kernel.shape[0] // 2
    padded = F.pad(images, [reach] * 4, mode="reflect")
    weight = kernel.to(images).expand(channels, 1, *kernel.shape)
    return F.mse_loss(images, F.conv2d(padded, weight, groups=channels))


class Smoothness(Term):
    """Compute `smoothness_loss` of the normalised images under `gaussian_kernel`."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", gaussian_kernel(), persistent=False)

    def forward(self, ctx: Context) -> Tensor:
        return smoothness_loss(ctx.domain.normalise(ctx.images), self.kernel)


# The terms as recipes name them -------------------------------------------------------------------------------


def content(weight: float, temperature: float = 1000.0) -> LossTerm:
    """Make `content_loss`. At the release's temperature its gradient is a thousandth of a plain cross-entropy's."""
    return stateless(
        "oh", weight, lambda ctx: content_loss(ctx.of("teacher").logits, temperature), Reads("teacher")
    )


def diversity(weight: float) -> LossTerm:
    """Make `diversity_loss`."""
    return stateless("ie", weight, lambda ctx: diversity_loss(ctx.of("teacher").logits), Reads("teacher"))


def bn_running(weight: float) -> LossTerm:
    """Make `bn_running_loss` of the old model's statistics."""

    def build(context: TermContext) -> Term:
        teacher_norms(context)
        return FunctionTerm(lambda ctx: bn_running_loss(ctx.of("teacher").bn), [Reads("teacher", "bn")])

    return LossTerm("bn", weight, build)


def smoothness(weight: float) -> LossTerm:
    """Make `Smoothness`: a 5x5 Gaussian whose deviation is sqrt(2) pixels, as in the release."""
    return LossTerm("smooth", weight, lambda context: Smoothness())


def generator_terms(
    oh: float, oh_temperature: float, ie: float, bn: float, smooth: float
) -> tuple[LossTerm, ...]:
    """Make the four terms of ABD's generator.

    Args:
        oh: weight of `content`.
        oh_temperature: its temperature.
        ie: weight of `diversity`.
        bn: weight of `bn_running`.
        smooth: weight of `smoothness`.
    """
    return content(oh, oh_temperature), diversity(ie), bn_running(bn), smoothness(smooth)
