"""Whole objectives of methods against their twins in `naive_methods`: values and gradients on fixed observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.batch_statistics import channel_statistics
from rgal.core.errors import UserError
from rgal.core.observe import BatchNormStatistics, Observation
from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.synthesis.image_source import Adam
from rgal.synthesis.meta import MetaGenerator
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.pyramid import Level, PyramidPixels
from rgal.terms.batch_norm import bn_gaussian, bn_momentum
from rgal.terms.game import information_entropy_loss
from rgal.terms.objective import Objective, Progress, TermContext
from rgal.terms.transfer import attention_transfer
from tests.helpers import naive, small
from tests.helpers.naive_methods import METHODS, Seen

N, CLASSES = 6, 5
TARGETS = torch.arange(N) % CLASSES
RUNNING = [(small.randn(c, seed=c), small.rand(c, seed=c) + 0.5) for c in (3, 2)]
TEACHER, STUDENT = (nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2)) for _ in range(2))
for net in (TEACHER, STUDENT):  # what objectives ask networks for; their observations are given
    net.layer_names, net.head_name = ("0", "1"), "1"
AFTER_WARMUP = Progress(round=300, rounds=400, warmup=200)


def leaves(seed: int = 0) -> list[Tensor]:
    """Student and teacher logits, which agree on some classes; feature; two batch norm inputs; two layers of each;
    images."""
    teacher = 2 * small.randn(N, CLASSES, seed=seed)
    return [
        teacher + small.randn(N, CLASSES, seed=seed + 1),
        teacher,
        small.randn(N, 4, seed=seed + 2),
        small.randn(N, 3, 2, 3, seed=seed + 3) + 1,
        2 * small.randn(N, 2, 2, 2, seed=seed + 4),
        *(small.randn(N, c, 4 - i, 2, seed=seed + 5 + i) for i, c in enumerate((3, 4))),
        *(small.randn(N, c, 4 - i, 2, seed=seed + 7 + i) for i, c in enumerate((5, 2))),
        small.rand(N, 3, 3, 4, seed=seed + 9),
    ]


def rolled(images: Tensor) -> Tensor:
    """What the networks see of the images: normalised, and a pixel to the right."""
    return naive.normalised(images, small.COLOUR.mean, small.COLOUR.std).roll(1, 3)


class Fixed(Objective):
    """An objective whose networks have given these observations."""

    seen: dict[str, Observation]

    def _observe(self, net: str, *rest: Any) -> Observation:
        return self.seen[net]

    def of(self, *values: Tensor) -> Tensor:
        student, teacher, feature, *maps = values
        statistics = [
            BatchNormStatistics(*channel_statistics(x), *running)
            for x, running in zip(maps[:2], RUNNING, strict=True)
        ]
        self.seen = {
            "student": Observation(student, layers=maps[2:4]),
            "teacher": Observation(teacher, feature, maps[4:6], statistics),
        }
        images = maps[6]
        views = {"global": rolled(images)}
        total, _, self.ctx = self(images, TARGETS, views, Streams("cpu", 0), AFTER_WARMUP)
        return total


def seen(values: tuple[Tensor, ...], past: list[list[Tensor]]) -> Seen:
    student, teacher, feature, *maps = values
    made, view = rolled(maps[6]).roll(-1, 3), rolled(maps[6])
    return Seen(student, teacher, feature, maps[:2], RUNNING, TARGETS, maps[2:4], maps[4:6], made, view, past)


def objective(method: str, phase: str) -> Fixed:
    return Fixed(
        getattr(resolve(method).recipe, phase),
        TermContext(small.COLOUR, {"teacher": TEACHER, "student": STUDENT}),
    )


@pytest.mark.parametrize("past_rounds", [0, 1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_synthesis_loss_is_its_twins(method: str, past_rounds: int) -> None:
    """Also after rounds that a term may remember, each of two steps, of which the last counts."""
    ours, past = objective(method, "synthesis"), []
    for earlier in range(past_rounds):
        for step in range(2):
            made = leaves(100 * earlier + 50 * step + 20)
            ours.of(*made)
            ours.kept(ours.ctx, torch.tensor(step == 0))
        past.append(made[3:5])
        ours.end_round()
    small.assert_twins(ours.of, lambda *values: METHODS[method][0](seen(values, past)), *leaves())


@pytest.mark.parametrize("method", METHODS)
def test_the_transfer_loss_is_its_twins(method: str) -> None:
    small.assert_twins(
        objective(method, "transfer").of, lambda *values: METHODS[method][1](seen(values, [])), *leaves()
    )


# Edges of the terms ---------------------------------------------------------------------------------------------


def test_class_entropy_is_finite_where_a_class_never_comes() -> None:
    logits = (500 * torch.eye(CLASSES)[[0, 0, 1]]).requires_grad_()
    value = information_entropy_loss(logits)
    value.backward()
    p = torch.tensor([2 / 3, 1 / 3])
    assert value.item() == pytest.approx((p * p.log()).sum().item(), rel=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_attention_is_compared_at_the_smaller_size() -> None:
    term = attention_transfer(1.0).build(TermContext(small.COLOUR, {}))
    tall = small.randn(2, 3, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    same = tall[:, :, ::2, ::2]
    ctx = small.context(
        student=Observation(tall, layers=[tall]), teacher=Observation(tall, layers=[same, same])
    )
    assert term(ctx).item() == pytest.approx(0, abs=1e-12)


def test_attention_weighs_the_same_at_all_sizes() -> None:
    """The same maps at twice the resolution, of images twice as large, have the same loss; at 32x32 it is the mean."""
    maps = [small.randn(2, 3, 8, 8, seed=seed) for seed in (0, 1)]
    large = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in maps]

    def value(pixels: int, student: Tensor, teacher: Tensor) -> float:
        domain = replace(small.COLOUR, shape=(3, pixels, pixels))
        observed = {
            "student": Observation(student, layers=[student]),
            "teacher": Observation(teacher, layers=[teacher]),
        }
        return (
            attention_transfer(1.0).build(TermContext(domain, {}))(small.context(domain, **observed)).item()
        )

    assert value(32, *large) == pytest.approx(value(16, *maps), rel=1e-5)
    energies = [(x**2).mean(1).flatten(1) for x in maps]
    unit = [e / e.norm(dim=1, keepdim=True) for e in energies]
    assert value(32, *maps) == pytest.approx(((unit[0] - unit[1]) ** 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize("weighted", [bn_momentum(1.0), bn_gaussian(1.0)])
def test_a_teacher_without_batch_norm_is_refused(weighted: Any) -> None:
    with pytest.raises(UserError, match="no BatchNorm2d layer"):
        weighted.build(TermContext(small.COLOUR, {"teacher": nn.Linear(2, 2)}))


# Parameters -----------------------------------------------------------------------------------------------------


def test_deepinversion_has_the_published_optimisers_and_budgets() -> None:
    cifar, imagenet, adaptive, code = (
        resolve(name).recipe
        for name in (
            "deepinversion",
            "deepinversion[variant=imagenet]",
            "adaptive_deepinversion",
            "adaptive_deepinversion[follows=code]",
        )
    )
    assert cifar.optimiser == Adam(0.1, (0.5, 0.99)) and cifar.images == Pixels()
    assert imagenet.optimiser == Adam(0.25, (0.5, 0.9))
    assert imagenet.images == PyramidPixels((Level(2, 2, 100 / 2000), Level(1, 1, 100 / 1000)))
    assert (imagenet.rounds.synthesis_steps, imagenet.rounds.synthesis_batch) == (3000, 84)
    assert adaptive.optimiser == Adam(0.05, (0.9, 0.999)) and code.optimiser == Adam(0.1, (0.9, 0.999))
    assert adaptive.images == Pixels(clip=False)
    assert (adaptive.rounds.count, adaptive.rounds.synthesis_steps, adaptive.rounds.student_steps) == (
        1000, 2000, 50,
    )  # fmt: skip


def test_a_given_weight_goes_before_the_variants() -> None:
    recipe = resolve("deepinversion[variant=imagenet,bn=0.05,lr=0.2,adv=0.2,l2=0]").recipe
    weights = {term.name: term.weight for term in recipe.synthesis}
    assert weights == {"bn": 0.05, "oh": 1.0, "adv": 0.2, "tv": 1e-4, "l2": 0.0}
    assert recipe.optimiser.lr == 0.2


@pytest.mark.parametrize(("k", "lr", "lr_z"), [(2, 5e-3, 0.015), (5, 3e-3, 0.01), (10, 2e-3, 0.01)])
def test_fast_has_the_published_step_sizes_of_its_k(k: int, lr: float, lr_z: float) -> None:
    recipe = resolve(f"fast[k={k}]").recipe
    assert isinstance(recipe.images, MetaGenerator)
    assert (recipe.optimiser.lr, recipe.images.lr_latent) == (lr, lr_z)
    assert recipe.images.meta_lr == pytest.approx(k * lr) and recipe.rounds.synthesis_steps == k


def test_fast_asks_for_step_sizes_of_another_k() -> None:
    with pytest.raises(UserError, match="k=7 has no published step sizes"):
        resolve("fast[k=7]")
    assert resolve("fast[k=7,lr=0.001,lr_z=0.01]").recipe.rounds.synthesis_steps == 7
