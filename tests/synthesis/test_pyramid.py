"""Pixels from coarse to fine: what networks see when, the step sizes, what is kept, and networks of one size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.suite.plan.checks import check_networks
from rgal.suite.task import tasks
from rgal.synthesis.image_source import Adam
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.pyramid import Level, PyramidPixels, PyramidSource
from rgal.terms.objective import Context, Progress, Reads, stateless
from tests.helpers import small
from tests.helpers.runs import named, recorded
from tests.helpers.trials import job, run

IMAGENET = "deepinversion[variant=imagenet]"
OPTIMISER = Adam(0.2, (0.5, 0.9))


def begun(steps: int, domain: Domain = small.GREY, spec: PyramidPixels | None = None) -> PyramidSource:
    images = (spec or PyramidPixels()).build(domain, torch.device("cpu"), 0)
    assert isinstance(images, PyramidSource)
    images.attach(2, small.rng(), steps)
    images.start(torch.tensor([0, 1]), OPTIMISER)
    return images


def loss_of(shown: Tensor) -> Tensor:
    """Pulls every pixel to a value of its own."""
    wanted = torch.linspace(0, 1, shown.numel()).view(shown.shape)
    return ((shown - wanted) ** 2).sum()


# What is seen when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "low"), [(1, 0), (2, 1), (3, 2), (4, 2), (7, 4), (60, 40)])
def test_two_thirds_of_the_steps_are_at_half_resolution(steps: int, low: int) -> None:
    """Rounded down, so that a round ends at full resolution whatever its length."""
    images, heights = begun(steps), []
    for _ in range(steps):
        made = images.images()
        shown = images.shown(made)
        assert made.shape == (2, *small.GREY.shape) and images.whole == (shown is made)
        heights.append(shown.shape[2])
        images.step(loss_of(shown))
    assert heights == [4] * low + [8] * (steps - low)


def test_more_levels_share_the_steps_by_their_parts() -> None:
    images = begun(8, spec=PyramidPixels((Level(4, 1, 0.0), Level(2, 2, 0.0), Level(1, 1, 0.0))))
    heights = []
    for _ in range(8):
        heights.append(images.shown(images.images()).shape[2])
        images.step(loss_of(images.shown(images.images())))
    assert heights == [2, 2, 4, 4, 4, 4, 8, 8]
    assert images.sizes == ((2, 2), (4, 4))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_squares_are_averaged_and_those_at_odd_borders_are_cut(size: tuple[int, int]) -> None:
    height, width = size
    images = begun(3, replace(small.GREY, shape=(1, height, width)))
    made = images.images()
    expected = [
        [
            made[:, 0, y : min(y + 2, height), x : min(x + 2, width)].flatten(1).mean(1)
            for x in range(0, width, 2)
        ]
        for y in range(0, height, 2)
    ]
    shown = images.shown(made)
    assert shown.shape[2:] == (len(expected), len(expected[0])) == images.sizes[0]
    for y, row in enumerate(expected):
        for x, value in enumerate(row):
            torch.testing.assert_close(shown[:, 0, y, x], value)


@pytest.mark.parametrize("levels", [(Level(2, 1, 0.1),), (Level(2, 0, 0.1), Level(1, 1, 0.1))])
def test_a_pyramid_ends_at_full_resolution_and_has_no_empty_level(levels: tuple[Level, ...]) -> None:
    with pytest.raises(ValueError, match="ends at full resolution"):
        PyramidPixels(levels)


# The optimiser --------------------------------------------------------------------------------------------------


def published_rate(step: int, steps: int) -> float:
    """Of a level of so many steps: linear over 100 steps, then half a cosine to 0."""
    if step < 100:
        return 0.2 * (step + 1) / 100
    return 0.2 * (1 + math.cos(math.pi * (step - 100) / (steps - 100))) / 2


def test_the_step_sizes_of_3000_steps_are_the_published_ones() -> None:
    images, rates = begun(3000, replace(small.GREY, shape=(1, 2, 2))), []
    after = images.after_step

    def record() -> None:
        rates.append(images.optimiser.param_groups[0]["lr"])
        after()

    images.after_step = record  # type: ignore[method-assign]
    for _ in range(3000):
        images.step(images.shown(images.images()).sum())
    expected = [published_rate(i, 2000) for i in range(2000)] + [published_rate(i, 1000) for i in range(1000)]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_a_round_equals_the_plain_loop() -> None:
    """Two optimisers one after the other on one leaf, an average before the loss, a clip after the step."""
    domain, images = small.GREY, begun(12)
    pixels = torch.randn(2, *domain.shape, generator=small.rng()).requires_grad_()
    low, high = -domain.mean[0] / domain.std[0], (1 - domain.mean[0]) / domain.std[0]
    for pooling, steps, warmup in ((2, 8, 0.05 * 8), (1, 4, 0.1 * 4)):
        optimiser = torch.optim.Adam([pixels], lr=0.2, betas=(0.5, 0.9))
        for step in range(steps):
            rate = 1 if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
            optimiser.param_groups[0]["lr"] = 0.2 * rate
            picture = pixels * domain.std[0] + domain.mean[0]
            n, c, h, w = picture.shape
            squares = picture.view(n, c, h // pooling, pooling, w // pooling, pooling).mean((3, 5))
            optimiser.zero_grad()
            loss_of(squares).backward()
            optimiser.step()
            with torch.no_grad():
                pixels.clamp_(low, high)
            images.step(loss_of(images.shown(images.images())))
            torch.testing.assert_close(images.pixels, pixels, rtol=1e-4, atol=1e-5)


def test_pixels_are_clipped_unless_told_otherwise() -> None:
    for clip in (True, False):
        images = Pixels(clip).build(small.GREY, torch.device("cpu"), 0)
        images.attach(2, small.rng(), 3)
        images.start(torch.tensor([0, 1]), Adam(1.0))
        for _ in range(3):
            images.step(-images.images().sum())
        assert (images.images().max() > 1.5) == (not clip)


# What is kept ---------------------------------------------------------------------------------------------------


def sized(ctx: Context) -> Tensor:
    """Bounces, and is much lower while images are small."""
    return ctx.images.square().mean() - 1000.0 * (ctx.images.shape[2] < small.GREY.shape[1])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_images_come_from_full_resolution(keep: str) -> None:
    recipe = named(IMAGENET, synthesis=(stateless("sized", 1.0, sized),), keep=keep, optimiser=Adam(1.5))
    recipe = replace(recipe, rounds=replace(recipe.rounds, synthesis_steps=12))
    inversion, iterates, totals = recorded(recipe, 12)
    assert max(totals[:8]) < min(totals[8:])
    kept = 8 + totals[8:].index(min(totals[8:])) if keep == "best" else 11
    assert torch.equal(inversion.best, iterates[kept])
    assert inversion.finish()[0].shape == (10, *small.GREY.shape)


def test_nothing_is_kept_before_full_resolution() -> None:
    recipe = named(IMAGENET)
    inversion, _, _ = recorded(recipe, 2)
    assert not inversion.best.any() and inversion.best_loss.item() == math.inf
    inversion.step(Progress())
    assert inversion.best.any() and math.isfinite(inversion.best_loss.item())


# The networks ---------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Takes 8x8 images only, as vision transformers do theirs."""

    head_name = "head"
    layer_names = ("stem",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4 * 8 * 8, small.GREY.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).flatten(1))


def inversion(method: str, teacher: nn.Module, student: nn.Module) -> Inversion:
    streams = Streams("cpu", "pyramid")
    return Inversion(
        named(method).inversion(), Problem(teacher, small.GREY), {"student": student}, streams, "fp32"
    )


def adaptive(seed: int) -> nn.Module:
    return small.network("wrn10_1", small.GREY, seed)


def test_a_network_of_one_size_is_refused_in_one_line() -> None:
    message = "the teacher does not take the 4x4 images that this method starts from, only 8x8; use a network"
    with pytest.raises(UserError, match=message) as caught:
        inversion(IMAGENET, Fixed(), adaptive(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="the student does not take"):
        inversion("deepinversion[variant=imagenet,adv=0.2]", adaptive(0), Fixed())


def test_a_transformer_is_refused_before_anything_is_trained() -> None:
    """A net that lacks batch norm anyway is asked when the suite is read."""
    teacher = Fixed()
    teacher.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1))
    trial = job("kd", "deepinversion[variant=imagenet,bn=0]", {}, 0).trial
    built = {trial.teacher: teacher, trial.student: adaptive(1)}
    with pytest.raises(
        UserError, match=r"cannot run with wrn10_1 and resnet8: the teacher does not take the 4x4"
    ):
        check_networks([trial], tasks()["kd"], small.GREY, built)
    at_one_size = job("kd", "deepinversion[bn=0]", {}, 0).trial
    check_networks([at_one_size], tasks()["kd"], small.GREY, built)


def test_a_network_of_one_size_is_no_matter_where_it_is_not_asked() -> None:
    inversion(IMAGENET, adaptive(0), Fixed())
    inversion("deepinversion", Fixed(), Fixed())


def test_the_question_leaves_no_trace_on_networks() -> None:
    teacher, student = adaptive(0), adaptive(1).train()
    before = [small.snapshot(net) for net in (teacher, student)]
    inversion("deepinversion[variant=imagenet,adv=0.2]", teacher, student)
    small.assert_same([small.snapshot(net) for net in (teacher, student)], before)
    assert student.training and not teacher.training


def test_networks_and_terms_see_the_small_images() -> None:
    shapes: list[tuple[int, ...]] = []

    def look(ctx: Context) -> Tensor:
        shapes.append(
            (ctx.images.shape[2], ctx.views["global"].shape[2], ctx.of("teacher").layers[0].shape[2])
        )
        return ctx.images.sum()

    recipe = named(IMAGENET, synthesis=(stateless("look", 1.0, look, Reads("teacher", "layers")),))
    recorded(recipe, 3)
    assert shapes == [(4, 4, 4), (4, 4, 4), (8, 8, 8)]


# With everything around it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["kd", "dfq"])
@pytest.mark.parametrize("plus", ["", "+rgal"])
def test_the_imagenet_form_runs_on_tasks(task: str, plus: str) -> None:
    options: dict[str, Any] = {"bits": "w4a4", "placement": "paper"} if task == "dfq" else {}
    going, rows = run(task, IMAGENET + plus, options)
    transfer = going.transfer
    assert transfer.schedule.steps["synthesis"] == 4 and len(transfer.pool) == 18
    assert transfer.pool.images.float().std(0).min() > 0, "images left as they were reserved"
    names = {name for row in rows if row["kind"] == "synthesis" for name in row}
    assert {"bn", "oh", "tv", "l2"} <= names and "adv" not in names and ("spread" in names) == bool(plus)
