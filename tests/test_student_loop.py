"""The student loop: schedule, one step by hand, paired views, precision."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.recipe import SGD, Recipe
from rgal.registry import resolve
from rgal.seeding import Streams
from rgal.synthesis.images import Pixels
from rgal.terms.transfer import distillation
from rgal.training import StudentLoop
from tests import small
from tests.test_stage import RECIPES, ROUNDS, finish, make_problem, make_stage, shrunk


def make_loop(optimiser: SGD, total: int, **options: Any) -> StudentLoop:
    nets = {"student": small.student(small.GREY), "teacher": make_problem().teacher}
    return StudentLoop(nets, small.GREY, (distillation(),), optimiser, total, Streams("cpu", 0), **options)


def expected_rates(spec: SGD, total: int) -> list[float]:
    """A line up to lr over rise * total steps, then lr (1 + cos(pi x)) / 2 or lr / 10^(whole quarters of x) for x from
    0 to 1."""
    rise = spec.rise * total
    rates = []
    for step in range(total):
        if step < rise:
            rates.append(spec.lr * (step + 1) / math.ceil(rise))
        elif spec.schedule == "constant":
            rates.append(spec.lr)
        elif spec.schedule == "quarters":
            past = [quarter for quarter in (1, 2, 3) if 4 * (step - rise) >= quarter * (total - rise)]
            rates.append(spec.lr / 10 ** len(past))
        else:
            rates.append(spec.lr * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2)
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "constant", "quarters"])
@pytest.mark.parametrize("rise", [0.0, 0.1, 0.25, 1.0])
def test_the_learning_rate_is_the_formula(schedule: str, rise: float) -> None:
    spec = SGD(lr=0.3, schedule=schedule, rise=rise)
    loop = make_loop(spec, 30)
    assert [loop.learning_rate(step) for step in range(30)] == pytest.approx(expected_rates(spec, 30))


def test_quarters_by_hand() -> None:
    """A tenth after each quarter of what is left after the rise; and no step of it is lost to rounding."""
    for total, rise, expected in (
        (8, 0.0, [1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]),
        (10, 0.2, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]),
        (6, 0.0, [1, 1, 0.1, 0.01, 0.01, 1e-3]),
        (2, 0.0, [1, 0.01]),
    ):
        loop = make_loop(SGD(lr=1.0, schedule="quarters", rise=rise), total)
        assert [loop.learning_rate(step) for step in range(total)] == pytest.approx(expected), total
    loop = make_loop(SGD(lr=1.0, schedule="quarters"), 80_000)
    edges = [
        loop.learning_rate(step) for quarter in (20_000, 40_000, 60_000) for step in (quarter - 1, quarter)
    ]
    assert edges == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 1e-3])


def test_the_learning_rate_reaches_the_optimiser_and_ends_near_zero() -> None:
    spec, images = SGD(lr=0.05, rise=0.25), small.rand(8, *small.GREY.shape)
    loop, seen = make_loop(spec, 8), []
    for _ in range(8):
        loop.step(images, torch.zeros(8, dtype=torch.int64))
        seen.append(loop.optimiser.param_groups[0]["lr"])
    assert seen == pytest.approx(expected_rates(spec, 8))
    assert seen[1] == pytest.approx(0.05) and 0 < seen[-1] < 0.005
    assert loop.learning_rate(8) == pytest.approx(0, abs=1e-9) and loop.learning_rate(
        100
    ) == loop.learning_rate(8)


def identity(images: Tensor, domain: Any, rng: Any) -> Tensor:
    return images


def test_two_steps_are_sgd_by_hand() -> None:
    spec = SGD(lr=0.05, momentum=0.9, weight_decay=0.01, schedule="constant")
    loop, images = make_loop(spec, 2, view=identity), small.rand(8, *small.GREY.shape)
    student, teacher = small.student(small.GREY), make_problem().teacher
    velocity = [torch.zeros_like(p) for p in student.parameters()]
    for _ in range(2):
        loop.step(images, torch.zeros(8, dtype=torch.int64))
        x = small.GREY.normalise(images)
        with torch.no_grad():
            p = F.softmax(teacher(x) / 20, dim=1)
        kd = 400 * F.kl_div(F.log_softmax(student(x) / 20, dim=1), p, reduction="batchmean")
        for weight, v, g in zip(
            student.parameters(), velocity, torch.autograd.grad(kd, list(student.parameters())), strict=True
        ):
            v.mul_(0.9).add_(g + 0.01 * weight.detach())
            weight.data -= 0.05 * v
    for name, value in small.snapshot(student).items():
        torch.testing.assert_close(loop.student.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_pairs_show_every_image_twice() -> None:
    shown: list[Tensor] = []

    def view(images: Tensor, domain: Any, rng: Any) -> Tensor:
        shown.append(images)
        return images

    images = small.rand(6, *small.GREY.shape)
    make_loop(SGD(), 1, view=view, pairs=True).step(images, torch.arange(6))
    assert torch.equal(shown[0], torch.cat([images, images]))


@pytest.mark.parametrize(
    "recipe", [RECIPES["rgal"], RECIPES["cmi"], shrunk(resolve("plain").recipe, images=Pixels())]
)
def test_bfloat16_runs_stay_finite(recipe: Recipe) -> None:
    rounds = replace(ROUNDS, count=1)
    outcome = finish(make_stage(replace(recipe, rounds=rounds), precision="bf16"))
    assert all(torch.isfinite(value).all() for value in outcome.student.values())
    assert all(value.dtype != torch.bfloat16 for value in outcome.student.values())
