"""The patch-similarity prior against a loop, and where it stands in for batch norm statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.core.seeding import Streams
from rgal.nets.discover import find_parts
from rgal.terms.batch_norm import bn_gaussian, bn_momentum
from rgal.terms.inversion import bn_statistics
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext
from rgal.terms.patches import patch_entropy, patches_of
from tests.helpers import foreign_builders as build
from tests.helpers import small

DOMAIN = Domain((3, 16, 16), 4, (0.5,) * 3, (0.25,) * 3)


def naive_entropy(tokens: Tensor, points: int) -> float:
    """Pair by pair, point by point."""
    similarities = []
    for image in tokens:
        pairs = [(a @ b / (a.norm() * b.norm())).item() for a in image for b in image]
        similarities.append(pairs)
    low, high = min(map(min, similarities)), max(map(max, similarities))
    grid = [low + (high - low) * j / (points - 1) for j in range(points)]
    total = 0.0
    for pairs in similarities:
        values = []
        for g in grid:
            p = sum(
                math.exp(-0.5 * ((g - s) / 0.01) ** 2) / (0.01 * math.sqrt(2 * math.pi)) for s in pairs
            ) / len(pairs)
            values.append(-(p + 1e-4) * math.log(p + 1e-4))
        total += sum((a + b) / 2 * (grid[1] - grid[0]) for a, b in zip(values, values[1:], strict=False))
    return total / len(tokens)


@pytest.mark.parametrize("points", [10, 64])
def test_entropy_of_a_loop(points: int) -> None:
    tokens = small.randn(3, 5, 4).double()
    assert patch_entropy(tokens, points).item() == pytest.approx(naive_entropy(tokens, points), rel=1e-3)


def test_similarities_of_all_sizes_have_more_entropy_than_noise() -> None:
    """Directions all around, against many dimensions, in which any two are at right angles."""
    angles = torch.linspace(0, torch.pi, 49)
    around = torch.stack([angles.cos(), angles.sin()], 1).expand(4, -1, -1)
    assert patch_entropy(around, 64) > patch_entropy(small.randn(4, 49, 256), 64) + 0.5


def test_patches_leave_out_a_class_token() -> None:
    layer = small.randn(2, 3, 17, 1)
    assert torch.equal(patches_of(layer), layer[..., 0].transpose(1, 2)[:, 1:])
    assert patches_of(layer[:, :, :16]).shape == (2, 16, 3)  # four by four, without one


@pytest.mark.parametrize("term", [bn_statistics(1.0), bn_gaussian(1.0), bn_momentum(1.0)])
def test_it_stands_in_for_the_statistics_of_a_teacher_of_tokens(term: LossTerm) -> None:
    teacher = find_parts(build.Blocks(4), "mine", 4, DOMAIN.shape).eval()
    images = small.rand(2, 3, 16, 16).requires_grad_()
    objective = Objective([term], TermContext(DOMAIN, {"teacher": teacher}))
    views = {"global": DOMAIN.normalise(images)}
    labels = torch.tensor([0, 1])
    total, parts, ctx = objective(images, labels, views, Streams(torch.device("cpu"), "patches"), Progress())
    expected = -sum(patch_entropy(patches_of(layer)) for layer in ctx.of("teacher").layers)
    torch.testing.assert_close(total, expected)
    total.backward()
    assert parts["bn"] == total and images.grad.abs().sum() > 0


def test_a_teacher_with_neither_is_refused() -> None:
    flat = find_parts(build.Flat(4, 3 * 16 * 16), "mine", 4, DOMAIN.shape)
    with pytest.raises(UserError, match="has no BatchNorm2d layer"):
        Objective([bn_statistics(1.0)], TermContext(DOMAIN, {"teacher": flat}))


def test_a_network_of_maps_is_none_of_tokens() -> None:
    net: nn.Module = find_parts(build.Net(), "mine", 4, (3, 16, 16))
    assert net.layers_are_tokens is False
