"""Terms of CPSC-DFKD: distances of logits, a class term of probabilities, contrast of classes across both networks.

Shao et al., "Conditional Pseudo-Supervised Contrast for Data-Free Knowledge Distillation", Pattern Recognition 2023.
Notation: t and s are logits (N,C) of teacher and student.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.seeding import global_seed
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, stateless

Form = Literal["square", "log"]


def logit_error(student: Tensor, teacher: Tensor, form: Form = "square") -> Tensor:
    """Return the mean over all elements of (s - t)^2; "log": its logarithm, kept finite at 0."""
    error = F.mse_loss(student, teacher)
    return error if form == "square" else error.clamp_min(1e-12).log()


def supervised_contrast_of(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al. 2020) of vectors, the mean over anchors.

    Of anchor i: -1/|P_i| sum over p in P_i of ln(e^{c_ip / T} / sum over a != i of e^{c_ia / T}), P_i the others of its
    label, c cosines. Anchors without a partner count 0.

    Args:
        features: (M,D).
        labels: (M,).
        temperature: T.
    """
    unit = F.normalize(features, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    scores = (unit @ unit.T / temperature).masked_fill(itself, -1e9)
    partners = ((labels[:, None] == labels[None, :]) & ~itself).to(scores)
    log_shares = scores - scores.logsumexp(1, keepdim=True)
    return -((partners * log_shares).sum(1) / partners.sum(1).clamp_min(1)).mean()


class SharedContrast(Term):
    """Contrast the classes among the features of both networks: `supervised_contrast_of` of s_i and t_i together.

    Where widths differ, the student's features pass a trained linear layer, ReLU and another one.

    Args:
        context: see `TermContext`.
        temperature: divides the cosines.
    """

    reads = (Reads("student", "feature"), Reads("teacher", "feature"))

    def __init__(self, context: TermContext, temperature: float) -> None:
        super().__init__()
        student, teacher = (_width(context, name) for name in ("student", "teacher"))
        with global_seed(context.seed, "shared contrast"):
            head = nn.Sequential(nn.Linear(student, teacher), nn.ReLU(), nn.Linear(teacher, teacher))
        self.head = nn.Identity() if student == teacher else head
        self.temperature = temperature

    def forward(self, ctx: Context) -> Tensor:
        student, teacher = (ctx.of(net).required_feature for net in ("student", "teacher"))
        both = torch.cat([self.head(student), teacher])
        return supervised_contrast_of(both, ctx.targets.repeat(2), self.temperature)


def _width(context: TermContext, name: str) -> int:
    if not getattr(context.nets[name], "head_name", ""):
        return 1  # refused by name when the objective is built
    return context.probe(name, "feature").required_feature.shape[1]


# The terms as recipes name them -------------------------------------------------------------------------------


def apart(weight: float, form: Form) -> LossTerm:
    """Maximise `logit_error`, the teacher a constant."""

    def loss(ctx: Context) -> Tensor:
        return -logit_error(ctx.of("student").logits, ctx.of("teacher").logits.detach(), form)

    return stateless("apart", weight, loss, Reads("student"), Reads("teacher"))


def together(weight: float, form: Form) -> LossTerm:
    """Minimise `logit_error`."""

    def loss(ctx: Context) -> Tensor:
        return logit_error(ctx.of("student").logits, ctx.of("teacher").logits, form)

    return stateless("together", weight, loss, Reads("student"), Reads("teacher"))


def class_of_probabilities(name: str, weight: float, net: str) -> LossTerm:
    """Compute the cross-entropy with the labels of a network's probabilities in the place of logits (a second softmax).

    It never vanishes: from 1.46 to 2.46 for ten classes.
    """
    return stateless(
        name, weight, lambda ctx: F.cross_entropy(ctx.of(net).logits.softmax(1), ctx.targets), Reads(net)
    )


def shared_contrast(weight: float, temperature: float = 0.07) -> LossTerm:
    """Make `SharedContrast`."""
    return LossTerm("contrast", weight, lambda context: SharedContrast(context, temperature))
