"""Classifiers made of class statistics: vectors of the authors' own functions, twins, and what must not break."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.tasks.class_incremental.scoring import (
    Mahalanobis,
    NearestMean,
    Ridge,
    ScoredNet,
    correlation,
    products,
    shrunk,
    unbiased,
)
from rgal.tasks.class_incremental.statistics import ClassStatistics, Collecting, add_classes
from tests.helpers import naive_statistics_learners as slow
from tests.helpers import small
from tests.helpers.two_phase_builders import STILL, Tiny

ROWS = torch.tensor([
    [1.0, 4, 9], [4, 4, 16], [4, 9, 25], [9, 16, 16], [9, 1, 1], [16, 4, 1], [25, 4, 9], [16, 9, 4]
])  # fmt: skip
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
QUERIES = torch.tensor([[4.0, 9, 16], [16, 4, 4], [9, 9, 9]])
GAUSSIAN = ("means", "covariances", "counts")
FECAM, ADAGAUSS = Mahalanobis(0.5, (1, 1), 2), Mahalanobis()


def kept_of(rows: Tensor, labels: Tensor, *keep: str, power: float = 1.0, parts: int = 1) -> ClassStatistics:
    """Of classes that come in this many phases, equally many in each."""
    classes, kept = int(labels.max()) + 1, ClassStatistics()
    for part in range(parts):
        own = range(part * classes // parts, (part + 1) * classes // parts)
        mine = (labels >= own.start) & (labels < own.stop)
        kept = add_classes(kept, rows[mine], labels[mine], own, Collecting(keep, power))  # type: ignore[arg-type]
    return kept


def close(found: Tensor, expected: object, digits: float = 1e-5) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=digits)


# The Gaussian score ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classifier", "expected"),
    [
        (FECAM, [[0.00333, 0.99247], [0.81032, 0.00156], [0.15030, 0.32140]]),
        (ADAGAUSS, [[0.00340, 1.28397], [1.02115, 0.00097], [0.22741, 0.45815]]),
    ],
)
def test_distances_are_those_of_the_authors_functions(classifier: Mahalanobis, expected: object) -> None:
    kept = kept_of(ROWS, LABELS, *GAUSSIAN, power=classifier.power)
    found = classifier.fitted(kept, 0)(QUERIES)
    close(-found, expected, 1.1e-5)
    assert found.dtype == torch.float64 and classifier.linear(kept) is None
    twins = [
        [
            slow.mahalanobis(
                x, kept.means[c], ROWS[c == LABELS], classifier.power, classifier.shrink, classifier.times
            )
            for c in (0, 1)
        ]
        for x in QUERIES
    ]
    close(-found, twins, 1e-5)


def test_what_the_score_is_made_of() -> None:
    kept = kept_of(ROWS, LABELS, *GAUSSIAN, power=0.5)
    close(kept.means, [[4.5, 8.25, 16.5], [16.5, 4.5, 3.75]])
    covariance = unbiased(kept.covariances.double(), kept.counts)[0]
    close(covariance, [[0.66667, 0.66667, 0.33333], [0.66667, 0.91667, 0.33333], [0.33333, 0.33333, 0.66667]])
    twice = shrunk(shrunk(covariance, 1, 1), 1, 1)
    close(twice, [[2.91667, 2, 1.66667], [2, 3.16667, 1.66667], [1.66667, 1.66667, 2.91667]])
    close(twice, shrunk(covariance, 3, 3))  # where no entry is 0
    close(correlation(twice)[0], [1, 0.65809, 0.57143])


def test_zeros_are_no_part_of_the_mean_covariance() -> None:
    s = torch.tensor([[1 / 3, 1 / 6, 0], [1 / 6, 1 / 4, 1 / 6], [0, 1 / 6, 1 / 3]], dtype=torch.float64)
    once = [[0.63889, 0.33333, 0.16667], [0.33333, 0.55556, 0.33333], [0.16667, 0.33333, 0.63889]]
    close(shrunk(s, 1, 1), once)
    close(slow.shrink(s, 1, 1), once)
    twice = shrunk(shrunk(s, 1, 1), 1, 1)
    close(twice.diagonal(), [1.25, 1.16667, 1.25])
    close(twice[0], [1.25, 0.61111, 0.44444])
    close(shrunk(torch.eye(3, dtype=torch.float64) / 3, 1, 1), torch.eye(3) * 2 / 3)  # FeCAM's code: 0/0


@pytest.mark.parametrize("classifier", [FECAM, ADAGAUSS])
@pytest.mark.parametrize("each", [1, 2, 20])
def test_dead_features_and_few_images_give_finite_scores(classifier: Mahalanobis, each: int) -> None:
    """Features that are 0 in all of a class, a class without spread, fewer images than features."""
    labels = torch.arange(3).repeat(each)
    rows = small.rand(len(labels), 8) + labels[:, None]
    rows[:, :2], rows[labels == 1] = 0, 1.0
    kept = kept_of(rows, labels, *GAUSSIAN, power=classifier.power)
    assert torch.isfinite(classifier.fitted(kept, 0)(rows)).all()


def test_a_power_is_refused_for_features_of_both_signs() -> None:
    with pytest.raises(UserError, match=r"power=0.5: the network's features are negative in places"):
        kept_of(small.randn(4, 3), torch.tensor([0, 0, 1, 1]), *GAUSSIAN, power=0.5)


# Nearest mean ---------------------------------------------------------------------------------------------------


def test_the_nearest_mean_is_that_of_unit_vectors_and_linear() -> None:
    kept = kept_of(ROWS, LABELS, "means")
    found = NearestMean().fitted(kept, 0)(QUERIES)
    for x, scores in zip(QUERIES, found, strict=True):
        far = [float((x / x.norm() - m / m.norm()).norm()) for m in kept.means]
        assert int(scores.argmax()) == far.index(min(far))
    rows = NearestMean().linear(kept)
    assert torch.equal((QUERIES @ rows.T).argmax(1), found.argmax(1))


# Ridge ----------------------------------------------------------------------------------------------------------

FIRST = (torch.tensor([[1.0, 0], [0, 1], [1, 1]]), [0, 1, 1])
SECOND = (torch.tensor([[2.0, 1], [0, 2]]), [2, 2])


def collected(*phases: tuple[Tensor, list[int]], ridge: Ridge, seed: int = 0) -> ClassStatistics:
    kept, start = ClassStatistics(), 0
    for rows, labels in phases:
        own = range(start, max(labels) + 1)
        how = Collecting(("gram", "cross"), inputs=lambda x: ridge.inputs(x, seed))
        kept, start = add_classes(kept, rows, torch.tensor(labels), own, how), own.stop
    return kept


def test_ridge_by_hand() -> None:
    ridge = Ridge(0.5)
    close(ridge.weight(collected(FIRST, ridge=ridge)), [[0.47619, 0.09524], [-0.19048, 0.76190]])
    kept = collected(FIRST, SECOND, ridge=ridge)
    close(kept.gram, [[6, 3], [3, 7]])
    close(kept.cross, [[1, 1, 2], [0, 2, 3]])
    expected = [[0.18868, 0.03774, 0.15094], [-0.07547, 0.25157, 0.33962]]
    close(ridge.weight(kept), expected)
    close(slow.recursive_ridge([FIRST, SECOND], 0.5)[0], expected)
    close(slow.recursive_ridge([FIRST, SECOND], 0.5)[1], [[0.18868, -0.07547], [-0.07547, 0.16352]])


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("expand", [0, 64])
def test_sums_solved_once_are_the_release_s_recursion(expand: int, size: int) -> None:
    """Whatever the batches of the recursion, in float64."""
    ridge = Ridge(0.1, expand)
    labels = torch.arange(6).repeat_interleave(7)
    rows = small.randn(42, 5) + labels[:, None]
    phases = [(rows[part], labels[part].tolist()) for part in (slice(0, 14), slice(14, 42))]
    kept = collected(*phases, ridge=ridge, seed=3)
    assert kept.gram.dtype == kept.cross.dtype == torch.float64
    pieces = [
        (ridge.inputs(rows[i : i + size], 3), labels[i : i + size].tolist()) for i in range(0, 42, size)
    ]
    weight, _ = slow.recursive_ridge(pieces, 0.1)
    torch.testing.assert_close(ridge.weight(kept), weight, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        ridge.fitted(kept, 3)(rows), ridge.inputs(rows, 3) @ weight, rtol=1e-6, atol=1e-6
    )


def test_means_covariances_and_counts_are_enough_for_a_ridge() -> None:
    ridge = Ridge(2.0, unit=True)
    labels = torch.arange(4).repeat(9)
    rows = small.randn(36, 5) + labels[:, None]
    gaussian = kept_of(rows, labels, *GAUSSIAN, parts=2)
    sums = collected((rows, labels.tolist()), ridge=ridge)
    for found, expected in zip(products(gaussian), (sums.gram, sums.cross), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    weight = ridge.weight(gaussian)
    torch.testing.assert_close(weight, ridge.weight(sums), rtol=1e-5, atol=1e-5)
    close(weight.norm(dim=0), torch.ones(4))
    assert torch.equal(ridge.linear(gaussian), weight.T) and Ridge(1.0, expand=4).linear(sums) is None


def test_random_features_are_the_runs_own() -> None:
    ridge, x = Ridge(1.0, expand=300), small.randn(4, 9)
    first = ridge.inputs(x, 1)
    assert torch.equal(first, ridge.inputs(x, 1)) and not torch.equal(first, ridge.inputs(x, 2))
    assert first.shape == (4, 300) and first.min() == 0
    unit = ridge.inputs(torch.eye(9), 1)
    assert unit.max() <= 1 / 3 and unit.max() > 0.3  # uniform in +-1/sqrt(9), those below 0 cut off


# In front of the test images ------------------------------------------------------------------------------------


def test_a_scored_net_answers_by_the_statistics_in_float64_whatever_the_precision() -> None:
    net, x = Tiny(3).eval(), small.randn(6, *STILL.shape)
    kept = kept_of(net.feature(x).detach(), torch.tensor([0, 0, 1, 1, 2, 2]), "means")
    shown = ScoredNet(net, NearestMean().fitted(kept, 0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = shown(x)
    with torch.no_grad():
        exact = shown(x)
    assert exact.dtype == rounded.dtype == torch.float64 and exact.shape == (6, 3)
    torch.testing.assert_close(exact, rounded, rtol=0.05, atol=0.05)
    assert isinstance(shown, nn.Module) and not any(m._forward_pre_hooks for m in net.modules())
