"""AdaDFQ's terms against their twins, and what its student's loss is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rgal.core.observe import Observation
from rgal.methods.registry import resolve
from rgal.terms.adaptability import (
    adaptability_loss,
    label_of_difference,
    label_of_sum,
    logit_gap_loss,
)
from rgal.terms.objective import TermContext
from tests.helpers import naive_quantized as naive
from tests.helpers import small

S, T = small.randn(6, 5), 2 * small.randn(6, 5, seed=1)
LABELS = torch.tensor([0, 2, 1, 2, 0, 4])


@pytest.mark.parametrize("bounds", [(0.1, 0.8), (0.4, 0.5), (0.0, 1.0)])
def test_the_bounds_equal_their_twin(bounds: tuple[float, float]) -> None:
    small.assert_twins(
        lambda s, t: adaptability_loss(s, t, *bounds), lambda s, t: naive.adaptability(s, t, *bounds), S, T
    )


def test_the_image_of_least_entropy_is_below_the_lower_bound() -> None:
    assert adaptability_loss(S[:1], T[:1], 0.1, 0.8).item() == pytest.approx(0.1)
    sixteen = adaptability_loss(small.randn(16, 5), small.randn(16, 5, seed=2), 0.1, 1.0)
    assert sixteen.item() >= 0.1 / 16


def test_networks_that_agree_everywhere_give_a_finite_loss() -> None:
    student = T.clone().requires_grad_()
    adaptability_loss(student, T, 0.1, 0.8).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_gap_equals_its_twin(temperature: float) -> None:
    small.assert_twins(
        lambda s, t: logit_gap_loss(s, t, temperature), lambda s, t: naive.logit_gap(s, t, temperature), S, T
    )


def test_the_gap_is_half_the_variance_of_the_difference() -> None:
    """At high temperature; and a constant shift of the logits costs nothing."""
    s, t = S.double(), T.double()
    half = (t - s).var(1, unbiased=False).mean() / 2
    value = logit_gap_loss(s, t, 200.0) + 200**2 * math.log(5)
    assert value.item() == pytest.approx(half.item(), rel=0.02)
    assert logit_gap_loss(t + 3, t, 20.0).item() == pytest.approx(-400 * math.log(5))


def test_labels_of_difference_and_sum() -> None:
    ctx = small.context(targets=LABELS, student=Observation(S), teacher=Observation(T))
    for made, logits in ((label_of_difference(1.0), T - S), (label_of_sum(1.0), T + S)):
        term = made.build(TermContext(small.COLOUR, {}))
        assert term(ctx).item() == pytest.approx(F.cross_entropy(logits, LABELS).item())


def test_adadfq_has_the_published_numbers() -> None:
    recipe = resolve("adadfq").recipe
    weights = {term.name: term.weight for term in recipe.synthesis}
    assert weights == {"margin": 1.0, "disagree": 0.2, "agree": 0.1, "bn": 1.0}
    rounds = recipe.rounds
    assert (rounds.count, rounds.student_steps, rounds.batch, rounds.warmup) == (400, 200, 16, 4)
    assert recipe.student.lr == 1e-4 and recipe.source == "batch" and rounds.interleaved
