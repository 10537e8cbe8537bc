"""The student loop: schedule, one step by hand, paired views, precision."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.optimiser import SGD, StudentAdam
from rgal.core.seeding import Streams
from rgal.engine.batches import Augmentation, StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.methods.recipe import Recipe
from rgal.methods.registry import resolve
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import crop_flip, rotations
from rgal.tasks.class_incremental.groups import IncrementalAugmentation, grouped, real_images
from rgal.terms.objective import Context, LossTerm, Progress, Reads, stateless
from rgal.terms.transfer import distillation
from tests.helpers import small
from tests.helpers.runs import RECIPES, ROUNDS, finish, make_problem, make_run, shrunk


def make_loop(optimiser: SGD, total: int, **options: Any) -> StudentLoop:
    nets = {"student": small.student(small.GREY), "teacher": make_problem().teacher}
    spec = StudentSpec((distillation(),), optimiser, total, Augmentation(**options))
    return StudentLoop(nets, small.GREY, spec, Streams("cpu", 0))


def expected_rates(spec: SGD, total: int) -> list[float]:
    """A line up to lr over lr_warmup * total steps, then lr (1 + cos(pi x)) / 2 or lr / 10^(quarters of x done), x from
    0 to 1."""
    warmup = spec.lr_warmup * total
    rates = []
    for step in range(total):
        if step < warmup:
            rates.append(spec.lr * (step + 1) / math.ceil(warmup))
        elif spec.schedule == "constant":
            rates.append(spec.lr)
        elif spec.schedule == "quarters":
            past = [quarter for quarter in (1, 2, 3) if 4 * (step - warmup) >= quarter * (total - warmup)]
            rates.append(spec.lr / 10 ** len(past))
        else:
            rates.append(spec.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2)
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "constant", "quarters"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25, 1.0])
def test_the_learning_rate_is_the_formula(schedule: str, warmup: float) -> None:
    spec = SGD(lr=0.3, schedule=schedule, lr_warmup=warmup)
    loop = make_loop(spec, 30)
    assert [loop.learning_rate(step) for step in range(30)] == pytest.approx(expected_rates(spec, 30))


def test_quarters_by_hand() -> None:
    """A tenth after each quarter of what is left after the warmup; and no step of it is lost to rounding."""
    for total, warmup, expected in (
        (8, 0.0, [1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]),
        (10, 0.2, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]),
        (6, 0.0, [1, 1, 0.1, 0.01, 0.01, 1e-3]),
        (2, 0.0, [1, 0.01]),
    ):
        loop = make_loop(SGD(lr=1.0, schedule="quarters", lr_warmup=warmup), total)
        assert [loop.learning_rate(step) for step in range(total)] == pytest.approx(expected), total
    loop = make_loop(SGD(lr=1.0, schedule="quarters"), 80_000)
    edges = [
        loop.learning_rate(step) for quarter in (20_000, 40_000, 60_000) for step in (quarter - 1, quarter)
    ]
    assert edges == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 1e-3])


# ABD's, R-DFCIL's and PASS's: shares of a phase, and factors from there on.
DROPS = {
    "abd": (((0.4, 0.1), (0.6, 0.01), (0.8, 0.001)), 250, (100, 150, 200)),
    "r_dfcil": (((0.4, 0.1), (0.6, 0.01), (0.8, 0.05)), 200, (80, 120, 160)),
    "pass": (((44 / 101, 0.1), (89 / 101, 0.01)), 101, (44, 89)),
}


@pytest.mark.parametrize("method", DROPS)
def test_steps_drop_at_the_published_epochs(method: str) -> None:
    """The rate of the last and of the first step around each of them, and no other change."""
    drops, epochs, at = DROPS[method]
    spec = resolve(method).recipe.student
    assert spec.schedule == "steps" and spec.drops == drops and spec.lr_warmup == 0
    for per_epoch in (1, 39, 78):
        total, rates = epochs * per_epoch, [spec.lr, *(spec.lr * factor for _, factor in drops)]
        edges = [0, *(epoch * per_epoch for epoch in at), total]
        for rate, start, stop in zip(rates, edges, edges[1:], strict=False):
            of_steps = [spec.learning_rate(step, total) for step in (start, (start + stop) // 2, stop - 1)]
            assert of_steps == pytest.approx([rate] * 3), (per_epoch, start)


def test_steps_by_hand() -> None:
    """Drops are shares of what is left after the warmup; without any, and before the first, the rate is lr."""
    spec = SGD(lr=2.0, schedule="steps", drops=((0.25, 0.5), (0.5, 0.1), (0.75, 0.3)))
    assert [spec.learning_rate(step, 8) for step in range(8)] == pytest.approx(
        [2, 2, 1, 1, 0.2, 0.2, 0.6, 0.6]
    )
    rising = replace(spec, lr_warmup=0.2)
    expected = [1, 2, 2, 2, 1, 1, 0.2, 0.2, 0.6, 0.6]
    assert [rising.learning_rate(step, 10) for step in range(10)] == pytest.approx(expected)
    assert [replace(spec, drops=()).learning_rate(step, 3) for step in range(3)] == [2, 2, 2]
    assert spec.learning_rate(8, 8) == spec.learning_rate(100, 8) == pytest.approx(0.6)


def test_the_learning_rate_reaches_the_optimiser_and_ends_near_zero() -> None:
    spec, images = SGD(lr=0.05, lr_warmup=0.25), small.rand(8, *small.GREY.shape)
    loop, rates = make_loop(spec, 8), []
    for _ in range(8):
        loop.step(StudentBatch(images, torch.zeros(8, dtype=torch.int64)))
        rates.append(loop.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx(expected_rates(spec, 8))
    assert rates[1] == pytest.approx(0.05) and 0 < rates[-1] < 0.005
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
        loop.step(StudentBatch(images, torch.zeros(8, dtype=torch.int64)))
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


def test_two_steps_of_adam_by_hand() -> None:
    """Moments 0.9 and 0.999, 1e-8 beside the root; decay is added to the gradient; the schedule holds for it too."""
    spec = StudentAdam(lr=0.01, weight_decay=0.1, schedule="steps", drops=((0.5, 0.1),))
    loop, images = make_loop(spec, 2, view=identity), small.rand(8, *small.GREY.shape)
    student, teacher = small.student(small.GREY), make_problem().teacher
    first, second = ([torch.zeros_like(p) for p in student.parameters()] for _ in range(2))
    for step in (1, 2):
        loop.step(StudentBatch(images, torch.zeros(8, dtype=torch.int64)))
        x = small.GREY.normalise(images)
        with torch.no_grad():
            p = F.softmax(teacher(x) / 20, dim=1)
        kd = 400 * F.kl_div(F.log_softmax(student(x) / 20, dim=1), p, reduction="batchmean")
        gradients = torch.autograd.grad(kd, list(student.parameters()))
        for weight, m, v, gradient in zip(student.parameters(), first, second, gradients, strict=True):
            g = gradient + 0.1 * weight.detach()
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            root = (v / (1 - 0.999**step)).sqrt() + 1e-8
            weight.data -= (0.01 if step == 1 else 0.001) * (m / (1 - 0.9**step)) / root
    for name, value in small.snapshot(student).items():
        torch.testing.assert_close(loop.student.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert loop.optimiser.param_groups[0]["lr"] == pytest.approx(0.001)


def test_the_default_step_size_of_adam_is_its_own() -> None:
    assert StudentAdam().lr == 1e-3 and SGD().lr == 0.1
    made = StudentAdam(0.5, 0.25).make([torch.nn.Parameter(torch.zeros(1))], fused=False)
    assert isinstance(made, torch.optim.Adam) and not isinstance(made, torch.optim.AdamW)
    group = made.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.5, 0.25, (0.9, 0.999))


# Real and replayed images ---------------------------------------------------------------------------------------


def watched(**options: Any) -> tuple[StudentLoop, list[Context]]:
    """A loop whose only term keeps what it is shown."""
    contexts: list[Context] = []

    def loss(ctx: Context) -> Tensor:
        contexts.append(ctx)
        return ctx.of("student").logits.square().mean()

    terms: tuple[LossTerm, ...] = (stateless("watch", 1.0, loss, Reads("student")),)
    nets = {"student": small.student(small.GREY)}
    spec = StudentSpec(terms, SGD(), 10, IncrementalAugmentation(**options))
    return StudentLoop(nets, small.GREY, spec, Streams("cpu", 0)), contexts


def shown(ctx: Context) -> Tensor:
    """The student's input, back in [0,1]."""
    return small.GREY.denormalise(ctx.views["global"])


TARGETS = torch.tensor([4, 5, 4, 0, 0])


def batch(images: Tensor, real: int = 0) -> StudentBatch:
    """Five images, of which the first `real` are real ones of new classes."""
    return StudentBatch(images, TARGETS, grouped(real, len(images)) if real else {})


@pytest.mark.parametrize("real", [0, 3, 5])
def test_real_images_are_cropped_and_replayed_ones_seen_as_the_recipe_says(real: int) -> None:
    loop, contexts = watched(view=identity)
    images = small.rand(5, *small.GREY.shape)
    loop.step(batch(images, real=real))
    stream = Streams("cpu", 0).get("view of new images")
    crops = crop_flip(images[:real], small.GREY, stream) if real else images[:0]
    torch.testing.assert_close(shown(contexts[0]), torch.cat([crops, images[real:]]))
    assert real_images(contexts[0]) == real and torch.equal(contexts[0].targets, TARGETS)
    assert torch.equal(contexts[0].images, images)
    assert not torch.equal(crops, images[:real]) or real == 0


def test_the_views_of_real_and_of_replayed_images_draw_from_streams_of_their_own() -> None:
    loop, contexts = watched()
    images = small.rand(5, *small.GREY.shape)
    loop.step(batch(images, real=3))
    alone, seen_alone = watched()
    alone.step(StudentBatch(images[3:], TARGETS[3:]))
    assert torch.equal(shown(contexts[0])[3:], shown(seen_alone[0]))
    expected = crop_flip(images[:3], small.GREY, Streams("cpu", 0).get("view of new images"))
    torch.testing.assert_close(shown(contexts[0])[:3], expected)


def test_without_real_images_no_stream_of_theirs_is_touched() -> None:
    loop, _ = watched()
    loop.step(batch(small.rand(5, *small.GREY.shape)))
    assert set(loop.streams.state_dict()) == {"student view"}
    loop.step(batch(small.rand(5, *small.GREY.shape), real=5))
    assert set(loop.streams.state_dict()) == {"student view", "view of new images"}


@pytest.mark.parametrize("real", [0, 5])
def test_rotations_turn_what_the_view_has_made(real: int) -> None:
    """Of real images of new classes, and of those of a first phase, for which there is no count."""
    loop, contexts = watched(rotations=True)
    images = small.rand(5, *small.GREY.shape)
    loop.step(batch(images, real=real))
    purpose = "view of new images" if real else "student view"
    crops = crop_flip(images, small.GREY, Streams("cpu", 0).get(purpose))
    turned, labels = rotations(crops, TARGETS)
    torch.testing.assert_close(shown(contexts[0]), turned)
    assert torch.equal(contexts[0].targets, labels) and real_images(contexts[0]) == 4 * real
    assert len(contexts[0].images) == 20


def test_the_progress_inside_a_phase_reaches_the_terms() -> None:
    loop, contexts = watched()
    loop.step(batch(small.rand(5, *small.GREY.shape), real=5), Progress(0, 1, within=0.25))
    assert contexts[0].progress.fraction == 0.25


def test_pairs_show_every_image_twice() -> None:
    shown: list[Tensor] = []

    def view(images: Tensor, domain: Any, rng: Any) -> Tensor:
        shown.append(images)
        return images

    images = small.rand(6, *small.GREY.shape)
    make_loop(SGD(), 1, view=view, pairs=True).step(StudentBatch(images, torch.arange(6)))
    assert torch.equal(shown[0], torch.cat([images, images]))


@pytest.mark.parametrize(
    "recipe", [RECIPES["rgal"], RECIPES["cmi"], shrunk(resolve("plain").recipe, images=Pixels())]
)
def test_bfloat16_runs_stay_finite(recipe: Recipe) -> None:
    rounds = replace(ROUNDS, count=1)
    outcome = finish(make_run(replace(recipe, rounds=rounds), precision="bf16"))
    assert all(torch.isfinite(value).all() for value in outcome.student.values())
    assert all(value.dtype != torch.bfloat16 for value in outcome.student.values())
