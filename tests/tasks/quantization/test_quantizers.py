"""How the ranges of activations and weights are actual; against the loops in naive_quant.py."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from rgal.tasks.quantization.fake_quant import limits, mse_range
from rgal.tasks.quantization.quantizers import ActivationQuantizer, WeightQuantizer
from rgal.tasks.quantization.scheme import WIDTHS, Scheme
from tests.helpers import naive_quant, small
from tests.helpers.quant_builders import channels

# Activations ----------------------------------------------------------------------------------------------------


def activation(range_: str, bits: int = 4, **more: object) -> ActivationQuantizer:
    return ActivationQuantizer(bits, Scheme(activation_range=range_, **more))  # type: ignore[arg-type]


def calibrated(quantizer: ActivationQuantizer, *batches: Tensor) -> ActivationQuantizer:
    quantizer.calibrating = True
    for batch in batches:
        quantizer(batch)
    quantizer.calibrating = False
    return quantizer


def assert_range(quantizer: ActivationQuantizer, low: float, high: float, rel: float = 1e-6) -> None:
    """Check the range, and the scale and zero-point that cover it."""
    assert quantizer.low.item() == pytest.approx(low, rel=rel)
    assert quantizer.high.item() == pytest.approx(high, rel=rel)
    scale, zero_point = naive_quant.qparams_over(low, high, quantizer.bits, quantizer.symmetric)
    assert quantizer.scale.item() == pytest.approx(scale, rel=rel)
    assert quantizer.zero.item() == zero_point


KINDS = ("ema", "minmax", "percentile", "mse", "learned")
BATCHES = [small.randn(3, 4, 5, seed=seed) * (1 + seed) for seed in range(3)]


def test_update_range_minmax_keeps_the_extremes_of_all_batches() -> None:
    quantizer = calibrated(activation("minmax"), *BATCHES[::-1])
    every = torch.cat(BATCHES)
    assert_range(quantizer, every.min().item(), every.max().item())
    positive = calibrated(activation("minmax"), BATCHES[0].abs() + 2)
    assert positive.low.item() > 2 and positive.zero.item() == 0  # 0 is covered still


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_update_range_ema_is_the_bias_corrected_average(momentum: float) -> None:
    quantizer = activation("ema", momentum=momentum)
    ends = -small.rand(1000) - 0.1, small.rand(1000, seed=1) + 0.1
    quantizer.calibrating = True
    for t, batch in enumerate(torch.stack(ends, 1), start=1):
        quantizer(batch)
        if t in (1, 2, 10, 150, 1000):
            low, high = (naive_quant.moving_average(e[:t].tolist(), momentum) for e in ends)
            assert quantizer.low.item() == pytest.approx(low, rel=1e-5)
            assert quantizer.high.item() == pytest.approx(high, rel=1e-5)
    assert_range(quantizer, quantizer.low.item(), quantizer.high.item())


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.3])
def test_update_range_average_of_a_constant_is_the_constant(momentum: float) -> None:
    """To the last bit, from the first batch on."""
    quantizer, batch = activation("ema", momentum=momentum), torch.tensor([-0.37, 1.2345678])
    quantizer.calibrating = True
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
def test_update_range_percentiles_cut_as_much_from_either_end(
    values: list[float], percentile: float, low: float, high: float
) -> None:
    shuffled = torch.tensor(values, dtype=torch.float32)[torch.randperm(len(values), generator=small.rng())]
    assert_range(calibrated(activation("percentile", percentile=percentile), shuffled), low, high)


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_mse_range_is_the_best_of_the_shrunk_ranges(bits: int, symmetric: bool) -> None:
    rows = torch.cat([channels()[[0, 1, 2, 3, 4, 8]], small.randn(4, 8, seed=5) ** 3])
    low, high = mse_range(rows, bits, symmetric)
    for row, a, b in zip(rows.tolist(), low.tolist(), high.tolist(), strict=True):
        assert (a, b) == pytest.approx(naive_quant.best_range(row, bits, symmetric), rel=1e-6)
        error, plain = (
            naive_quant.square_error(row, *ends, bits, symmetric) for ends in ((a, b), (min(row), max(row)))
        )
        assert error <= plain * (1 + 1e-6)


def test_update_range_mse_of_batches_is_averaged() -> None:
    quantizer = calibrated(activation("mse"), *BATCHES)
    ranges = [naive_quant.best_range(b.flatten().tolist(), 4, False) for b in BATCHES]
    low, high = (naive_quant.moving_average(list(ends), 0.9) for ends in zip(*ranges, strict=True))
    assert_range(quantizer, low, high, rel=1e-5)


def test_mse_range_samples_all_columns_of_large_images() -> None:
    """A stride that divides the width would look at the first column only."""
    images = small.randn(64, 1, 128, 128)
    images[..., ::16] = 0
    images[0, 0, 0, 1] = 100
    low, high = mse_range(images.view(1, -1), 4, False)
    assert high < 50 and low < 0


def test_activation_learned_scale_starts_at_the_mse_range() -> None:
    learned, mse = (calibrated(activation(kind), BATCHES[2]) for kind in ("learned", "mse"))
    small.assert_same(dict(learned.state_dict()), dict(mse.state_dict()))
    assert isinstance(learned.scale, torch.nn.Parameter) and not list(mse.parameters())
    assert torch.equal(learned(BATCHES[0]), mse(BATCHES[0]))


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_activation_learned_scale_gets_the_gradient_of_lsq(bits: int, gradient: str, symmetric: bool) -> None:
    """Its share is 1/sqrt(numbers of a sample * q_high)."""
    quantizer = activation("learned", bits, gradient=gradient, symmetric_activations=symmetric)
    calibrated(quantizer, 0.7 * BATCHES[1])
    x = BATCHES[1].clone().requires_grad_()
    upstream = small.randn(*x.shape, seed=7)
    quantizer(x).backward(upstream)
    _, x_wanted, wanted = naive_quant.fake_quantize(
        x.detach(), quantizer.scale.detach(), quantizer.zero, bits, symmetric, gradient, upstream
    )
    share = (20 * naive_quant.integer_limits(bits, symmetric)[1]) ** -0.5
    assert torch.equal(x.grad, x_wanted)
    torch.testing.assert_close(quantizer.scale.grad.double(), share * wanted, rtol=1e-4, atol=1e-5)


def test_activation_learned_scale_stays_positive_whatever_the_optimiser_does() -> None:
    quantizer, x = calibrated(activation("learned"), BATCHES[1]), BATCHES[1]
    wanted = quantizer(x).detach()
    with torch.no_grad():
        quantizer.scale.neg_()
    assert torch.equal(quantizer(x), wanted)
    with torch.no_grad():
        quantizer.scale.zero_()
    assert torch.isfinite(quantizer(x)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_activation_is_an_identity_before_calibration_and_frozen_after(kind: str) -> None:
    quantizer = activation(kind).train()
    x = BATCHES[0].clone().requires_grad_()
    assert torch.equal(quantizer(x), x)
    assert torch.autograd.grad(quantizer(x).sum(), x)[0].eq(1).all()
    calibrated(quantizer, BATCHES[0])
    before = small.snapshot(quantizer)
    first = quantizer(BATCHES[0])
    assert len(first.unique()) <= 16 and not torch.equal(first, x)
    quantizer(100 * BATCHES[1])
    small.assert_same(small.snapshot(quantizer), before)
    assert torch.equal(quantizer(BATCHES[0]), first)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_state_goes_through_the_disk(kind: str) -> None:
    """Ready or not, frozen or calibrated further, the restored one does the same to the bit."""
    for batches in ([], BATCHES[:2]):
        old, new = calibrated(activation(kind), *batches), activation(kind)
        new.load_state_dict(small.reloaded(old.state_dict()), strict=True)
        again = copy.deepcopy(old)
        for quantizer in (new, again):
            assert quantizer.ready == old.ready == bool(batches)
            assert torch.equal(quantizer(BATCHES[2]), old(BATCHES[2]))
        for quantizer in (old, new, again):
            calibrated(quantizer, BATCHES[2])
        small.assert_same(dict(new.state_dict()), dict(old.state_dict()))
        small.assert_same(dict(again.state_dict()), dict(old.state_dict()))


@pytest.mark.parametrize("kind", KINDS)
def test_update_range_ignores_an_empty_batch(kind: str) -> None:
    quantizer = activation(kind)
    for batches, ready in (([], False), (BATCHES[:1], True)):
        calibrated(quantizer, *batches)
        before = small.snapshot(quantizer)
        for shape in ((0, 4, 5), (3, 0)):
            assert calibrated(quantizer, torch.zeros(shape))(torch.zeros(shape)).shape == shape
        small.assert_same(small.snapshot(quantizer), before)
        assert quantizer.ready == ready


# Weights --------------------------------------------------------------------------------------------------------


def weights(range_: str, **more: object) -> Scheme:
    return Scheme(weight_range=range_, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("kind", ["minmax", "mse"])
def test_weight_qparams_are_those_of_each_output_channel(kind: str, axis: int, symmetric: bool) -> None:
    weight = small.randn(5, 4, 3, 2)
    quantizer = WeightQuantizer(3, weights(kind, symmetric_weights=symmetric), weight, axis)
    assert not list(quantizer.parameters()) and not quantizer.state_dict()
    scale, zero_point = quantizer.qparams(weight)
    for values, s, z in zip(naive_quant.rows(weight, axis), scale.tolist(), zero_point.tolist(), strict=True):
        ends = (
            (min(values), max(values)) if kind == "minmax" else naive_quant.best_range(values, 3, symmetric)
        )
        expected_scale, expected_zero = naive_quant.qparams_over(*ends, 3, symmetric)
        assert s == pytest.approx(expected_scale, rel=1e-6) and z == expected_zero
    twice = quantizer.qparams(2 * weight)  # follows the live weight
    assert torch.equal(twice[0], 2 * scale) and torch.equal(twice[1], zero_point)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", ["minmax", "mse", "learned"])
def test_weight_integers_are_what_is_computed_with(kind: str, bits: int, symmetric: bool) -> None:
    start = channels()[:, :, None, None] * 0.9
    start[6] = 1.0  # the loops of the search would overflow there
    scheme = weights(kind, symmetric_weights=symmetric)
    for axis, weight in ((0, start), (1, start.transpose(0, 1))):
        quantizer = WeightQuantizer(bits, scheme, weight, axis)
        moved = (weight + 0.1 * small.randn(*weight.shape, seed=3)).requires_grad_()
        q, scale, zero_point = quantizer.integers(moved)
        low, high = limits(bits, symmetric)
        assert q.dtype == zero_point.dtype == torch.int32 and q.shape == weight.shape
        assert low <= q.min() and q.max() <= high and not q.requires_grad and not scale.requires_grad
        view = [-1 if d == axis else 1 for d in range(4)]
        values = (q - zero_point.view(view)) * scale.view(view)
        assert torch.equal(values, quantizer(moved))
        assert max(len(set(row)) for row in naive_quant.rows(values, axis)) <= high - low + 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gradient", ["identity", "clipped"])
def test_weight_learned_scales(gradient: str, axis: int, symmetric: bool) -> None:
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
    scale, zero_point = learned.qparams(weight)
    assert torch.equal(scale, mse.qparams(weight)[0])
    view = [-1 if d == axis else 1 for d in range(3)]
    value, wanted, scale_wanted = naive_quant.fake_quantize(
        moved.detach(), scale.detach().view(view), zero_point.view(view), 4, symmetric, gradient, upstream
    )
    assert torch.equal(learned(moved), value) and torch.equal(moved.grad, wanted)
    share = (weight.numel() / weight.shape[axis] * naive_quant.integer_limits(4, symmetric)[1]) ** -0.5
    scale_wanted = share * scale_wanted.flatten()
    torch.testing.assert_close(learned.scale.grad.double(), scale_wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        learned.scale.neg_()
    assert torch.equal(learned(moved), value)
    other = WeightQuantizer(4, dataclasses.replace(learned.scheme), torch.ones_like(weight), axis)
    other.load_state_dict(small.reloaded(learned.state_dict()))
    assert torch.equal(other(moved), value)
