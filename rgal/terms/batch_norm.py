"""Match a teacher's batch norm statistics in two further forms: as Gaussians, and with a memory of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rgal.core.batch_statistics import segment_norms
from rgal.core.observe import BatchNormStatistics, channels_of
from rgal.terms.inversion import joined, matched, teacher_norms
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext

EPSILON = 1e-5  # added to variances as batch norm does; the variance of a dead channel is 0


def bn_gaussian_loss(statistics: Sequence[BatchNormStatistics]) -> Tensor:
    """Sum the divergence of the batch's Gaussian from the running one over all layers and channels.

    sum_l sum_c KL(N(m, v) || N(M, V)), where KL = ((m - M)^2 + v) / 2V - ln(v/V)/2 - 1/2. (m, v) are the batch's mean
    and biased variance, (M, V) the running ones; 1e-5 is added to both variances. From Choi et al. 2020; CMI's copy of
    that method uses `bn_l2_loss` instead.
    """
    now, running = joined(statistics)
    (var, mean), (wanted, wanted_mean) = now.chunk(2), running.chunk(2)
    var, wanted = var + EPSILON, wanted + EPSILON
    divergence = ((mean - wanted_mean).square() + var) / wanted - (var / wanted).log() - 1
    return 0.5 * divergence.sum()


class BnMomentum(Term):
    """Match batch norm statistics averaged over the rounds, so that only the images of many rounds together must match.

    sum_l ||V_l - (1-a) v_l - a v'_l||_2 + ||M_l - (1-a) m_l - a m'_l||_2, where (M, V) are the running statistics and
    (m, v) the batch's. (m', v') is an average over earlier rounds: at the end of each round it becomes
    a (m', v') + (1-a) (m, v), with (m, v) of the round's last step. In the first round a = 0, so that the loss is
    `bn_l2_loss` and (m', v') becomes (m, v); later a is `momentum`, and a batch's gradient is 1-a times as large.

    FastDFKD's code and NAYER's have this form, with momentum 0.9. The average is never reset.
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
        """Return a of the current round, on the device."""
        return self.momentum * (self.rounds > 0)

    def forward(self, ctx: Context) -> Tensor:
        share = self._share()
        now, running = joined(ctx.of("teacher").bn)
        past = torch.cat([self.var, self.mean])
        return segment_norms(running - (1 - share) * now - share * past, 2 * self.sizes).sum()

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
    """Match the teacher's batch norm statistics by `bn_gaussian_loss`, or what `matched` puts in their place."""
    term = FunctionTerm(lambda ctx: bn_gaussian_loss(ctx.of("teacher").bn), [Reads("teacher", "bn")])
    return LossTerm("bn", weight, lambda context: matched(context, lambda: term))


def bn_momentum(weight: float, momentum: float = 0.9) -> LossTerm:
    """Match the teacher's batch norm statistics by `BnMomentum`, or what `matched` puts in their place.

    momentum: in [0,1).
    """
    return LossTerm("bn", weight, lambda context: matched(context, lambda: BnMomentum(context, momentum)))
