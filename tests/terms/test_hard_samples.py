"""HAST's parts: the focal loss, the alignment of channels, and the pair of a batch and the batch made harder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.problem import freeze
from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.terms.hard_samples import (
    HardPairSpec,
    easy_cross_entropy,
    feature_alignment_loss,
    focal_loss,
    hard_pair,
)
from rgal.terms.objective import Objective, Progress, TermContext
from tests.helpers import naive_quantized as naive
from tests.helpers import small

LABELS = [0, 2, 1, 2, 0, 4]
TARGETS = torch.tensor(LABELS)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_equals_its_twin(gamma: float) -> None:
    small.assert_twins(
        lambda z: focal_loss(z, TARGETS, gamma), lambda z: naive.focal(z, LABELS, gamma), small.randn(6, 5)
    )


def test_the_focal_loss_is_cross_entropy_at_zero_and_finite_where_sure() -> None:
    logits = small.randn(6, 5)
    assert focal_loss(logits, TARGETS, 0).item() == pytest.approx(F.cross_entropy(logits, TARGETS).item())
    for gamma in (0.5, 2.0):
        sure = (200 * F.one_hot(TARGETS, 5).float()).requires_grad_()
        focal_loss(sure, TARGETS, gamma).backward()
        assert sure.grad is not None and torch.isfinite(sure.grad).all()


def test_the_alignment_equals_its_twin() -> None:
    layers = [small.randn(3, c, h, h, seed=c + s) for s in (0, 9) for c, h in ((4, 3), (2, 2))]
    small.assert_twins(
        lambda *x: feature_alignment_loss(x[:2], x[2:]), lambda *x: naive.alignment(x[:2], x[2:]), *layers
    )


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 1.0])
def test_the_cross_entropy_of_easy_images_equals_its_twin(threshold: float) -> None:
    teacher = 2 * small.randn(6, 5, seed=1)
    small.assert_twins(
        lambda z: easy_cross_entropy(z, teacher, TARGETS, threshold),
        lambda z: naive.easy_cross_entropy(z, teacher, LABELS, threshold),
        small.randn(6, 5),
    )


# The pair ---------------------------------------------------------------------------------------------------------


class Pair:
    """A teacher and a student that are not alike, a batch of images, and the term as the student's objective."""

    def __init__(self, **spec: Any) -> None:
        self.spec = HardPairSpec(**{"kd": 2.0, "temperature": 3.0, "alignment": 5.0, "eps": 0.05, **spec})
        self.teacher, self.student = small.network("wrn10_1", small.COLOUR, 1), small.student().eval()
        freeze(self.teacher)
        self.x = small.randn(6, *small.COLOUR.shape)
        nets = {"teacher": self.teacher, "student": self.student}
        self.objective = Objective([hard_pair(self.spec)], TermContext(small.COLOUR, nets), {"teacher"})

    def by_the_objective(self) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self.objective(
            self.x, TARGETS, {"global": self.x}, Streams("cpu", 0), Progress(0, 1)
        )
        return total, parts

    def by_hand(self) -> Tensor:
        x = self.x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(x), x)
        moved = self.x + self.spec.eps * gradient.sign()
        return self.loss(self.x) + self.spec.hard * self.loss(moved)

    def loss(self, x: Tensor) -> Tensor:
        spec = self.spec
        s, t = (observe(net, x, ["layers"]) for net in (self.student, self.teacher))
        log_p, log_q = ((o.logits / spec.temperature).log_softmax(1) for o in (t, s))
        divergence = (log_p.exp() * (log_p - log_q)).sum(1).mean() * spec.temperature**2
        aligned = torch.zeros(())
        for a, b in zip(s.layers, t.layers, strict=True):
            a, b = (F.normalize((layer**2).mean((2, 3)), dim=1) for layer in (a, b))
            aligned = aligned + ((a - b) ** 2).mean()
        clean = observe(self.teacher, self.x).logits.softmax(1)[range(6), TARGETS]
        easy = F.cross_entropy(s.logits[1 - clean <= spec.threshold], TARGETS[1 - clean <= spec.threshold])
        share = (1 - clean <= spec.threshold).float().mean()
        ce = spec.easy * share * easy if spec.easy else torch.zeros(())
        return spec.kd * divergence + spec.alignment * aligned + ce


def gradients(loss: Tensor, net: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


@pytest.mark.parametrize("spec", [{}, {"easy": 3.0, "threshold": 0.9}, {"alignment": 0.0, "hard": 0.5}])
def test_the_pair_equals_the_formula(spec: dict[str, float]) -> None:
    pair = Pair(**spec)
    total, parts = pair.by_the_objective()
    expected = pair.by_hand()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, wanted in zip(gradients(total, pair.student), gradients(expected, pair.student), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert parts["further_passes"].item() == 2 and parts["pair_hard"] > 0


def test_moved_images_are_harder() -> None:
    """The loss on them is higher than on the images as they are, and with eps = 0 it is the same."""
    pair = Pair()
    total, parts = pair.by_the_objective()
    assert parts["pair_hard"] > total - parts["pair_hard"]
    total, parts = Pair(eps=0.0).by_the_objective()
    assert parts["pair_hard"].item() == pytest.approx(total.item() / 2, rel=1e-5)


def test_the_teacher_is_left_without_gradient() -> None:
    pair = Pair()
    pair.by_the_objective()[0].backward()
    assert all(p.grad is None for p in pair.teacher.parameters())
    assert all(p.grad is not None for p in pair.student.parameters())


def test_hast_has_the_published_schedule() -> None:
    """Epochs 4 to 150 of 200 steps; a tenth at 20, 40 and 60."""
    recipe = resolve("hast").recipe
    total = recipe.rounds.total_student_steps()
    assert total == 147 * 200 and recipe.rounds.count * recipe.rounds.synthesis_batch == 5120
    rates = [recipe.student.learning_rate((e - 4) * 200 + k, total) for e in (20, 40, 60) for k in (-1, 0)]
    assert rates == pytest.approx([1e-5, 1e-6, 1e-6, 1e-7, 1e-7, 1e-8])
