"""Statistics that follow the extractor: vectors, twins, and that nothing moves where the extractor has not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rgal.tasks.class_incremental.compensation import (
    AttackDrift,
    Compensation,
    KernelDrift,
    LearntDrift,
    LinearDrift,
    MappedDrift,
    Shift,
    covariance_root,
)
from rgal.tasks.class_incremental.scoring import Ridge
from rgal.tasks.class_incremental.statistics import ClassStatistics, Collecting, add_classes
from tests.helpers import naive_statistics_learners as slow
from tests.helpers import small

OLD = torch.tensor([[1.0, 0], [0, 1], [1, 1], [2, 1]])
MATRIX = torch.tensor([[1.0, 0.5], [-0.5, 2]])
NEW = OLD @ MATRIX.T
NOISY = NEW + torch.tensor([[0.1, 0], [0, 0.1], [0, 0], [-0.1, 0]])
E = torch.tensor([[0.46515, -0.20439], [-0.20439, 0.14912]])
EFC_OLD, EFC_NEW = torch.tensor([[1.0, 2], [0, 1], [2, 0]]), torch.tensor([[2.0, 2], [0, 0], [2, 1]])
EFC_MEANS = torch.tensor([[1.0, 1], [0, 2]])
EXACT = (LinearDrift(), KernelDrift(1.0), KernelDrift(0.2, "importance"), AttackDrift(1.0, images=2))


def shift(old: Tensor, new: Tensor, **more: object) -> Shift:
    """Of images whose features are their pixels' mean, here given by hand."""
    images = torch.randint(0, 256, (len(old), *small.GREY.shape), generator=small.rng(), dtype=torch.uint8)
    known = {"old": old, "new": new, "images": images, "domain": small.GREY, "terms": {}, "seed": 5}
    known |= {"before": pixels(old.shape[1]), "after": pixels(old.shape[1])}
    return Shift(**{**known, **more})  # type: ignore[arg-type]


def pixels(wide: int):  # type: ignore[no-untyped-def]
    return lambda x: x.flatten(1)[:, :wide]


def gaussians(classes: int, wide: int, each: int = 30) -> ClassStatistics:
    labels = torch.arange(classes).repeat(each)
    rows = small.randn(len(labels), wide) + labels[:, None]
    keep = ("means", "covariances", "counts")
    return replace(
        add_classes(ClassStatistics(), rows, labels, range(classes), Collecting(keep)),
        importance=torch.eye(wide),
    )


def close(found: Tensor, expected: object, digits: float = 1e-5) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=digits)


# The linear map -------------------------------------------------------------------------------------------------


def test_the_linear_map_by_hand() -> None:
    drift = LinearDrift(1e-9)
    close(drift.map(OLD, NEW), [[1, -0.5], [0.5, 2]])
    close(drift.map(OLD, NOISY), [[1, -0.53333], [0.46667, 2.06667]])
    kept = ClassStatistics(torch.tensor([[2.0, 3]]), torch.tensor([[[1, 0.2], [0.2, 0.5]]]))
    moved = drift(kept, shift(OLD, NEW))
    close(moved.means, [[3.5, 5]])
    close(moved.covariances, [[[1.325, 0.35], [0.35, 1.85]]])
    close(drift(kept, shift(OLD, NOISY)).means, [[3.4, 5.13333]])
    assert drift.map(OLD, NEW).dtype == torch.float64


def test_the_linear_map_is_drawn_towards_the_identity() -> None:
    """Between it and least squares, and exact where the images have no extent."""
    close(LinearDrift(1e12).map(OLD, NEW), torch.eye(2), 1e-9)
    flat = torch.cat([OLD, torch.zeros(4, 1)], 1)
    there = torch.cat([NEW, torch.zeros(4, 1)], 1)
    close(LinearDrift(1.0).map(flat, there)[2], [0, 0, 1])
    a, b = OLD.double(), NEW.double()
    rows = torch.cat(
        [a, torch.eye(2, dtype=torch.float64) * 3**0.5]
    )  # ridge 3: three more images of each axis, unmoved
    wanted = torch.linalg.lstsq(rows, torch.cat([b, torch.eye(2, dtype=torch.float64) * 3**0.5])).solution
    close(LinearDrift(3.0).map(OLD, NEW), wanted, 1e-9)


def test_dpcrs_classifier_after_a_drift() -> None:
    """The old class's second moment and mean go through the noisy map; the new class is the four rows themselves."""
    keep = Collecting(("means", "covariances", "counts"))
    old = torch.tensor([[2.0, 3], [3, 3], [1, 3]])
    kept = add_classes(ClassStatistics(), old, torch.zeros(3, dtype=torch.int64), range(1), keep)
    kept = LinearDrift(1e-9)(kept, shift(OLD, NOISY))
    mean = kept.means[0].double()
    close(
        3 * (kept.covariances[0].double() + torch.outer(mean, mean)),
        [[36.68, 51.29333], [51.29333, 79.62222]],
        1e-4,
    )
    kept = add_classes(kept, NOISY, torch.ones(4, dtype=torch.int64), range(1, 2), keep)
    close(Ridge(0.2).weight(kept).T, [[0.02912, 0.15680], [0.28518, -0.13674]])
    close(Ridge(0.2, unit=True).weight(kept).T, [[0.18259, 0.98319], [0.90170, -0.43235]])


# The kernels ----------------------------------------------------------------------------------------------------


def test_kernels_by_hand_and_by_loops() -> None:
    kept = ClassStatistics(EFC_MEANS, importance=E)
    efc = KernelDrift(0.2, "importance")
    weights = efc.weights(EFC_MEANS.double(), EFC_OLD.double(), E)
    close(weights, [[0.69938, 0.25682, 0.04381], [0.26858, 0.73142, 2.7e-6]])
    known = {
        efc: [[0.69938, -0.21301], [0.26858, -0.73142]],
        KernelDrift(1.0): [[0.38365, -0.15095], [0.49256, -0.47768]],
        KernelDrift(0.3): [[0.49840, -0.49519], [0.49936, -0.49807]],
    }
    for drift, expected in known.items():
        found = drift(kept, shift(EFC_OLD, EFC_NEW)).means - EFC_MEANS
        close(found, expected, 2e-5)
        matrix = E if drift.metric == "importance" else None
        close(found, slow.kernel_shift(EFC_MEANS, EFC_OLD, EFC_NEW, drift.sigma, matrix), 1e-6)


# The attack -----------------------------------------------------------------------------------------------------


def test_the_attack_by_hand() -> None:
    """Two images of two pixels, the old net the identity: each of three steps takes 1 / |X|_F off."""
    images = torch.tensor([[3.0, 0], [0, 4]])
    found = AttackDrift(1.0).attacked(images, torch.zeros(2), lambda x: x, (-10, 10))
    close(found, [[1.2, 0], [0, 1.6]])
    assert torch.equal(images, torch.tensor([[3.0, 0], [0, 4]])) and not found.requires_grad
    clamped = AttackDrift(1.0).attacked(images, torch.zeros(2), lambda x: x, (2, 10))
    close(clamped, [[2.0, 2], [2, 2]])


def test_the_attack_moves_means_by_what_the_new_net_adds_there() -> None:
    kept = ClassStatistics(torch.tensor([[0.0, 0], [9, 9]]))
    seen = shift(torch.zeros(3, 2), torch.zeros(3, 2))
    old = pixels(2)(seen.inputs(torch.arange(3)))
    seen = replace(seen, old=old, new=old + 7, after=lambda x: pixels(2)(x) + torch.tensor([1.0, 2]))
    moved = AttackDrift(0.1, images=3)(kept, seen).means
    close(moved[0], [1, 2])  # all images are nearer to it
    close(moved[1], [16, 16])  # none reached it: the images as they were


# The trained maps -----------------------------------------------------------------------------------------------


def test_samples_through_a_trained_net_follow_a_linear_drift() -> None:
    old = 0.7 * small.randn(400, 2)
    kept = ClassStatistics(torch.tensor([[0.3, -0.2]]), 0.1 * torch.tensor([[[1, 0.2], [0.2, 0.5]]]))
    drift = MappedDrift(steps=400, batch=64, lr=0.1)
    moved = drift(kept, shift(old, old @ MATRIX.T))
    matrix = MATRIX.T.double()
    close(moved.means, kept.means.double() @ matrix, 0.1)
    close(moved.covariances, matrix.T @ kept.covariances.double() @ matrix, 0.1)
    small.assert_same(moved.tensors(), drift(kept, shift(old, old @ MATRIX.T)).tensors())  # seeded
    assert kept.covariances.shape == moved.covariances.shape


def test_a_further_loss_is_minimised_too() -> None:
    old = small.randn(50, 2)
    kept = ClassStatistics(torch.zeros(1, 2), torch.eye(2)[None])
    pulled = MappedDrift(steps=200, batch=32, lr=0.1, loss=lambda x: 100 * (x - 3).square().mean())
    assert (pulled(kept, shift(old, old)).means - 3).abs().max() < 0.5


def test_a_learnt_layer_moves_the_means() -> None:
    term = nn.Module()
    term.layer = nn.Linear(2, 2)
    with torch.no_grad():
        term.layer.weight.copy_(MATRIX)
        term.layer.bias.copy_(torch.tensor([0.5, 0]))
    kept = ClassStatistics(torch.tensor([[2.0, 3]]), radius=torch.tensor(0.5))
    moved = LearntDrift("transfer")(kept, shift(OLD, NEW, terms={"transfer": term}))
    close(moved.means, [[4.0, 5]])
    assert moved.radius == kept.radius and not moved.means.requires_grad


def test_a_root_of_a_covariance_without_full_rank() -> None:
    rows = small.randn(3, 6)
    covariance = torch.cov(rows.T)
    root = covariance_root(covariance)
    close(root @ root.T, covariance, 1e-5)


# All of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", EXACT, ids=lambda drift: f"{type(drift).__name__}")
def test_nothing_moves_where_the_extractor_has_not(drift: Compensation) -> None:
    kept, features = gaussians(3, 5), small.randn(20, 5)
    moved = drift(kept, shift(features, features))
    small.assert_same(moved.tensors(), kept.tensors())


@pytest.mark.parametrize("drift", [*EXACT, MappedDrift(steps=3, samples=50)], ids=lambda d: type(d).__name__)
def test_new_classes_are_added_behind_and_none_of_their_rows_moves(drift: Compensation) -> None:
    kept, old = gaussians(3, 5), small.randn(20, 5)
    new = old + 0.3 * small.randn(20, 5, seed=1)
    before = {name: value.clone() for name, value in kept.tensors().items()}
    moved = drift(kept, shift(old, new, after=lambda x: pixels(5)(x) + 1))
    small.assert_same(kept.tensors(), before)  # what was kept is not changed in place
    assert not torch.equal(moved.means, kept.means) and torch.isfinite(moved.covariances).all()
    collecting = Collecting(("means", "covariances", "counts"))
    grown = add_classes(moved, new, torch.full((20,), 3), range(3, 4), collecting)
    assert torch.equal(grown.means[:3], moved.means)
    close(grown.means[3], new.double().mean(0), 1e-6)


@pytest.mark.parametrize("drift", EXACT[:3], ids=lambda drift: type(drift).__name__)
def test_the_order_of_the_images_does_not_matter(drift: Compensation) -> None:
    kept, old = gaussians(3, 5), small.randn(20, 5)
    new = old + 0.3 * small.randn(20, 5, seed=1)
    order = torch.randperm(20, generator=small.rng())
    one, other = drift(kept, shift(old, new)), drift(kept, shift(old[order], new[order]))
    torch.testing.assert_close(one.means, other.means, rtol=1e-5, atol=1e-5)
