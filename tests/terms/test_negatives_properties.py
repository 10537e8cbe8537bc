"""The negative sampler on any batch: what may be drawn, and how often."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rgal.terms.negatives import BANDS, sample_negatives, unit_distances
from tests.helpers import small
from tests.helpers.relation_builders import close_rows, exact, labels_of

BATCHES = {
    "n": st.integers(1, 12),
    "dimension": st.integers(2, 120),
    "classes": st.integers(1, 5),
    "scale": st.sampled_from([1e-3, 1.0, 1e3]),
    "band": st.sampled_from(sorted(BANDS)),
    "seed": st.integers(0, 999),
}


@given(**BATCHES, draws=st.integers(1, 9), masked=st.booleans())
def test_every_draw_is_admissible(
    n: int, dimension: int, classes: int, scale: float, band: str, seed: int, draws: int, masked: bool
) -> None:
    """Of another label, of those that may be drawn at all, and inside the band where the anchor has anyone there."""
    rows, labels, limits = scale * close_rows(n, dimension, seed), labels_of(n, classes, seed), BANDS[band]
    among = small.rand(n, n, seed=seed) < 0.5 if masked else None
    negatives = sample_negatives(rows, labels, limits, small.rng(seed), draws, among)
    other = (labels[:, None] != labels) & (torch.ones(n, n, dtype=torch.bool) if among is None else among)
    distance = unit_distances(F.normalize(rows, dim=1)).clamp(min=limits.clamp)
    inside = other & (distance > limits.low) & (distance < limits.high)
    assert negatives.index.shape == (n, draws)
    assert negatives.index.min() >= 0 and negatives.index.max() < n
    assert torch.equal(negatives.exists, other.any(1)) and torch.equal(negatives.in_band, inside.any(1))
    assert other.gather(1, negatives.index)[negatives.exists].all()
    assert inside.gather(1, negatives.index)[negatives.in_band].all()


@settings(max_examples=15)
@given(
    n=st.integers(2, 6),
    dimension=st.integers(3, 12),
    band=st.sampled_from(sorted(BANDS)),
    seed=st.integers(0, 99),
)
def test_draws_are_as_frequent_as_the_loop_says(n: int, dimension: int, band: str, seed: int) -> None:
    rows, labels, draws = close_rows(n, dimension, seed), labels_of(n, 3, seed), 4000
    expected, exists, _ = exact(rows, labels, band)
    negatives = sample_negatives(rows, labels, BANDS[band], small.rng(seed), draws)
    drawn = F.one_hot(negatives.index, n).double().mean(1)[exists]
    deviation = (expected * (1 - expected) / draws).sqrt()[exists]
    assert ((drawn - expected[exists]).abs() <= 5 * deviation + 1e-9).all()
