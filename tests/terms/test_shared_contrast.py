"""CPSC-DFKD's terms against loops, and its generator."""

from __future__ import annotations

import math

import pytest
import torch

from rgal.core.observe import Observation
from rgal.nets.class_norms import ClassNormGenerator
from rgal.synthesis.class_norms import ClassNormalised
from rgal.terms.objective import TermContext
from rgal.terms.shared_contrast import (
    SharedContrast,
    apart,
    class_of_probabilities,
    supervised_contrast_of,
    together,
)
from tests.helpers import small
from tests.helpers.image_builders import OPTIMISER


def test_supervised_contrast_of_a_loop() -> None:
    features, labels = small.randn(6, 3).double(), [0, 1, 0, 2, 1, 0]
    cosines = [[float(a @ b / (a.norm() * b.norm())) for b in features] for a in features]
    total = 0.0
    for i, label in enumerate(labels):
        below = sum(math.exp(cosines[i][a] / 0.07) for a in range(6) if a != i)
        partners = [p for p in range(6) if p != i and labels[p] == label]
        terms = [-math.log(math.exp(cosines[i][p] / 0.07) / below) for p in partners]
        total += sum(terms) / len(terms) if terms else 0.0
    found = supervised_contrast_of(features, torch.tensor(labels), 0.07)
    assert found.item() == pytest.approx(total / 6)


def test_the_student_joins_through_a_head_only_where_widths_differ() -> None:
    nets = {"teacher": small.network("wrn10_1", small.GREY), "student": small.network("wrn10_2", small.GREY)}
    term = SharedContrast(TermContext(small.GREY, nets), 0.07)
    assert len(list(term.parameters())) == 4
    nets["student"] = nets["teacher"]
    same = SharedContrast(TermContext(small.GREY, nets), 0.07)
    assert not list(same.parameters())
    student, teacher, labels = (
        small.randn(4, 5, seed=1),
        small.randn(4, 5, seed=2),
        torch.tensor([0, 1, 0, 3]),
    )
    seen = {n: Observation(torch.zeros(4, 4), f) for n, f in (("student", student), ("teacher", teacher))}
    expected = supervised_contrast_of(torch.cat([student, teacher]), torch.cat([labels, labels]), 0.07)
    assert torch.equal(same(small.context(targets=labels, **seen)), expected)


@pytest.mark.parametrize("form", ["square", "log"])
def test_logits_are_drawn_apart_and_together(form: str) -> None:
    student, teacher = small.randn(3, 4, seed=1), small.randn(3, 4, seed=2).requires_grad_()
    ctx = small.context(student=Observation(student), teacher=Observation(teacher))
    error = (
        sum((a - b) ** 2 for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
        / 12
    )
    expected = error if form == "square" else math.log(error)
    found = [term(1.0, form).build(None)(ctx) for term in (apart, together)]  # type: ignore[arg-type, operator]
    assert [one.item() for one in found] == pytest.approx([-expected, expected], rel=1e-5)
    assert not found[0].requires_grad and found[1].requires_grad


def test_the_class_of_probabilities_never_vanishes() -> None:
    """The second softmax of a sure answer among ten classes: ln(e + 9) - 1."""
    ctx = small.context(targets=torch.tensor([3]), teacher=Observation(100.0 * torch.eye(10)[3:4]))
    loss = class_of_probabilities("oh", 1.0, "teacher").build(None)(ctx)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(math.log(math.e + 9) - 1)


def test_norms_are_told_the_class() -> None:
    net = ClassNormGenerator(6, 4, 1, 8, 4).eval()
    codes, labels = small.randn(3, 6), torch.tensor([0, 1, 2])
    before = net(codes, labels)
    with torch.no_grad():
        net.norms[1].scale.weight[1] += 1.0
    changed = (net(codes, labels) - before).flatten(1).abs().amax(1)
    assert changed[1] > 1e-5 and changed[[0, 2]].max() == 0 and before.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("renewed", [False, True])
def test_a_new_adam_in_each_step_moves_by_the_sign(renewed: bool) -> None:
    source = ClassNormalised(latent=6, width=4, renewed=renewed).build(small.GREY, small.DEVICE, 0)
    moves = []
    for step in range(3):
        source.attach(8, small.rng(step))
        source.start(torch.arange(8) % 4, OPTIMISER)
        before = source.net.last.weight.detach().clone()  # type: ignore[union-attr, operator]
        source.step(source.images().square().mean() * 10**step)
        moves.append((source.net.last.weight.detach() - before).abs())  # type: ignore[union-attr]
    by_sign = torch.allclose(moves[2], torch.full_like(moves[2], OPTIMISER.lr), rtol=1e-2)
    assert by_sign == renewed
