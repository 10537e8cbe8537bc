"""The class term of rare and hard images, and distillation by priority, against loops."""

from __future__ import annotations

import math

import pytest
import torch

from rgal.core.observe import Observation
from rgal.synthesis.pool import ImagePool
from rgal.terms.objective import Context
from rgal.terms.priorities import hard_and_rare, prioritised_distillation
from tests.helpers import small


def context(pool: ImagePool | None = None) -> Context:
    nets = {name: Observation(2 * small.randn(5, 4, seed=i)) for i, name in enumerate(("teacher", "student"))}
    ctx = small.context(small.GREY, targets=torch.tensor([0, 1, 1, 2, 3]), **nets)
    ctx.pool = pool
    return ctx


@pytest.mark.parametrize("counts", [(), (6, 1, 3, 0)])
def test_rare_and_hard_images_count_more(counts: tuple[int, ...]) -> None:
    pool = ImagePool(small.GREY.shape)
    for label, count in enumerate(counts):
        pool.add(small.rand(count, *small.GREY.shape), torch.full((count,), label))
    ctx, total = context(pool), 0.0
    for row, label in zip(ctx.of("teacher").logits.double().tolist(), ctx.targets.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        share = sum(counts) / (4 * counts[label]) if counts and counts[label] else math.inf
        rare = min(2.0, max(0.5, share)) if counts else 1.0
        total += rare * (1 - p) ** 2 * -math.log(p)
    loss = hard_and_rare(1.0, 2.0).build(None)(ctx)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)


def test_distillation_by_priority_weighs_samples_and_sets_their_priorities() -> None:
    ctx = context()
    ctx.weights = torch.tensor([1.0, 0.5, 0.25, 0.125, 1.0])
    divergences = []
    teacher, student = (ctx.of(net).logits.double().softmax(1).tolist() for net in ("teacher", "student"))
    for p, q in zip(teacher, student, strict=True):
        divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    loss = prioritised_distillation().build(None)(ctx)  # type: ignore[arg-type]
    weighted = [w * d for w, d in zip(ctx.weights.tolist(), divergences, strict=True)]
    assert loss.item() == pytest.approx(sum(weighted) / 5, rel=1e-4)
    assert ctx.priority is not None and not ctx.priority.requires_grad
    assert ctx.priority.tolist() == pytest.approx([d + 1e-6 for d in divergences], rel=1e-4)
