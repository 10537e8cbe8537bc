"""PRAKA's losses against loops: two classifiers, one of rotations, and old means mixed with new features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.tasks.class_incremental.groups import IncrementalTermData
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.tasks.class_incremental.twofold_terms import MixedPrototypes, mixed_prototypes, twofold_loss
from rgal.terms.objective import TermContext
from tests.helpers import naive, small
from tests.helpers.two_phase_builders import STILL, step_context, two_phases

CLASSES, IMAGES, WIDTH, T = 3, 4, 5, 0.1
LABELS = torch.tensor([2, 0, 1, 2])
TURNED = torch.cat([4 * LABELS + k for k in range(4)])  # all upright images first


def plain(row: Tensor) -> Tensor:
    return torch.stack([row[5 * c] for c in range(len(row) // 5)])


def turned(row: Tensor) -> Tensor:
    return torch.stack([row[5 * c + 1 + k] for c in range(len(row) // 5) for k in range(4)])


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """KL(softmax of || softmax to) of two vectors of logits."""
    p, q = of.softmax(0), to.softmax(0)
    return sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def looped(z: Tensor) -> Tensor:
    total = naive.cross_entropy(torch.stack([turned(row) for row in z]) / T, TURNED)
    total = total + naive.cross_entropy(torch.stack([plain(row) for row in z[:IMAGES]]) / T, LABELS)
    for i in range(IMAGES):
        agreed = [sum(z[k * IMAGES + i][5 * c + 1 + k] for k in range(4)) / 4 for c in range(CLASSES)]
        total = total + divergence(torch.stack(agreed).detach(), plain(z[i])) / IMAGES
    return total


def test_both_classifiers_learn_and_the_plain_one_is_drawn_to_the_other() -> None:
    small.assert_twins(lambda z: twofold_loss(z, TURNED, T), looped, small.randn(4 * IMAGES, 5 * CLASSES))


def test_mixtures_are_of_one_mean_and_one_feature() -> None:
    means, features = small.randn(CLASSES, WIDTH), small.randn(200, WIDTH, seed=1)
    mixed, classes = mixed_prototypes(means, features, small.rng())
    rng = small.rng()
    assert torch.equal(classes, torch.randint(0, CLASSES, (200,), generator=rng))
    rows = torch.randint(0, 200, (200,), generator=rng)
    angles, coins = (torch.rand(200, 1, generator=rng)[:, 0].tolist() for _ in range(2))
    shares = []
    for z, c, x, angle, coin in zip(mixed, classes, rows, angles, coins, strict=True):
        share = math.sin(angle * math.pi / 2) ** 2
        share = share if share <= 0.6 else 0.6 * share
        sign = 1 if coin < 0.5 else -1
        wanted = (1 - sign * share) * means[c] + sign * share * features[x]
        torch.testing.assert_close(z, wanted, atol=1e-5, rtol=1e-4)
        shares.append(share)
    assert max(shares) <= 0.6 and 0.4 < sum(coin < 0.5 for coin in coins) / 200 < 0.6


def test_the_share_of_a_feature_is_drawn_from_beta_of_one_half() -> None:
    """Before it is lowered: P(l < x) = (2/pi) arcsin sqrt x, so 0.436 of Beta(1/2, 1/2) lie above 0.6."""
    means, features = torch.zeros(1, 1), torch.ones(20_000, 1)
    shares = mixed_prototypes(means, features, small.rng())[0].abs()[:, 0]
    for below in (0.05, 0.2, 0.3):
        assert (shares < below).float().mean() == pytest.approx(
            2 / math.pi * math.asin(below**0.5), abs=0.015
        )
    assert (shares > 0.36).float().mean() == pytest.approx(1 - 2 / math.pi * math.asin(0.36**0.5), abs=0.015)


def test_mixtures_teach_both_classifiers_and_nothing_before_them() -> None:
    nets = two_phases(CLASSES, 2, 5, WIDTH)
    kept = ClassStatistics(means=small.rand(CLASSES, WIDTH, seed=1))
    term = MixedPrototypes(TermContext(STILL, nets, 0, IncrementalTermData(kept)), T)
    f = small.rand(4 * IMAGES, WIDTH).requires_grad_()
    ctx = step_context(nets, f, f.detach(), TURNED, 4 * IMAGES)
    found = term(ctx)
    mixed, classes = mixed_prototypes(
        kept.means, f[:IMAGES].detach(), Streams("cpu", "step").get("prototypes draws")
    )
    z = growing_head(nets["student"])(mixed).double()
    wanted = naive.cross_entropy(torch.stack([plain(row) for row in z]) / T, classes)
    wanted = wanted + naive.cross_entropy(torch.stack([turned(row) for row in z]) / T, 4 * classes)
    upright = [torch.stack([row[5 * c + 1] for c in range(CLASSES + 2)]) for row in z]
    wanted = wanted + sum(divergence(a, plain(row)) for a, row in zip(upright, z, strict=True)) / IMAGES
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    found.backward()
    assert f.grad is None and growing_head(nets["student"]).parts[1].weight.grad.abs().max() > 0


def test_the_published_rate_falls_twice_and_rises_once() -> None:
    """A cosine of 32 epochs in a run of 100, as PRAKA's code has it."""
    student = resolve("praka").recipe.student
    rates = {epoch: student.learning_rate(epoch, 100) / 1e-3 for epoch in (0, 16, 32, 48, 64, 96, 99)}
    wanted = {0: 1, 16: 0.5, 32: 0, 48: 0.5, 64: 1, 96: 0, 99: 0.0215}
    assert rates == pytest.approx(wanted, abs=1e-3)
