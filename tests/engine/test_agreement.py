"""Agreement of two networks, beside the obvious loop."""

from __future__ import annotations

import math

import pytest
import torch

from rgal.engine.evaluation import agreement, logits_of
from tests.helpers import small


def naive(student: torch.Tensor, teacher: torch.Tensor) -> tuple[float, float]:
    same, total = 0, 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        same += max(range(len(ours)), key=ours.__getitem__) == max(range(len(theirs)), key=theirs.__getitem__)
        p = [math.exp(value) / sum(map(math.exp, theirs)) for value in theirs]
        q = [math.exp(value) / sum(map(math.exp, ours)) for value in ours]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return 100 * same / len(student), total / len(student)


def test_it_is_what_a_loop_computes() -> None:
    student, teacher = 3 * small.rand(40, 5, seed=1), 3 * small.rand(40, 5, seed=2)
    result = agreement(student, teacher)
    assert (result.top1, result.kl) == pytest.approx(naive(student, teacher))


def test_a_network_agrees_with_itself() -> None:
    images = (255 * small.rand(9, *small.GREY.shape)).to(torch.uint8)
    logits = logits_of(small.student(small.GREY), images, small.GREY, batch=4)
    assert logits.shape == (9, small.GREY.classes)
    assert agreement(logits, logits).top1 == 100 and agreement(logits, logits).kl == 0


def test_confident_disagreement_is_finite() -> None:
    one, other = torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 500.0]])
    assert agreement(one, other).top1 == 0 and agreement(one, other).kl == pytest.approx(500)
