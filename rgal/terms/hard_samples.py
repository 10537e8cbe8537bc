"""HAST's terms: synthesised images that are hard for the teacher, and a student that trains on them made harder.

Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization", CVPR 2023, arXiv 2303.13826. SynQ (ICLR 2025) adds
cross-entropy on the easy images to the same step.

Notation: N images, C classes, t and s the logits (N,C) of teacher and student, p = softmax(t), y the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.observe import Observation
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, LossTerm, Reads, Term, labels_of, stateless


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Compute mean_i (1 - p_iy)^gamma CE_i: cross-entropy that cares about what is not sure yet.

    The gradient flows through the factor too, as in HAST's code.

    Args:
        logits: (N,C).
        labels: y, (N,).
        gamma: 0 is plain cross-entropy.
    """
    log_p = logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
    # 1 - p = -expm1(ln p); away from 0, whose power has no finite gradient for gamma < 1.
    return -((-torch.expm1(log_p)).clamp_min(1e-12) ** gamma * log_p).mean()


def channel_energy(layer: Tensor) -> Tensor:
    """Average the squares of each channel over all positions and scale rows to unit norm: (N,C,H,W) -> (N,C).

    >>> channel_energy(torch.tensor([3.0, 4.0]).sqrt().view(1, 2, 1, 1))
    tensor([[0.6000, 0.8000]])
    """
    return F.normalize(layer.float().square().mean((2, 3)))


def feature_alignment_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Compute sum_l mean over samples and channels of (A(s_l) - A(t_l))^2, A = `channel_energy`.

    student, teacher: layers of the same widths, each (N,C_l,H_l,W_l); their sizes may differ.
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(channel_energy(s), channel_energy(t)) for s, t in pairs]).sum()


def easy_cross_entropy(student: Tensor, teacher: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Compute (1/N) sum of CE(s_i, y_i) over the images that the teacher is sure of, 1 - p_iy <= threshold.

    N counts the difficult images too; the mask has no gradient. SynQ (Kim et al., ICLR 2025, equation 6).
    """
    easy = 1 - teacher.detach().softmax(1).gather(1, labels[:, None]).squeeze(1) <= threshold
    return (easy * F.cross_entropy(student, labels, reduction="none")).mean()


@dataclass(frozen=True)
class HardPairSpec:
    """Weigh the parts of `HardPair`.

    Args:
        kd, temperature: weight and T of T^2 KL(p || q).
        alignment: weight of `feature_alignment_loss` over the networks' layers.
        eps: by how much pixels are moved, in normalised units.
        easy, threshold: weight and threshold of `easy_cross_entropy`; easy images are those of the batch as it is.
        hard: weight of the loss on the moved batch.
    """

    kd: float = 20.0
    temperature: float = 20.0
    alignment: float = 1000.0
    eps: float = 0.01
    easy: float = 0.0
    threshold: float = 0.5
    hard: float = 1.0


WHAT = ("logits", "layers")


class HardPair(Term):
    """Distil on the batch and on the batch made harder: J(x) + hard J(x'), x' = x + eps sign(dJ/dx), constant.

    J = kd T^2 KL + alignment FA + easy CE. The gradient that moves x flows through both networks. The parts at x are
    noted as "pair_kd", "pair_fa" and "pair_ce", and J(x') as "pair_hard".
    """

    def __init__(self, spec: HardPairSpec) -> None:
        super().__init__()
        self.spec = spec
        what = WHAT if spec.alignment else WHAT[:1]
        self.asks = tuple(Reads(net, name) for net in ("teacher", "student") for name in what)
        self.reads = tuple(Reads(read.net, read.what, graph=True) for read in self.asks)

    def forward(self, ctx: Context) -> Tensor:
        spec, x, labels = self.spec, ctx.views["global"], labels_of(ctx.targets)
        teacher, student = ctx.of("teacher"), ctx.of("student")
        through_both = self._loss(student, ctx.of("teacher", graph=True), teacher.logits, labels)
        (gradient,) = torch.autograd.grad(through_both["total"], x, retain_graph=True)
        moved = (x + spec.eps * gradient.sign()).detach()
        what = {read.what for read in self.asks}
        hard_teacher, hard_student = (ctx.observe(net, moved, what) for net in ("teacher", "student"))
        hard = self._loss(hard_student, hard_teacher, teacher.logits, labels)["total"]
        loss = self._loss(student, teacher, teacher.logits, labels)
        ctx.notes["pair_hard"] = hard.detach()
        ctx.notes |= {f"pair_{name}": part.detach() for name, part in loss.items() if name != "total"}
        return loss["total"] + spec.hard * hard

    def _loss(
        self, student: Observation, teacher: Observation, judge: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Compute the weighted J and its parts; `judge`: the teacher's logits that say which images are easy."""
        spec = self.spec
        parts = {"kd": kl_div(student.logits, teacher.logits, spec.temperature)}
        total = spec.kd * parts["kd"]
        if spec.alignment:
            parts["fa"] = feature_alignment_loss(student.layers, teacher.layers)
            total = total + spec.alignment * parts["fa"]
        if spec.easy:
            parts["ce"] = easy_cross_entropy(student.logits, judge, labels, spec.threshold)
            total = total + spec.easy * parts["ce"]
        return parts | {"total": total}


# The terms as recipes name them -------------------------------------------------------------------------------


def focal(weight: float, gamma: float) -> LossTerm:
    """Make the teacher recognise the targets, the unsure ones above all, by `focal_loss`. In the place of `one_hot`."""

    def loss(ctx: Context) -> Tensor:
        return focal_loss(ctx.of("teacher").logits, ctx.targets, gamma)

    return stateless("oh", weight, loss, Reads("teacher"))


def hard_pair(spec: HardPairSpec) -> LossTerm:
    """Train the student on each batch and on the same batch made harder, by `HardPair`."""
    return LossTerm("pair", 1.0, lambda context: HardPair(spec))
