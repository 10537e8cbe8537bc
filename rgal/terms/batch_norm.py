"""Further forms of matching a teacher's batch norm statistics: as Gaussians, and with a memory of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rgal.core.observe import BatchNormStatistics, channels_of
from rgal.terms.inversion import teacher_norms
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext

EPSILON = 1e-5  # what a batch norm adds to a variance; a dead channel has none of its own


def gaussian_divergence(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """sum_l sum_c KL(N(m, v) || N(M, V)) = ((m - M)^2 + v) / 2V - ln(v/V)/2 - 1/2, with (m, v) the batch's mean and
    biased variance and (M, V) the running ones; both variances + 1e-5.

    Choi et al. 2020; CMI's copy of the method has `batch_norm_l2` instead.
    """
    parts = []
    for s in statistics:
        var, wanted = s.var + EPSILON, s.running_var + EPSILON
        divergence = ((s.mean - s.running_mean).square() + var) / wanted - (var / wanted).log() - 1
        parts.append(0.5 * divergence.sum())
    return torch.stack(parts).sum()


class MomentumStatistics(Term):
    """sum_l ||V_l - (1-a) v_l - a v'_l||_2 + ||M_l - (1-a) m_l - a m'_l||_2, (M, V) running, (m, v) of the batch.

    (m', v') is the average of earlier rounds: after each round, of the batch statistics of its last step, it becomes
    a (m', v') + (1-a) (m, v), and after the first these themselves. a = 0 in the first round, which is
    `batch_norm_l2`; `momentum` from then on. So it is the images of many rounds together that must match, and one
    batch's gradient is 1-a as large. The form of FastDFKD's code (0.9) and of NAYER's. It is never reset.
    """

    reads = (Reads("teacher", "bn"),)
    mean: Tensor
    var: Tensor
    last_mean: Tensor
    last_var: Tensor
    rounds: Tensor

    def __init__(self, context: TermContext, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum:g}: expected a number in [0, 1)")
        self.momentum = momentum
        self.sizes = [channels_of(layer) for layer in teacher_norms(context)]
        for name in ("mean", "var", "last_mean", "last_var"):
            self.register_buffer(name, torch.zeros(sum(self.sizes)))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))

    def _share(self) -> Tensor:
        """a of the current round, on the device."""
        return self.momentum * (self.rounds > 0)

    def forward(self, ctx: Context) -> Tensor:
        share, norms = self._share(), []
        memory = zip(self.mean.split(self.sizes), self.var.split(self.sizes), strict=True)
        for s, (mean, var) in zip(ctx.of("teacher").bn, memory, strict=True):
            for running, now, past in ((s.running_var, s.var, var), (s.running_mean, s.mean, mean)):
                norms.append(torch.linalg.vector_norm(running - (1 - share) * now - share * past))
        return torch.stack(norms).sum()

    @torch.no_grad()
    def kept(self, ctx: Context, better: Tensor) -> None:
        statistics = ctx.of("teacher").bn
        self.last_mean.copy_(torch.cat([s.mean for s in statistics]))
        self.last_var.copy_(torch.cat([s.var for s in statistics]))

    @torch.no_grad()
    def end_round(self) -> None:
        share = self._share()
        self.mean.mul_(share).add_((1 - share) * self.last_mean)
        self.var.mul_(share).add_((1 - share) * self.last_var)
        self.rounds.add_(1)


# The terms as recipes name them -------------------------------------------------------------------------------


def bn_gaussian(weight: float) -> LossTerm:
    """`gaussian_divergence` of the teacher's statistics."""

    def build(context: TermContext) -> Term:
        teacher_norms(context)
        return FunctionTerm(lambda ctx: gaussian_divergence(ctx.of("teacher").bn), [Reads("teacher", "bn")])

    return LossTerm("bn", weight, build)


def bn_momentum(weight: float, momentum: float = 0.9) -> LossTerm:
    """`MomentumStatistics` of the teacher's statistics."""
    return LossTerm("bn", weight, lambda context: MomentumStatistics(context, momentum))
