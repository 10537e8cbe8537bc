"""Scales, zero-points and rounding, against the one-number-at-a-time versions in naive_quant.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rgal.tasks.quantization.fake_quant import choose_qparams, fake_quantize, limits
from rgal.tasks.quantization.scheme import WIDTHS
from tests.helpers import naive_quant, small
from tests.helpers.quant_builders import HUGE, channels

# Rounding -------------------------------------------------------------------------------------------------------


def assert_equals_the_loop(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, symmetric: bool, gradient: str
) -> None:
    x, scale = x.detach().clone().requires_grad_(), scale.detach().clone().requires_grad_()
    upstream = torch.randn(x.shape, generator=small.rng(9)).to(x.dtype)
    actual = fake_quantize(x, scale, zero_point, bits, symmetric, gradient, grad_factor=0.25)
    assert actual.dtype == x.dtype
    x_grad, scale_grad = torch.autograd.grad(actual, (x, scale), upstream)
    with torch.no_grad():
        value, x_wanted, scale_wanted = naive_quant.fake_quantize(
            x, scale, zero_point, bits, symmetric, gradient, upstream
        )
    assert torch.equal(actual, value) and torch.equal(x_grad, x_wanted)
    assert scale_grad.dtype == torch.float32 and x_grad.dtype == x.dtype
    largest = (2**bits) * float(upstream.float().abs().sum())
    torch.testing.assert_close(scale_grad.double(), 0.25 * scale_wanted, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_fake_quantize_and_its_gradients_equal_the_loop(bits: int, gradient: str, symmetric: bool) -> None:
    """One scale for each channel on every axis, and one for all; narrow ranges, so that some is clipped."""
    rows = channels()
    scale, zero_point = choose_qparams(0.8 * rows.amin(1), 0.8 * rows.amax(1), bits, symmetric)
    layouts = (rows[:, :, None], rows.t()[:, :, None], rows.view(9, 2, 4).permute(2, 1, 0))
    for axis, x in enumerate(layouts):
        shape = [1, 1, 1]
        shape[axis] = -1
        assert_equals_the_loop(x, scale.view(shape), zero_point.view(shape), bits, symmetric, gradient)
    ordinary = rows[[0, 2, 3, 4, 7]]
    scale, zero_point = choose_qparams(0.7 * ordinary.min(), 0.7 * ordinary.max(), bits, symmetric)
    assert_equals_the_loop(ordinary, scale, zero_point, bits, symmetric, gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("gradient", ["identity", "clipped"])
def test_fake_quantize_other_types_are_computed_in_float32_and_come_back(
    dtype: torch.dtype, gradient: str, symmetric: bool
) -> None:
    x = small.randn(6, 7).to(dtype)
    scale, zero_point = choose_qparams(x.amin(1), 0.6 * x.amax(1), 4, symmetric)
    assert scale.dtype == zero_point.dtype == torch.float32
    assert_equals_the_loop(x, scale[:, None], zero_point[:, None], 4, symmetric, gradient)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (0,), (0, 3), (2, 0, 4)])
def test_fake_quantize_single_numbers_and_empty_tensors(shape: tuple[int, ...], symmetric: bool) -> None:
    scale, zero_point = choose_qparams(torch.tensor(-0.5), torch.tensor(1.0), 3, symmetric)
    for gradient in ("identity", "clipped"):
        assert_equals_the_loop(torch.full(shape, 0.3), scale, zero_point, 3, symmetric, gradient)


@pytest.mark.parametrize("bits", WIDTHS)
def test_fake_quantize_halves_go_to_the_even_neighbour_before_the_zero_point_is_added(bits: int) -> None:
    scale, zero_point = torch.tensor(0.25), torch.tensor(1.0)  # an odd zero-point would turn the halves round
    low, high = limits(bits, False)
    multiples = torch.arange(low - zero_point, high - zero_point, dtype=torch.float32)
    actual = fake_quantize((multiples + 0.5) * scale, scale, zero_point, bits) / scale
    assert actual.tolist() == [2.0 * round((k + 0.5) / 2) for k in multiples.tolist()]


def test_fake_quantize_zero_of_either_sign_stays_zero(symmetric: bool) -> None:
    scale, zero_point = choose_qparams(torch.tensor(-0.3), torch.tensor(0.9), 4, symmetric)
    zeros = torch.tensor([0.0, -0.0])
    assert torch.equal(fake_quantize(zeros, scale, zero_point, 4, symmetric), torch.zeros(2))


def test_fake_quantize_infinities_take_the_ends_of_the_range(symmetric: bool) -> None:
    scale, zero_point = choose_qparams(torch.tensor(-1.0), torch.tensor(2.0), 4, symmetric)
    ends = (torch.tensor(limits(4, symmetric)) - zero_point) * scale
    x = torch.tensor([-torch.inf, torch.inf])
    assert torch.equal(fake_quantize(x, scale, zero_point, 4, symmetric), ends)


# torch's own operators, which multiply by 1/s: inputs keep away from the halves --------------------------------


def off_the_halves(scale: Tensor, zero_point: Tensor, bits: int, symmetric: bool) -> Tensor:
    """(R, 40) values within 0.4 scales of a representable value, some outside the range; scale, zero_point: (R,)."""
    low, high = limits(bits, symmetric)
    points = torch.randint(low - 4, high + 5, (len(scale), 40), generator=small.rng()) - zero_point[:, None]
    return (points + 0.8 * (small.rand(len(scale), 40) - 0.5)) * scale[:, None]


def some_qparams(bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    low, high = -small.rand(5), 2 * small.rand(5, seed=1)
    return choose_qparams(low, high, bits, symmetric)


@pytest.mark.parametrize("bits", WIDTHS)
def test_fake_quantize_equals_the_operators_of_torch(bits: int, symmetric: bool) -> None:
    scale, zero_point = some_qparams(bits, symmetric)
    x = off_the_halves(scale, zero_point, bits, symmetric).requires_grad_()
    ends = limits(bits, symmetric)
    for axis, y in ((0, x), (1, x.t())):
        shape = (-1, 1) if axis == 0 else (1, -1)
        actual = fake_quantize(y, scale.view(shape), zero_point.view(shape), bits, symmetric, "clipped")
        wanted = torch.fake_quantize_per_channel_affine(y, scale, zero_point.int(), axis, *ends)
        assert torch.equal(actual, wanted)
        small.assert_same(*(torch.autograd.grad(v.square().sum(), x)[0] for v in (actual, wanted)))
    row = x[1]
    actual = fake_quantize(row, scale[1], zero_point[1], bits, symmetric, "clipped")
    assert torch.equal(
        actual, torch.fake_quantize_per_tensor_affine(row, float(scale[1]), int(zero_point[1]), *ends)
    )


@pytest.mark.parametrize("bits", WIDTHS)
def test_fake_quantize_equals_the_learnable_operators_of_torch(bits: int, symmetric: bool) -> None:
    scale, zero_point = some_qparams(bits, symmetric)
    x = off_the_halves(scale, zero_point, bits, symmetric).requires_grad_()
    ends, factor = limits(bits, symmetric), 0.1
    scale = scale.clone().requires_grad_()
    pairs = [
        (
            fake_quantize(x, scale[:, None], zero_point[:, None], bits, symmetric, "clipped", factor),
            torch._fake_quantize_learnable_per_channel_affine(x, scale, zero_point, 0, *ends, factor),
        ),
        (
            fake_quantize(x[2], scale[2], zero_point[2], bits, symmetric, "clipped", factor),
            torch._fake_quantize_learnable_per_tensor_affine(
                x[2], scale[2:3], zero_point[2:3], *ends, factor
            ),
        ),
    ]
    for actual, wanted in pairs:
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=0)
        ours, theirs = (torch.autograd.grad(v.square().sum(), (x, scale)) for v in (actual, wanted))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# Scales ---------------------------------------------------------------------------------------------------------

ENDS = torch.tensor(
    [[-1.0, 2.0], [-0.3, 0.1], [0.5, 2.0], [-3.0, -1.0], [0.0, 1.0], [-1.0, 0.0], [-1e-30, 1e-30], [-HUGE, HUGE]]
)  # fmt: skip


@pytest.mark.parametrize("bits", WIDTHS)
def test_choose_qparams_represents_zero_and_errs_by_half_a_scale_at_most(bits: int, symmetric: bool) -> None:
    more = torch.sort(small.randn(200, 2), dim=1).values
    low, high = torch.cat([ENDS, more]).unbind(1)
    scale, zero_point = choose_qparams(low, high, bits, symmetric)
    for a, b, s, z in zip(low.tolist(), high.tolist(), scale.tolist(), zero_point.tolist(), strict=True):
        expected, _ = naive_quant.qparams_over(a, b, bits, symmetric)
        assert s == pytest.approx(expected, rel=1e-6, abs=0)
        assert (
            z == 0 if symmetric else abs(z + min(a, 0) / expected) <= 0.5 + 1e-4
        )  # may be halfway between two
    quant_min, quant_max = limits(bits, symmetric)
    assert ((zero_point >= quant_min) & (zero_point <= quant_max) & (zero_point == zero_point.round())).all()
    low, high = low.clamp_max(0), high.clamp_min(0)
    share = torch.linspace(0, 1, 101)
    inside = low[:, None] * (1 - share) + high[:, None] * share
    inside = torch.cat([inside, torch.zeros(len(low), 1)], dim=1)
    actual = fake_quantize(inside, scale[:, None], zero_point[:, None], bits, symmetric)
    assert ((actual - inside).abs() <= (0.5 + 1e-4) * scale[:, None]).all()
    assert (actual[:, -1] == 0).all()


def test_limits() -> None:
    for bits in WIDTHS:
        assert limits(bits, False) == (0, 2**bits - 1)
        assert limits(bits, True) == (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)


def test_choose_qparams_of_an_empty_range_has_scale_1(symmetric: bool) -> None:
    scale, zero_point = choose_qparams(torch.zeros(2), torch.zeros(2), 2, symmetric)
    assert scale.tolist() == [1, 1] and zero_point.tolist() == [0, 0]
