"""Statistics of all layers in one node, against torch's own operations one layer at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rgal.core.batch_statistics import (
    StatisticsOfLayers,
    channel_statistics,
    foldable,
    scales_and_shifts,
    segment_norms,
)
from tests.helpers import small

SHAPES = [(4, 3, 5, 5), (2, 7, 3, 4), (1, 3, 2, 2), (3, 8, 1, 1)]  # more channels than images; one image


def frozen_norm(channels: int, dtype: torch.dtype = torch.float32) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=0.1)
    with torch.no_grad():
        for seed, value in enumerate(t for t in norm.state_dict().values() if t.is_floating_point()):
            value.copy_(small.rand(channels, seed=seed) + 0.5)
    return norm.to(dtype).eval().requires_grad_(False)


def by_hand(x: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, var


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_statistics_of_frozen_layers_have_right_gradients(shape: tuple[int, ...]) -> None:
    norms = [frozen_norm(shape[1], torch.float64) for _ in range(2)]
    x = small.randn(*shape).double().requires_grad_()

    def together(x: Tensor) -> tuple[Tensor, ...]:
        layers = StatisticsOfLayers()
        (first, second) = scales_and_shifts(norms)
        y = layers.normalised(layers.normalised(x, *first).square(), *second)
        return y, *(value for moments in layers.moments() for value in moments)

    inner = norms[0](x).square()
    apart = (norms[1](inner), *by_hand(x), *by_hand(inner))
    for of_both, expected in zip(together(x), apart, strict=True):
        torch.testing.assert_close(of_both, expected, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(together, x)


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_alone_have_right_gradients(shape: tuple[int, ...]) -> None:
    x = small.randn(*shape).double().requires_grad_()
    for statistic, expected in zip(channel_statistics(x), by_hand(x), strict=True):
        torch.testing.assert_close(statistic, expected, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(channel_statistics, x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_float32_are_those_of_float64(memory_format: torch.memory_format) -> None:
    x = (100 + small.randn(16, 6, 4, 4)).contiguous(memory_format=memory_format)
    norm = frozen_norm(6)

    def gradient(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        x = x.detach().requires_grad_()
        layers = StatisticsOfLayers()
        y = layers.normalised(x, *scales_and_shifts([layer])[0])
        ((mean, var),) = layers.moments()
        (grad,) = torch.autograd.grad((y.square().mean() + mean.sum() + var.square().sum()), x)
        return grad

    single, expected = gradient(x, norm), gradient(x.double(), frozen_norm(6, torch.float64))
    assert single.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_half_precision_maps_have_statistics_in_float32() -> None:
    x = (3 + small.randn(64, 4, 8, 8)).to(torch.bfloat16).requires_grad_()
    mean, var = channel_statistics(x)
    assert mean.dtype == var.dtype == torch.float32
    for statistic, expected in zip((mean, var), by_hand(x.float()), strict=True):
        torch.testing.assert_close(statistic, expected, rtol=1e-4, atol=1e-4)
    (grad,) = torch.autograd.grad(var.sum(), x)
    expected = 2 * (x.float() - mean.view(1, -1, 1, 1)) / (64 * 64)
    assert grad.dtype == torch.bfloat16
    torch.testing.assert_close(grad.float(), expected.detach(), rtol=0.05, atol=2e-5)


def test_only_plain_frozen_layers_in_evaluation_mode_are_folded() -> None:
    assert foldable(frozen_norm(4))
    assert not foldable(frozen_norm(4).train())
    assert not foldable(frozen_norm(4).requires_grad_(True))
    for other in (
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.Conv2d(1, 1, 1),
    ):
        assert not foldable(other.eval().requires_grad_(False))

    class Own(nn.BatchNorm2d):
        pass

    assert not foldable(Own(4).eval().requires_grad_(False))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [*SHAPES, (96, 16, 8, 8), (33, 61, 7, 5)])
def test_folded_layers_give_the_bits_of_torchs_own(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    x, norm = small.randn(*shape).contiguous(memory_format=memory_format), frozen_norm(shape[1])
    ((scale, shift),) = scales_and_shifts([norm])
    assert torch.equal(torch.addcmul(shift, x, scale), norm(x))


def test_norms_of_segments_equal_those_of_their_parts() -> None:
    values = small.randn(9).double()
    values[2:5] = 0
    values.requires_grad_()
    sizes, weight = [2, 3, 1, 3], torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    parts = torch.stack([torch.linalg.vector_norm(part) for part in values.split(sizes)])
    at_once = segment_norms(values, sizes)
    assert torch.equal(at_once, parts)
    gradients = [torch.autograd.grad((norms * weight).sum(), values)[0] for norms in (at_once, parts)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert not gradients[0][2:5].any()
