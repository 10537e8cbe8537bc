"""Contrast of neighbouring patches and the wanted total variation, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rgal.core.observe import Observation
from rgal.terms.patch_terms import grid_of, patch_contrast, patch_contrast_loss, variation_near
from tests.helpers import small


def naive_contrast(grid: Tensor, t: float) -> float:
    losses = []
    for image in grid.double():
        _, height, width = image.shape
        for y in range(height):
            for x in range(width):
                near = [
                    (b, a) for b in range(y - 1, y + 2) for a in range(x - 1, x + 2)
                    if (b, a) != (y, x) and 0 <= b < height and 0 <= a < width
                ]  # fmt: skip
                v = image[:, y, x]
                cosines = sorted(
                    (float(v @ image[:, b, a] / (v.norm() * image[:, b, a].norm())) for b, a in near)
                )
                best = sum(math.exp(c / t) for c in cosines[-4:])
                losses.append(-math.log(best / sum(math.exp(c / t) for c in cosines)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (1, 5, 2, 2)])
def test_contrast_of_a_loop(shape: tuple[int, ...]) -> None:
    grid = small.randn(*shape)
    assert patch_contrast_loss(grid, 0.7).item() == pytest.approx(
        naive_contrast(grid, 0.7), rel=1e-4, abs=1e-6
    )


def test_tokens_and_maps_stand_on_their_grid() -> None:
    tokens = small.randn(2, 3, 10, 1)  # a class token, and nine patches
    grid = grid_of(tokens)
    assert grid is not None and torch.equal(grid.flatten(2), tokens[:, :, 1:, 0])
    maps = small.randn(2, 3, 2, 4)
    same = grid_of(maps)
    assert same is not None and torch.equal(same, maps)
    assert grid_of(small.randn(2, 3, 1, 1)) is None


def test_layers_are_added_up_and_gradients_are_finite() -> None:
    layers = [
        small.randn(2, 3, 4, 4).requires_grad_(),
        small.randn(2, 6, 2, 2, seed=1),
        small.randn(2, 6, 1, 1),
    ]
    ctx = small.context(teacher=Observation(torch.zeros(2, 4), layers=layers))
    loss = patch_contrast(1.0, 0.7).build(None)(ctx)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(
        sum(naive_contrast(layer.detach(), 0.7) for layer in layers[:2]), rel=1e-4
    )
    loss.backward()
    assert layers[0].grad is not None and torch.isfinite(layers[0].grad).all() and layers[0].grad.any()


def test_the_wanted_variation_grows_with_the_root_of_the_batch() -> None:
    images = small.randn(4, 3, 8, 8)
    ctx = small.context()
    ctx.views = {"global": images}
    shifts = [(0, 1), (1, 0), (1, 1), (1, -1)]
    norms = 0.0
    for down, right in shifts:
        rows = range(8 - down)
        columns = range(max(0, -right), 8 - max(0, right))
        norms += math.sqrt(
            sum(
                float((images[:, :, y + down, x + right] - images[:, :, y, x]).square().sum())
                for y in rows
                for x in columns
            )
        )  # fmt: skip
    wanted = 2750 * math.sqrt(4 * 3 * 8 * 8 / (32 * 3 * 224 * 224))
    loss = variation_near(1.0).build(None)(ctx)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(abs(norms - wanted), rel=1e-4)
