"""Losses of class-incremental methods where there is next to nothing: one image, one class, no difference, halves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rgal.tasks.class_incremental import terms as terms
from rgal.terms.objective import TermContext
from tests.helpers import small
from tests.helpers.two_phase_builders import STILL, gradients, step_context, two_phases

REAL, OLD, NEW, WIDTH = 5, 4, 2, 5
LABELS = torch.tensor([4, 5, 5, 4, 5, 0, 0, 0])  # those of replayed images mean nothing


@pytest.mark.parametrize(("real", "replayed"), [(1, 0), (1, 1), (2, 1), (2, 0)])
def test_few_images_and_one_new_class_give_finite_losses_and_gradients(real: int, replayed: int) -> None:
    nets, n = two_phases(old=3, new=1), real + replayed
    labels = torch.tensor([3] * real + [0] * replayed)
    everything = [
        terms.seen_cross_entropy(),
        terms.local_cross_entropy(),
        terms.head_cross_entropy(),
        terms.head_cross_entropy(form="counts"),
        terms.old_logit_distillation(1.0),
        terms.feature_distillation(1.0),
        terms.relational_distillation(1.0),
        terms.feature_norm_distillation(1.0),
        *([terms.hard_distillation(1.0)] if replayed else []),
    ]
    for weighted in everything:
        for moved in (0.0, 0.5):  # at 0 both models give the same features
            f = (small.randn(n, WIDTH) + moved).requires_grad_()
            value = weighted.build(TermContext(STILL, nets))(
                step_context(nets, f, small.randn(n, WIDTH), labels, real)
            )
            assert torch.isfinite(value) and value.requires_grad, weighted.name
            value.backward()
            assert f.grad is None or torch.isfinite(f.grad).all(), weighted.name
            assert all(torch.isfinite(g).all() for g in gradients(nets["student"]).values()), weighted.name


def test_a_single_new_class_has_nothing_to_tell_apart() -> None:
    z = small.randn(3, 4).requires_grad_()
    value = terms.local_cross_entropy_loss(z, torch.tensor([3, 3, 3]), 3)
    value.backward()
    assert value.item() == 0 and torch.equal(z.grad, torch.zeros_like(z))


def test_the_angles_of_one_or_two_images_are_an_attached_zero() -> None:
    for n in (1, 2):
        x = small.randn(n, 4).requires_grad_()
        value = terms.relational_distillation_loss(x, small.randn(n, 4, seed=1))
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-7) and x.grad.abs().max() < 1e-6


def test_images_that_coincide_in_both_models_cost_nothing() -> None:
    rows = torch.cat([small.randn(3, 4), small.randn(1, 4, seed=1).repeat(2, 1)])
    x = rows.clone().requires_grad_()
    value = terms.relational_distillation_loss(x, rows @ small.randn(4, 6, seed=2))
    value.backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() < 1


@pytest.mark.parametrize("scale", [50.0, 1000.0])
def test_extreme_logits_keep_finite_gradients(scale: float) -> None:
    z, t = scale * small.randn(8, OLD + NEW), scale * small.randn(8, OLD, seed=1)
    everything: list[Callable[[Tensor], Tensor]] = [
        lambda z: terms.local_cross_entropy_loss(z[:REAL], LABELS[:REAL], OLD),
        lambda z: terms.balanced_cross_entropy_loss(z, LABELS, REAL, OLD),
        lambda z: terms.old_logit_distillation_loss(z, t, 2.0),
    ]
    for loss in everything:
        leaf = z.clone().requires_grad_()
        loss(leaf).backward()
        assert torch.isfinite(leaf.grad).all()


def test_bfloat16_features_change_no_loss_by_much() -> None:
    """An objective hands them on in float32, rounded."""
    nets, g = two_phases(), small.randn(8, WIDTH, seed=1)
    f = g + 0.5 * small.randn(8, WIDTH)
    halves = f.bfloat16().float(), g.bfloat16().float()
    for weighted in (
        *terms.replay_learning(),
        terms.hard_distillation(1.0),
        terms.relational_distillation(1.0),
        terms.feature_norm_distillation(1.0),
    ):
        exact = weighted.build(TermContext(STILL, nets))(step_context(nets, f, g, LABELS, REAL))
        rounded = weighted.build(TermContext(STILL, nets))(step_context(nets, *halves, LABELS, REAL))
        assert rounded.dtype == torch.float32
        assert rounded.item() == pytest.approx(exact.item(), rel=0.03, abs=0.01), weighted.name
