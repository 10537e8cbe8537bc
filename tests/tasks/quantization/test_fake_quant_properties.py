"""Laws of fake quantization for any range, width and scheme."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rgal.tasks.quantization.fake_quant import choose_qparams, fake_quantize, limits, mse_range
from tests.helpers import small

ENDS = st.floats(-1e4, 1e4, width=32)
QUANTIZERS = {
    "low": ENDS,
    "high": ENDS,
    "bits": st.integers(2, 8),
    "symmetric": st.booleans(),
    "seed": st.integers(0, 99),
}


def quantizer(
    low: float, high: float, bits: int, symmetric: bool, seed: int
) -> tuple[Tensor, dict[str, Any]]:
    """Sorted values in and around the range, and the arguments that quantize to it."""
    low, high = min(low, high), max(low, high)
    scale, zero_point = choose_qparams(torch.tensor(low), torch.tensor(high), bits, symmetric)
    width = max(high, 0.0) - min(low, 0.0)
    values = min(low, 0.0) + (2 * small.rand(64, seed=seed) - 0.5) * max(width, 1e-3)
    return values.sort().values, {
        "scale": scale,
        "zero_point": zero_point,
        "bits": bits,
        "symmetric": symmetric,
    }


@given(**QUANTIZERS)
def test_fake_quantize_keeps_order_and_representable_values(**drawn: Any) -> None:
    values, options = quantizer(**drawn)
    rounded = fake_quantize(values, **options)
    assert (rounded.diff() >= 0).all()
    assert torch.equal(fake_quantize(rounded, **options), rounded)
    assert len(rounded.unique()) <= 2 ** options["bits"]
    assert fake_quantize(torch.zeros(1), **options).item() == 0


@given(**QUANTIZERS)
def test_fake_quantize_has_ends_and_moves_by_half_a_scale_at_most(**drawn: Any) -> None:
    values, options = quantizer(**drawn)
    rounded, scale = fake_quantize(values, **options), options["scale"]
    low, high = (
        scale * (end - options["zero_point"]) for end in limits(options["bits"], options["symmetric"])
    )
    assert (rounded >= low).all() and (rounded <= high).all()
    inside = (values >= low) & (values <= high)
    assert ((rounded - values).abs() <= scale * 0.50001 + values.abs() * 1e-6)[inside].all()
    assert torch.equal(rounded[values < low - scale], low.expand(int((values < low - scale).sum())))


@given(**QUANTIZERS)
def test_choose_qparams_makes_the_range_representable(**drawn: Any) -> None:
    """Up to half a scale, by which rounding the zero-point may shift the range."""
    _, options = quantizer(**drawn)
    for end in (min(drawn["low"], drawn["high"]), max(drawn["low"], drawn["high"])):
        error = abs(fake_quantize(torch.tensor([end]), **options).item() - end)
        assert error <= options["scale"].item() * 0.50001 + abs(end) * 1e-6


@given(bits=st.integers(2, 8), seed=st.integers(0, 99), high=st.floats(0.125, 1e4, width=32))
def test_fake_quantize_symmetric_is_an_odd_function(bits: int, seed: int, high: float) -> None:
    values, options = quantizer(-high, high, bits, True, seed)
    assert torch.equal(fake_quantize(-values, **options), -fake_quantize(values, **options))


@given(bits=st.integers(2, 6), symmetric=st.booleans(), seed=st.integers(0, 99))
def test_mse_range_is_no_worse_than_the_whole(bits: int, symmetric: bool, seed: int) -> None:
    rows = small.randn(3, 40, seed=seed) ** 3

    def error(low: Tensor, high: Tensor) -> Tensor:
        scale, zero_point = choose_qparams(low, high, bits, symmetric)
        return (
            (fake_quantize(rows, scale[:, None], zero_point[:, None], bits, symmetric) - rows)
            .square()
            .mean(1)
        )

    low, high = mse_range(rows, bits, symmetric)
    assert (error(low, high) <= error(rows.amin(1), rows.amax(1))).all()
    assert (low >= rows.amin(1)).all() and (high <= rows.amax(1)).all()
