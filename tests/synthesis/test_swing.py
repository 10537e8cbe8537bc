"""Swing convolutions: moves against loops, which layers swing, and the deviations that GENIE's images are made for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rgal.core.observe import BatchNormStatistics
from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.synthesis.loop import Inversion
from rgal.synthesis.swing import SWINGING, Swing, deviation_loss, swung, with_swings
from rgal.terms.objective import Progress, TermContext
from tests.helpers import small
from tests.helpers.runs import shrunk


@pytest.mark.parametrize("rows", range(3))
@pytest.mark.parametrize("columns", range(3))
def test_a_move_by_a_pixel_reflects_at_the_border(rows: int, columns: int) -> None:
    x = small.randn(2, 3, 4, 5)
    found = swung(x, torch.tensor([rows, columns]))

    def reflected(i: int, size: int) -> int:
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i

    for i in range(4):
        for j in range(5):
            source = x[:, :, reflected(i + rows - 1, 4), reflected(j + columns - 1, 5)]
            assert torch.equal(found[:, :, i, j], source)


def test_maps_without_a_neighbour_stay() -> None:
    x = small.randn(2, 3, 1, 6)
    assert swung(x, torch.tensor([0, 2])) is x


def test_only_strided_convolutions_of_a_copy_swing() -> None:
    problem = small.problem(small.GREY, "wrn10_1")
    before = small.snapshot(problem.teacher)
    net = with_swings(TermContext(small.GREY, {"teacher": problem.teacher}))
    inside = [m.layer for m in net.modules() if isinstance(m, Swing)]
    strided = [m for m in problem.teacher.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
    assert len(inside) == len(strided) > 0 and all(layer.stride == (2, 2) for layer in inside)
    x = small.randn(3, *small.GREY.shape)
    assert torch.equal(net.eval()(x), problem.teacher(x))  # an offset of 1 is none
    for swing in (m for m in net.modules() if isinstance(m, Swing)):
        swing.offset = torch.tensor([0, 2])
    assert not torch.allclose(net(x), problem.teacher(x))
    small.assert_same(small.snapshot(problem.teacher), before)


def test_deviations_of_a_loop() -> None:
    running = [small.randn(2, 3, seed=5), small.rand(2, 4, seed=6)]

    def statistics(mean: Tensor, var: Tensor, layer: int) -> BatchNormStatistics:
        return BatchNormStatistics(mean, var, running[layer][0], running[layer][1].abs())

    def fast(images: Tensor, mean: Tensor, var: Tensor, mean2: Tensor, var2: Tensor) -> Tensor:
        return deviation_loss([statistics(mean, var, 0), statistics(mean2, var2, 1)], images)

    def slow(images: Tensor, *moments: Tensor) -> Tensor:
        total = 0.0 * images.sum()
        for one in images:
            for channel in one:
                pixels = channel.flatten()
                m = sum(pixels) / len(pixels)
                d = (sum((p - m) ** 2 for p in pixels) / (len(pixels) - 1) + 1e-6).sqrt()
                total = total + (m**2 + (d - 1) ** 2) / len(images)
        for layer, (mean, var) in enumerate([moments[:2], moments[2:]]):
            for c in range(len(mean)):
                mu, sigma = running[layer][0][c].double(), math.sqrt(float(running[layer][1][c].abs()) + 1e-6)
                total = total + ((mean[c] - mu) ** 2 + ((var[c] + 1e-6).sqrt() - sigma) ** 2) / len(mean)
        return total

    moments = [small.randn(3), small.rand(3, seed=1), small.randn(4, seed=2), small.rand(4, seed=3)]
    small.assert_twins(fast, slow, small.randn(2, 2, 3, 3), *moments)


def test_every_step_draws_an_offset_of_each_layer_for_the_whole_batch() -> None:
    problem, streams = small.problem(small.GREY, "wrn10_1"), Streams("cpu", "swing")
    net = with_swings(TermContext(small.GREY, {"teacher": problem.teacher})).eval()
    recipe = shrunk(resolve("genie").recipe)
    inversion = Inversion(recipe.inversion(), problem, {"student": problem.teacher, SWINGING: net}, streams)
    inversion.begin()
    swings = [m for m in net.modules() if isinstance(m, Swing)]
    rng, seen = Streams("cpu", "swing").get("swing offsets"), set()
    for _ in range(6):
        inversion.step(Progress())
        for swing in swings:
            assert torch.equal(swing.offset, torch.randint(0, 3, (2,), generator=rng))
            seen.add(tuple(swing.offset.tolist()))
    assert len(seen) > 3
