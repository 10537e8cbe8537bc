"""Distances of unit vectors and the negative sampler."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.negatives import (
    BANDS,
    Band,
    log_inverse_density,
    same_label_pairs,
    sample_negatives,
    unit_distances,
)
from rgal.terms.relation import triplet
from tests.helpers import naive, small
from tests.helpers.relation_builders import LIMITS, by_pair, close_rows, exact, labels_of, pair_distances

# Pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[3, -1, 3, 3, -1, 7], [2, 2], [0, 1, 2], [5], []])
def test_pairs_are_those_of_the_loop(labels: list[int]) -> None:
    pairs = same_label_pairs(torch.tensor(labels, dtype=torch.int64))
    listed = [
        (a, int(p))
        for a in range(len(labels))
        for p, real in zip(pairs.columns[a], pairs.real[a], strict=True)
        if real
    ]
    assert listed == naive.positive_pairs(labels)
    assert pairs.columns.shape[1] == max((labels.count(label) for label in labels), default=0)


def test_pairs_of_another_device_have_a_size_that_does_not_depend_on_the_labels() -> None:
    pairs = same_label_pairs(torch.empty(5, dtype=torch.int64, device="meta"))
    assert pairs.columns.shape == pairs.real.shape == (5, 5)


@pytest.mark.parametrize("band", BANDS)
def test_a_pair_draws_by_the_random_number_of_its_row_and_column(band: str) -> None:
    """So that what is drawn does not depend on how many pairs there are."""
    rows, labels = close_rows(20, 10), labels_of(20, 4)
    whole = sample_negatives(rows, labels, BANDS[band], small.rng(3), draws=20).index
    table = by_pair(sample_negatives(rows, labels, BANDS[band], small.rng(3)))
    for a, p in naive.positive_pairs(labels.tolist()):
        assert table[a][p] == int(whole[a, p])


# Distances ------------------------------------------------------------------------------------------------------


def test_distances_equal_the_loop() -> None:
    rows, weight = small.randn(9, 5), small.rand(9, 9, seed=1)

    def slow(x: Tensor) -> Tensor:
        table = naive.distances(x)
        return sum(float(weight[i, j]) * table[i][j] for i in range(9) for j in range(9))

    small.assert_twins(lambda x: (pair_distances(x) * weight).sum(), slow, rows)


@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-3])
def test_distances_of_close_rows_keep_their_digits(apart: float) -> None:
    row = small.randn(64)
    rows = torch.stack([row, row + apart * small.randn(64, seed=1)])
    # float32 rows carry 6e-8 of rounding, which is what a distance can be right to.
    small.assert_twins(
        lambda x: pair_distances(x)[0, 1], lambda x: naive.distances(x)[0][1], rows, tolerance=3e-7 / apart
    )


def test_coincident_rows_are_at_zero_with_zero_gradient() -> None:
    row = small.randn(32)
    rows = torch.stack([row, row, -2 * row + 1]).requires_grad_()
    distance = pair_distances(rows)
    assert distance[0, 1] == 0 and (distance.diagonal() == 0).all()
    (gradient,) = torch.autograd.grad(distance[0, 1] + distance.diagonal().sum(), rows)
    assert torch.equal(gradient, torch.zeros_like(rows))


def test_antipodal_rows_are_at_two_with_finite_gradient() -> None:
    half = small.randn(50, 20)
    rows = torch.cat([half, -half]).requires_grad_()
    distance = pair_distances(rows)
    opposite = distance.diagonal(50)
    assert (distance <= 2).all()
    torch.testing.assert_close(opposite, torch.full_like(opposite, 2.0))
    (gradient,) = torch.autograd.grad(opposite.sum(), rows)
    assert torch.isfinite(gradient).all()


def test_the_gradient_of_distances_is_right_in_float64() -> None:
    rows = F.normalize(small.randn(7, 4).double(), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(unit_distances, rows, eps=1e-7, atol=1e-6)


def test_distances_ignore_autocast() -> None:
    rows = small.randn(8, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = pair_distances(rows)
    torch.testing.assert_close(inside, pair_distances(rows))


@pytest.mark.parametrize("dimension", [3, 10, 100, 1000])
def test_log_inverse_density_is_the_formula(dimension: int) -> None:
    distance = torch.linspace(0.7, 1.6, 10, dtype=torch.float64)
    values = log_inverse_density(distance, dimension)
    for d, value in zip(distance.tolist(), values.tolist(), strict=True):
        assert value == pytest.approx(-math.log(naive.density(d, dimension)), rel=1e-9)


@pytest.mark.parametrize(("d", "ten", "hundred"), [(0.5, 5.8, 71.1), (0.7, 3.3, 41.3), (1.0, 1.0, 14.0)])
def test_log_inverse_density_has_the_published_values(d: float, ten: float, hundred: float) -> None:
    distance = torch.tensor(d, dtype=torch.float64)
    assert float(log_inverse_density(distance, 10)) == pytest.approx(ten, abs=0.06)
    assert float(log_inverse_density(distance, 100)) == pytest.approx(hundred, abs=0.06)


def test_log_inverse_density_is_finite_at_both_ends() -> None:
    assert torch.isfinite(log_inverse_density(torch.tensor([0.0, 2.0], dtype=torch.float64), 100)).all()


# The sampler ----------------------------------------------------------------------------------------------------


def assert_follows(index: Tensor, probability: Tensor) -> None:
    """Every column's count lies within five standard deviations of its binomial; impossible ones never occur.

    The five counts on top are for rare columns, whose counts are Poisson rather than normal.
    """
    draws = index.shape[1]
    count = torch.stack([row.bincount(minlength=probability.shape[1]) for row in index]).double()
    assert (count[probability == 0] == 0).all()
    deviation = (count - draws * probability).abs()
    assert (deviation <= 5 * (draws * probability * (1 - probability)).sqrt() + 5).all()


@pytest.mark.parametrize("dimension", [4, 10, 40])
@pytest.mark.parametrize("band", BANDS)
def test_negatives_follow_the_exact_probabilities(band: str, dimension: int) -> None:
    rows, labels = close_rows(24, dimension), labels_of(24, 3)
    probability, exists, in_band = exact(rows, labels, band)
    negatives = sample_negatives(rows, labels, BANDS[band], small.rng(1), draws=20_000)
    assert torch.equal(negatives.exists, exists) and torch.equal(negatives.in_band, in_band)
    assert ((probability > 0).sum(1) > 1).any()
    assert_follows(negatives.index, probability)


def test_the_bands_differ_and_some_anchors_fall_back() -> None:
    """The cases of the distribution test are not vacuous."""
    rows, labels = close_rows(24, 10), labels_of(24, 3)
    probabilities = {band: exact(rows, labels, band) for band in BANDS}
    assert not torch.equal(probabilities["focal"][0], probabilities["distance"][0])
    assert probabilities["uniform"][2].all()
    share = probabilities["focal"][2].double().mean()
    assert 0.2 < share < 1


def test_negatives_are_of_another_label_and_inside_the_band() -> None:
    rows, labels = close_rows(60, 10, seed=3), labels_of(60, 7)
    distance = torch.tensor([[float(d) for d in row] for row in naive.distances(rows.double())])
    for name, band in BANDS.items():
        negatives = sample_negatives(rows, labels, band, small.rng(2), draws=50)
        assert (labels[negatives.index] != labels[:, None]).all()
        drawn = distance.gather(1, negatives.index)[negatives.in_band].clamp(min=LIMITS[name][2])
        assert ((drawn > LIMITS[name][0] - 1e-6) & (drawn < LIMITS[name][1] + 1e-6)).all()


def test_an_empty_band_means_uniform_over_other_labels() -> None:
    rows, labels = close_rows(20, 6), labels_of(20, 3)
    band = Band(low=1.9, high=1.95)
    negatives = sample_negatives(rows, labels, band, small.rng(), draws=20_000)
    assert not negatives.in_band.any() and negatives.exists.all()
    other = (labels[:, None] != labels[None, :]).double()
    assert_follows(negatives.index, other / other.sum(1, keepdim=True))


def underflow_case(n: int = 60, classes: int = 100) -> tuple[Tensor, Tensor]:
    """Each row has a same-label twin at a distance of 0.06, and all labels lie around one direction."""
    centres = 1.0 + 0.45 * small.randn(n // 2, classes)
    twins = torch.cat([centres, centres + 0.05 * small.randn(n // 2, classes, seed=1)])
    return twins, torch.arange(n // 2).repeat(2)


def test_a_close_same_label_neighbour_does_not_underflow_the_band() -> None:
    rows, labels = underflow_case()
    distance = pair_distances(rows).float()
    other = labels[:, None] != labels[None, :]
    # The case is the one that breaks the release: normalised by the row maximum, all in-band weights vanish.
    log_weight = log_inverse_density(distance + torch.eye(60), 100).float()
    inside = other & (distance > 0.5) & (distance < 1.0)
    released = (log_weight - log_weight.max(1, keepdim=True).values).exp() * inside
    assert inside.any(1).all() and (released.sum(1) == 0).all()
    negatives = sample_negatives(rows, labels, BANDS["focal"], small.rng(), draws=20_000)
    assert negatives.in_band.all()
    assert inside.gather(1, negatives.index).all()
    assert_follows(negatives.index, exact(rows, labels, "focal")[0])


def test_antipodal_embeddings_are_drawn_without_nan() -> None:
    rows = torch.cat([small.randn(8, 10)] * 2)
    rows[8:] *= -1
    labels = torch.arange(2).repeat_interleave(8)
    for band in BANDS.values():
        negatives = sample_negatives(rows, labels, band, small.rng(), draws=100)
        assert (labels[negatives.index] != labels[:, None]).all()


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-24, 1.0])
def test_extreme_random_numbers_stay_on_negatives(extreme: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, extreme))
    rows, labels = close_rows(24, 10), labels_of(24, 3)
    for band in BANDS.values():
        negatives = sample_negatives(rows, labels, band, small.rng())
        assert (labels[negatives.index] != labels[:, None]).all()


@pytest.mark.parametrize(
    ("labels", "exist"),
    [
        ([3] * 6, [False] * 6),
        ([0], [False]),
        (list(range(6)), [True] * 6),
        ([0, 0, 1, 1, 1, 2, 2], [True] * 7),
    ],
    ids=["one label", "one sample", "all distinct", "uneven"],
)
def test_batches_of_any_make_up(labels: list[int], exist: list[bool]) -> None:
    rows, y = close_rows(len(labels), 10), torch.tensor(labels)
    for band in BANDS.values():
        negatives = sample_negatives(rows, y, band, small.rng())
        assert negatives.index.shape == (len(y), max(labels.count(label) for label in labels))
        assert negatives.exists.tolist() == exist
        assert ((negatives.index >= 0) & (negatives.index < len(y))).all()
        drawn_other = y[negatives.index] != y[:, None]
        assert drawn_other[negatives.exists].all()
        assert not negatives.in_band[~negatives.exists].any()
        leaf = rows.clone().requires_grad_()
        loss = triplet([leaf], negatives, "gather")
        expected = naive.triplet([rows.double()], labels, by_pair(negatives), "gather", 0.2)
        assert loss.item() == pytest.approx(float(expected), abs=1e-5)
        loss.backward()
        assert torch.isfinite(leaf.grad).all()


def test_sampling_depends_on_the_generator_alone() -> None:
    rows, labels = close_rows(30, 10), labels_of(30, 4)
    torch.manual_seed(1)
    first = sample_negatives(rows, labels, BANDS["focal"], small.rng(5)).index
    torch.manual_seed(2)
    assert torch.equal(first, sample_negatives(rows, labels, BANDS["focal"], small.rng(5)).index)
    assert not torch.equal(first, sample_negatives(rows, labels, BANDS["focal"], small.rng(6)).index)


def test_sampling_leaves_no_graph_and_ignores_scale() -> None:
    rows, labels = close_rows(30, 10), labels_of(30, 4)
    leaf = rows.clone().requires_grad_()
    negatives = sample_negatives(leaf, labels, BANDS["distance"], small.rng())
    assert not any(x.requires_grad for x in (negatives.index, negatives.exists, negatives.in_band))
    larger = sample_negatives(8 * rows, labels, BANDS["distance"], small.rng())
    assert torch.equal(negatives.index, larger.index)
