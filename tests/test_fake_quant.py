"""Grids, rounding to them, and how ranges are found; each against the one-number-at-a-time versions in naive.py."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from rgal.errors import UserError
from tasks.fake_quant import (
    WIDTHS,
    ActivationQuantizer,
    Bits,
    Scheme,
    WeightQuantizer,
    affine,
    fake_quantize,
    limits,
    shrunk_range,
)
from tests import naive, small

TINY, HUGE = 3e-42, 2e38  # below the smallest normal float32, and next to the largest


@pytest.fixture(params=["symmetric", "asymmetric"])
def symmetric(request: pytest.FixtureRequest) -> bool:
    return request.param == "symmetric"


def channels() -> Tensor:
    """(9, 8): rows of zeros, constants, one sign, tiny, huge, signed zeros, and one with an outlier."""
    noise = small.randn(9, 8)
    return torch.stack(
        [
            noise[0],
            torch.zeros(8),
            torch.full((8,), 0.7),
            noise[1].abs() + 1,
            -noise[2].abs() - 1,
            noise[3] * TINY,
            noise[4].clamp(-1, 1) * HUGE,
            torch.tensor([0.0, -0.0, 1.0, -0.0, -1.0, 0.0, -0.0, 0.5]),
            torch.cat([noise[5, :7], torch.tensor([50.0])]),
        ]
    )


# Rounding to a grid ---------------------------------------------------------------------------------------------


def assert_equals_the_loop(
    x: Tensor, scale: Tensor, zero: Tensor, bits: int, symmetric: bool, gradient: str
) -> None:
    x, scale = x.detach().clone().requires_grad_(), scale.detach().clone().requires_grad_()
    upstream = torch.randn(x.shape, generator=small.rng(9)).to(x.dtype)
    found = fake_quantize(x, scale, zero, bits, symmetric, gradient, step_gradient=0.25)
    assert found.dtype == x.dtype
    x_grad, scale_grad = torch.autograd.grad(found, (x, scale), upstream)
    with torch.no_grad():
        value, x_wanted, scale_wanted = naive.fake_quantize(
            x, scale, zero, bits, symmetric, gradient, upstream
        )
    assert torch.equal(found, value) and torch.equal(x_grad, x_wanted)
    assert scale_grad.dtype == torch.float32 and x_grad.dtype == x.dtype
    largest = (2**bits) * float(upstream.float().abs().sum())
    torch.testing.assert_close(scale_grad.double(), 0.25 * scale_wanted, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_rounding_and_gradients_equal_the_loop(bits: int, gradient: str, symmetric: bool) -> None:
    """A step a channel on every axis, and one for all; ranges narrower than the data, so that some is clipped."""
    rows = channels()
    scale, zero = affine(0.8 * rows.amin(1), 0.8 * rows.amax(1), bits, symmetric)
    layouts = (rows[:, :, None], rows.t()[:, :, None], rows.view(9, 2, 4).permute(2, 1, 0))
    for axis, x in enumerate(layouts):
        shape = [1, 1, 1]
        shape[axis] = -1
        assert_equals_the_loop(x, scale.view(shape), zero.view(shape), bits, symmetric, gradient)
    ordinary = rows[[0, 2, 3, 4, 7]]
    scale, zero = affine(0.7 * ordinary.min(), 0.7 * ordinary.max(), bits, symmetric)
    assert_equals_the_loop(ordinary, scale, zero, bits, symmetric, gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("gradient", ["identity", "clipped"])
def test_other_types_are_computed_in_float32_and_come_back(
    dtype: torch.dtype, gradient: str, symmetric: bool
) -> None:
    x = small.randn(6, 7).to(dtype)
    scale, zero = affine(x.amin(1), 0.6 * x.amax(1), 4, symmetric)
    assert scale.dtype == zero.dtype == torch.float32
    assert_equals_the_loop(x, scale[:, None], zero[:, None], 4, symmetric, gradient)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (0,), (0, 3), (2, 0, 4)])
def test_single_numbers_and_nothing(shape: tuple[int, ...], symmetric: bool) -> None:
    scale, zero = affine(torch.tensor(-0.5), torch.tensor(1.0), 3, symmetric)
    for gradient in ("identity", "clipped"):
        assert_equals_the_loop(torch.full(shape, 0.3), scale, zero, 3, symmetric, gradient)


@pytest.mark.parametrize("bits", WIDTHS)
def test_halves_go_to_the_even_neighbour_before_the_zero_point_is_added(bits: int) -> None:
    step, zero = torch.tensor(0.25), torch.tensor(1.0)  # an odd zero-point would turn the halves round
    low, high = limits(bits, False)
    steps = torch.arange(low - zero, high - zero, dtype=torch.float32)
    found = fake_quantize((steps + 0.5) * step, step, zero, bits) / step
    assert found.tolist() == [2.0 * round((k + 0.5) / 2) for k in steps.tolist()]


def test_zero_of_either_sign_stays_zero(symmetric: bool) -> None:
    scale, zero = affine(torch.tensor(-0.3), torch.tensor(0.9), 4, symmetric)
    zeros = torch.tensor([0.0, -0.0])
    assert torch.equal(fake_quantize(zeros, scale, zero, 4, symmetric), torch.zeros(2))


def test_infinities_take_the_ends_of_the_grid(symmetric: bool) -> None:
    scale, zero = affine(torch.tensor(-1.0), torch.tensor(2.0), 4, symmetric)
    ends = (torch.tensor(limits(4, symmetric)) - zero) * scale
    x = torch.tensor([-torch.inf, torch.inf])
    assert torch.equal(fake_quantize(x, scale, zero, 4, symmetric), ends)


# torch's own operators, which multiply by 1/s: inputs keep away from the halves --------------------------------


def off_the_halves(scale: Tensor, zero: Tensor, bits: int, symmetric: bool) -> Tensor:
    """(R, 40) values within 0.4 steps of a grid point, some outside the grid; scale, zero: (R,)."""
    low, high = limits(bits, symmetric)
    points = torch.randint(low - 4, high + 5, (len(scale), 40), generator=small.rng()) - zero[:, None]
    return (points + 0.8 * (small.rand(len(scale), 40) - 0.5)) * scale[:, None]


def grids(bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    low, high = -small.rand(5), 2 * small.rand(5, seed=1)
    return affine(low, high, bits, symmetric)


@pytest.mark.parametrize("bits", WIDTHS)
def test_equals_the_operators_of_torch(bits: int, symmetric: bool) -> None:
    scale, zero = grids(bits, symmetric)
    x = off_the_halves(scale, zero, bits, symmetric).requires_grad_()
    ends = limits(bits, symmetric)
    for axis, y in ((0, x), (1, x.t())):
        shape = (-1, 1) if axis == 0 else (1, -1)
        found = fake_quantize(y, scale.view(shape), zero.view(shape), bits, symmetric, "clipped")
        wanted = torch.fake_quantize_per_channel_affine(y, scale, zero.int(), axis, *ends)
        assert torch.equal(found, wanted)
        small.assert_same(*(torch.autograd.grad(v.square().sum(), x)[0] for v in (found, wanted)))
    row = x[1]
    found = fake_quantize(row, scale[1], zero[1], bits, symmetric, "clipped")
    assert torch.equal(
        found, torch.fake_quantize_per_tensor_affine(row, float(scale[1]), int(zero[1]), *ends)
    )


@pytest.mark.parametrize("bits", WIDTHS)
def test_equals_the_learnable_operators_of_torch(bits: int, symmetric: bool) -> None:
    scale, zero = grids(bits, symmetric)
    x = off_the_halves(scale, zero, bits, symmetric).requires_grad_()
    ends, factor = limits(bits, symmetric), 0.1
    step = scale.clone().requires_grad_()
    pairs = [
        (
            fake_quantize(x, step[:, None], zero[:, None], bits, symmetric, "clipped", factor),
            torch._fake_quantize_learnable_per_channel_affine(x, step, zero, 0, *ends, factor),
        ),
        (
            fake_quantize(x[2], step[2], zero[2], bits, symmetric, "clipped", factor),
            torch._fake_quantize_learnable_per_tensor_affine(x[2], step[2:3], zero[2:3], *ends, factor),
        ),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        ours, theirs = (torch.autograd.grad(v.square().sum(), (x, step)) for v in (found, wanted))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# Grids ----------------------------------------------------------------------------------------------------------

ENDS = torch.tensor(
    [[-1.0, 2.0], [-0.3, 0.1], [0.5, 2.0], [-3.0, -1.0], [0.0, 1.0], [-1.0, 0.0], [-1e-30, 1e-30], [-HUGE, HUGE]]
)  # fmt: skip


@pytest.mark.parametrize("bits", WIDTHS)
def test_grids_hold_zero_and_err_by_half_a_step_at_most(bits: int, symmetric: bool) -> None:
    more = torch.sort(small.randn(200, 2), dim=1).values
    low, high = torch.cat([ENDS, more]).unbind(1)
    scale, zero = affine(low, high, bits, symmetric)
    for a, b, s, z in zip(low.tolist(), high.tolist(), scale.tolist(), zero.tolist(), strict=True):
        step, _ = naive.grid_over(a, b, bits, symmetric)
        assert s == pytest.approx(step, rel=1e-6, abs=0)
        assert z == 0 if symmetric else abs(z + min(a, 0) / step) <= 0.5 + 1e-4  # may be halfway between two
    q_low, q_high = limits(bits, symmetric)
    assert ((zero >= q_low) & (zero <= q_high) & (zero == zero.round())).all()
    low, high = low.clamp_max(0), high.clamp_min(0)
    share = torch.linspace(0, 1, 101)
    inside = low[:, None] * (1 - share) + high[:, None] * share
    inside = torch.cat([inside, torch.zeros(len(low), 1)], dim=1)
    found = fake_quantize(inside, scale[:, None], zero[:, None], bits, symmetric)
    assert ((found - inside).abs() <= (0.5 + 1e-4) * scale[:, None]).all()
    assert (found[:, -1] == 0).all()


def test_both_grids_have_the_points_they_promise() -> None:
    for bits in WIDTHS:
        assert limits(bits, False) == (0, 2**bits - 1)
        assert limits(bits, True) == (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)


def test_an_empty_range_has_step_1(symmetric: bool) -> None:
    scale, zero = affine(torch.zeros(2), torch.zeros(2), 2, symmetric)
    assert scale.tolist() == [1, 1] and zero.tolist() == [0, 0]


# Activations ----------------------------------------------------------------------------------------------------


def activation(range_: str, bits: int = 4, **more: object) -> ActivationQuantizer:
    return ActivationQuantizer(bits, Scheme(activation_range=range_, **more))  # type: ignore[arg-type]


def tracked(quantizer: ActivationQuantizer, *batches: Tensor) -> ActivationQuantizer:
    quantizer.tracking = True
    for batch in batches:
        quantizer(batch)
    quantizer.tracking = False
    return quantizer


def assert_range(quantizer: ActivationQuantizer, low: float, high: float, rel: float = 1e-6) -> None:
    """The range, and the grid over it."""
    assert quantizer.low.item() == pytest.approx(low, rel=rel)
    assert quantizer.high.item() == pytest.approx(high, rel=rel)
    step, zero = naive.grid_over(low, high, quantizer.bits, quantizer.symmetric)
    assert quantizer.scale.item() == pytest.approx(step, rel=rel) and quantizer.zero.item() == zero


KINDS = ("ema", "minmax", "percentile", "mse", "learned")
BATCHES = [small.randn(3, 4, 5, seed=seed) * (1 + seed) for seed in range(3)]


def test_minmax_keeps_the_extremes_of_all_batches() -> None:
    quantizer = tracked(activation("minmax"), *BATCHES[::-1])
    every = torch.cat(BATCHES)
    assert_range(quantizer, every.min().item(), every.max().item())
    positive = tracked(activation("minmax"), BATCHES[0].abs() + 2)
    assert positive.low.item() > 2 and positive.zero.item() == 0  # the grid still reaches 0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_ema_is_the_bias_corrected_average(momentum: float) -> None:
    quantizer = activation("ema", momentum=momentum)
    ends = -small.rand(1000) - 0.1, small.rand(1000, seed=1) + 0.1
    quantizer.tracking = True
    for t, batch in enumerate(torch.stack(ends, 1), start=1):
        quantizer(batch)
        if t in (1, 2, 10, 150, 1000):
            low, high = (naive.moving_average(e[:t].tolist(), momentum) for e in ends)
            assert quantizer.low.item() == pytest.approx(low, rel=1e-5)
            assert quantizer.high.item() == pytest.approx(high, rel=1e-5)
    assert_range(quantizer, quantizer.low.item(), quantizer.high.item())


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.3])
def test_the_average_of_a_constant_is_the_constant(momentum: float) -> None:
    """To the last bit, from the first batch on."""
    quantizer, batch = activation("ema", momentum=momentum), torch.tensor([-0.37, 1.2345678])
    quantizer.tracking = True
    for t in range(1, 1001):
        quantizer(batch)
        if t in (1, 2, 10, 150, 1000):
            assert torch.equal(torch.stack([quantizer.low, quantizer.high]), batch), t


@pytest.mark.parametrize(
    ("values", "percentile", "low", "high"),
    [
        (list(range(1, 1001)), 99.0, 11.0, 990.0),
        (list(range(1, 1001)), 99.9, 2.0, 999.0),
        (list(range(1, 1001)), 100.0, 1.0, 1000.0),
        (list(range(-50, 51)), 90.0, -40.0, 40.0),
        ([3.0], 99.9, 3.0, 3.0),
        ([-2.0, 5.0], 99.9, -2.0, 5.0),
        ([4.0, -1.0, 7.0], 99.0, -1.0, 7.0),
    ],
)
def test_percentiles_cut_as_much_from_either_end(
    values: list[float], percentile: float, low: float, high: float
) -> None:
    shuffled = torch.tensor(values, dtype=torch.float32)[torch.randperm(len(values), generator=small.rng())]
    assert_range(tracked(activation("percentile", percentile=percentile), shuffled), low, high)


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_mse_is_the_best_of_the_shrunk_ranges(bits: int, symmetric: bool) -> None:
    rows = torch.cat([channels()[[0, 1, 2, 3, 4, 8]], small.randn(4, 8, seed=5) ** 3])
    low, high = shrunk_range(rows, bits, symmetric)
    for row, a, b in zip(rows.tolist(), low.tolist(), high.tolist(), strict=True):
        assert (a, b) == pytest.approx(naive.best_range(row, bits, symmetric), rel=1e-6)
        error, plain = (
            naive.square_error(row, *ends, bits, symmetric) for ends in ((a, b), (min(row), max(row)))
        )
        assert error <= plain * (1 + 1e-6)


def test_mse_ranges_of_batches_are_averaged() -> None:
    quantizer = tracked(activation("mse"), *BATCHES)
    found = [naive.best_range(b.flatten().tolist(), 4, False) for b in BATCHES]
    low, high = (naive.moving_average(list(ends), 0.9) for ends in zip(*found, strict=True))
    assert_range(quantizer, low, high, rel=1e-5)


def test_the_search_sees_all_columns_of_large_images() -> None:
    """A stride that divides the width would look at the first column only."""
    images = small.randn(64, 1, 128, 128)
    images[..., ::16] = 0
    images[0, 0, 0, 1] = 100
    low, high = shrunk_range(images.view(1, -1), 4, False)
    assert high < 50 and low < 0


def test_a_learned_step_starts_at_the_mse_range() -> None:
    learned, mse = (tracked(activation(kind), BATCHES[2]) for kind in ("learned", "mse"))
    small.assert_same(dict(learned.state_dict()), dict(mse.state_dict()))
    assert isinstance(learned.scale, torch.nn.Parameter) and not list(mse.parameters())
    assert torch.equal(learned(BATCHES[0]), mse(BATCHES[0]))


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_learned_step_gets_the_gradient_of_lsq(bits: int, gradient: str, symmetric: bool) -> None:
    """Its share is 1/sqrt(numbers of a sample * q_high)."""
    quantizer = activation("learned", bits, gradient=gradient, symmetric_activations=symmetric)
    tracked(quantizer, 0.7 * BATCHES[1])
    x = BATCHES[1].clone().requires_grad_()
    upstream = small.randn(*x.shape, seed=7)
    quantizer(x).backward(upstream)
    _, x_wanted, wanted = naive.fake_quantize(
        x.detach(), quantizer.scale.detach(), quantizer.zero, bits, symmetric, gradient, upstream
    )
    share = (20 * naive.grid_ends(bits, symmetric)[1]) ** -0.5
    assert torch.equal(x.grad, x_wanted)
    torch.testing.assert_close(quantizer.scale.grad.double(), share * wanted, rtol=1e-4, atol=1e-5)


def test_a_learned_step_stays_positive_whatever_the_optimiser_does() -> None:
    quantizer, x = tracked(activation("learned"), BATCHES[1]), BATCHES[1]
    wanted = quantizer(x).detach()
    with torch.no_grad():
        quantizer.scale.neg_()
    assert torch.equal(quantizer(x), wanted)
    with torch.no_grad():
        quantizer.scale.zero_()
    assert torch.isfinite(quantizer(x)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_identity_before_the_first_batch_and_frozen_after_tracking(kind: str) -> None:
    quantizer = activation(kind).train()
    x = BATCHES[0].clone().requires_grad_()
    assert torch.equal(quantizer(x), x)
    assert torch.autograd.grad(quantizer(x).sum(), x)[0].eq(1).all()
    tracked(quantizer, BATCHES[0])
    before = small.snapshot(quantizer)
    first = quantizer(BATCHES[0])
    assert len(first.unique()) <= 16 and not torch.equal(first, x)
    quantizer(100 * BATCHES[1])
    small.assert_same(small.snapshot(quantizer), before)
    assert torch.equal(quantizer(BATCHES[0]), first)


@pytest.mark.parametrize("kind", KINDS)
def test_state_goes_through_the_disk(kind: str) -> None:
    """Ready or not, frozen or tracked further, the restored one does the same to the bit."""
    for batches in ([], BATCHES[:2]):
        old, new = tracked(activation(kind), *batches), activation(kind)
        new.load_state_dict(small.reloaded(old.state_dict()), strict=True)
        again = copy.deepcopy(old)
        for quantizer in (new, again):
            assert quantizer.ready == old.ready == bool(batches)
            assert torch.equal(quantizer(BATCHES[2]), old(BATCHES[2]))
        for quantizer in (old, new, again):
            tracked(quantizer, BATCHES[2])
        small.assert_same(dict(new.state_dict()), dict(old.state_dict()))
        small.assert_same(dict(again.state_dict()), dict(old.state_dict()))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_changes_nothing(kind: str) -> None:
    quantizer = activation(kind)
    for batches, ready in (([], False), (BATCHES[:1], True)):
        tracked(quantizer, *batches)
        before = small.snapshot(quantizer)
        for shape in ((0, 4, 5), (3, 0)):
            assert tracked(quantizer, torch.zeros(shape))(torch.zeros(shape)).shape == shape
        small.assert_same(small.snapshot(quantizer), before)
        assert quantizer.ready == ready


# Weights --------------------------------------------------------------------------------------------------------


def weights(range_: str, **more: object) -> Scheme:
    return Scheme(weight_range=range_, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("kind", ["minmax", "mse"])
def test_weights_have_a_grid_an_output_channel(kind: str, axis: int, symmetric: bool) -> None:
    weight = small.randn(5, 4, 3, 2)
    quantizer = WeightQuantizer(3, weights(kind, symmetric_weights=symmetric), weight, axis)
    assert not list(quantizer.parameters()) and not quantizer.state_dict()
    scale, zero = quantizer.grid(weight)
    for values, s, z in zip(naive.rows(weight, axis), scale.tolist(), zero.tolist(), strict=True):
        ends = (min(values), max(values)) if kind == "minmax" else naive.best_range(values, 3, symmetric)
        step, point = naive.grid_over(*ends, 3, symmetric)
        assert s == pytest.approx(step, rel=1e-6) and z == point
    twice = quantizer.grid(2 * weight)  # follows the live weight
    assert torch.equal(twice[0], 2 * scale) and torch.equal(twice[1], zero)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", ["minmax", "mse", "learned"])
def test_the_integers_of_a_weight_are_what_is_computed_with(kind: str, bits: int, symmetric: bool) -> None:
    start = channels()[:, :, None, None] * 0.9
    start[6] = 1.0  # the loops of the search would overflow there
    scheme = weights(kind, symmetric_weights=symmetric)
    for axis, weight in ((0, start), (1, start.transpose(0, 1))):
        quantizer = WeightQuantizer(bits, scheme, weight, axis)
        moved = (weight + 0.1 * small.randn(*weight.shape, seed=3)).requires_grad_()
        q, scale, zero = quantizer.integers(moved)
        low, high = limits(bits, symmetric)
        assert q.dtype == zero.dtype == torch.int32 and q.shape == weight.shape
        assert low <= q.min() and q.max() <= high and not q.requires_grad and not scale.requires_grad
        view = [-1 if d == axis else 1 for d in range(4)]
        found = (q - zero.view(view)) * scale.view(view)
        assert torch.equal(found, quantizer(moved))
        assert max(len(set(row)) for row in naive.rows(found, axis)) <= high - low + 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gradient", ["identity", "clipped"])
def test_learned_weight_steps(gradient: str, axis: int, symmetric: bool) -> None:
    """They start at the mse range, stay while the weight moves, and get LSQ's gradient: 1/sqrt(numbers * q_high)."""
    weight = small.randn(6, 5, 3)
    learned, mse = (
        WeightQuantizer(4, weights(k, gradient=gradient, symmetric_weights=symmetric), weight, axis)
        for k in ("learned", "mse")
    )
    assert torch.equal(learned(weight), mse(weight))
    moved = (1.3 * weight).requires_grad_()
    upstream = small.randn(6, 5, 3, seed=4)
    learned(moved).backward(upstream)
    scale, zero = learned.grid(weight)
    assert torch.equal(scale, mse.grid(weight)[0])
    view = [-1 if d == axis else 1 for d in range(3)]
    value, wanted, step_wanted = naive.fake_quantize(
        moved.detach(), scale.detach().view(view), zero.view(view), 4, symmetric, gradient, upstream
    )
    assert torch.equal(learned(moved), value) and torch.equal(moved.grad, wanted)
    share = (weight.numel() / weight.shape[axis] * naive.grid_ends(4, symmetric)[1]) ** -0.5
    step_wanted = share * step_wanted.flatten()
    torch.testing.assert_close(learned.scale.grad.double(), step_wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        learned.scale.neg_()
    assert torch.equal(learned(moved), value)
    other = WeightQuantizer(4, dataclasses.replace(learned.scheme), torch.ones_like(weight), axis)
    other.load_state_dict(small.reloaded(learned.state_dict()))
    assert torch.equal(other(moved), value)


# Bits -----------------------------------------------------------------------------------------------------------


def test_bits_are_read_and_written() -> None:
    for k in WIDTHS:
        assert Bits.parse(f" W{k}a{10 - k} ") == Bits(k, 10 - k) and str(Bits(k, 10 - k)) == f"w{k}a{10 - k}"


@pytest.mark.parametrize(
    "text", ["w4", "w1a4", "w4a1", "w9a9", "4", "a4", "w4a4x", "", "w-4a4", "w4.0a4", "4w4a"]
)
def test_other_bits_are_errors_of_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^bits '.*': .*$") as error:
        Bits.parse(text)
    assert "\n" not in str(error.value) and repr(text) in str(error.value)
