"""Old classes as translations of new ones (FeTrIL): donors, translated features and the classifiers fitted on them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.classifiers import (
    _thinned,
    fit_classifier,
    source_classes,
    translated_features,
)
from rgal.tasks.class_incremental.head import GrowingHead
from rgal.terms.negatives import BANDS, sample_negatives
from tests.helpers import naive, small
from tests.helpers import naive_incremental as slow
from tests.helpers.relation_builders import by_pair

OLD, NEW, WIDTH = 3, 3, 6
CLASSES = OLD + NEW


def world(each: int = 7, spread: float = 0.4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(means of all classes, features and labels of the new ones), labels in mixed order and of unequal numbers."""
    means = 2 * small.randn(CLASSES, WIDTH, seed=seed)
    labels = torch.cat([torch.full((each + q,), OLD + q) for q in range(NEW)])
    labels = labels[torch.randperm(len(labels), generator=small.rng(seed))]
    features = means[labels] + spread * (1 + labels[:, None] - OLD) * small.randn(
        len(labels), WIDTH, seed=seed + 9
    )
    for q in range(OLD, CLASSES):
        means[q] = features[labels == q].mean(0)
    return means, features, labels


# Donors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_donor_is_that_of_the_loop(seed: int) -> None:
    means, features, labels = world(seed=seed)
    donors = source_classes(means, OLD, features, labels, "nearest", small.rng())
    assert donors.tolist() == slow.nearest_donors(means.double(), OLD)
    assert donors.dtype == torch.int64 and ((donors >= OLD) & (donors < CLASSES)).all()


def test_nearest_is_euclidean() -> None:
    """Not the cosine, by which the other one would be nearer."""
    means = torch.tensor([[1.0, 0.0], [10.0, 0.0], [1.0, 1.0]])
    assert source_classes(means, 1, means, torch.arange(3), "nearest", small.rng()).tolist() == [2]


def evenly(rows: Tensor, limit: int = 64) -> Tensor:
    if len(rows) <= limit:
        return rows
    return torch.stack([rows[int(i * len(rows) / limit)] for i in range(limit)])


def spreads(means: Tensor, features: Tensor, labels: Tensor, rng: torch.Generator) -> list[list[float]]:
    """For each old class and each donor: RGAL's synthesis triplet of the translation among the new features."""
    table = []
    for p in range(OLD):
        table.append([])
        for q in range(OLD, CLASSES):
            ours = evenly(torch.stack([f - means[q] + means[p] for f in features[labels == q]]))
            rows = torch.cat([ours, evenly(features)])
            all_labels = [-1] * len(ours) + evenly(labels[:, None]).flatten().tolist()
            mine = torch.arange(len(rows)) < len(ours)
            among = mine[:, None] & ~mine[None, :]
            sampled = sample_negatives(rows, torch.tensor(all_labels), BANDS["focal"], rng, among=among)
            index = by_pair(sampled)
            units, total, pairs = [naive.unit(row) for row in rows.double()], 0.0, 0
            for a in range(len(ours)):
                for b in range(len(ours)):
                    if a != b:
                        n = index[a][b]
                        assert n >= len(ours)
                        near = naive.distance(units[a], units[b])
                        total += max(0.0, float(naive.distance(units[a], units[n]) - near + 0.2))
                        pairs += 1
            table[-1].append(total / max(1, pairs))
    return table


@pytest.mark.parametrize("seed", range(3))
def test_the_spread_donor_has_the_least_synthesis_triplet(seed: int) -> None:
    means, features, labels = world(seed=seed)
    table = spreads(means, features, labels, small.rng(4))
    donors = source_classes(means, OLD, features, labels, "spread", small.rng(4)).tolist()
    assert donors == [OLD + row.index(min(row)) for row in table]


@pytest.mark.parametrize("n", [1, 63, 64, 65, 99, 127, 128, 1000])
def test_features_are_thinned_evenly(n: int) -> None:
    """Also when they are few more than needed: sorted by class, the last one is not forgotten."""
    kept = _thinned(torch.arange(n), 64)
    assert len(kept) == min(n, 64) and torch.equal(kept, evenly(torch.arange(n)))
    gaps = kept.diff(append=torch.tensor([n]))
    assert kept[0] == 0 and gaps.min() >= n // 64 and gaps.max() <= n // 64 + 1


def test_the_spread_donor_is_the_class_that_spreads_more() -> None:
    """Of two new classes as near as each other, and a tight and a wide one."""
    means = torch.tensor([[4.0, 0, 0, 0], [4.0, 1, 0, 0], [4.0, -1, 0, 0]])
    noise = small.randn(20, 4)
    features = torch.cat([means[1] + 0.05 * noise, means[2] + 1.0 * noise])
    labels = torch.tensor([1] * 20 + [2] * 20)
    assert source_classes(means, 1, features, labels, "spread", small.rng()).tolist() == [2]


@pytest.mark.parametrize("donor", ["nearest", "spread"])
def test_a_single_new_class_gives_all_old_ones(donor: str) -> None:
    means, features = small.randn(4, WIDTH), small.randn(5, WIDTH, seed=1)
    labels = torch.full((5,), 3)
    assert source_classes(means, 3, features, labels, donor, small.rng()).tolist() == [3, 3, 3]  # type: ignore[arg-type]
    single = source_classes(means, 3, features[:1], labels[:1], donor, small.rng())  # type: ignore[arg-type]
    assert single.tolist() == [3, 3, 3]


# Translated features --------------------------------------------------------------------------------------------


def test_translated_features_equal_the_loop() -> None:
    means, features, labels = world()
    donor = torch.tensor([4, 3, 4])
    translated, old_labels = translated_features(means, donor, features, labels)
    expected = slow.translated(means.double(), donor.tolist(), features.double(), labels.tolist())
    assert old_labels.tolist() == [label for label, _ in expected]
    torch.testing.assert_close(
        translated.double(), torch.stack([f for _, f in expected]), rtol=1e-5, atol=1e-5
    )
    assert old_labels.dtype == torch.int64 and old_labels.bincount().tolist() == [8, 7, 8, 7, 8, 9]


def test_a_translation_has_the_old_mean_and_its_donors_spread() -> None:
    means, features, labels = world()
    donor = torch.tensor([4, 3, 5])
    translated, old_labels = translated_features(means, donor, features, labels)
    for p, q in enumerate(donor.tolist()):
        torch.testing.assert_close(translated[old_labels == p].mean(0), means[p], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            torch.cov(translated[old_labels == p].T), torch.cov(features[labels == q].T), rtol=1e-3, atol=1e-4
        )


# Classifiers ----------------------------------------------------------------------------------------------------


def fitted(kind: str, classes: int = 4, seed: int = 0):  # type: ignore[no-untyped-def]
    labels = torch.arange(classes).repeat(15)
    features = 2 * small.randn(classes, WIDTH, seed=3)[labels] + small.randn(len(labels), WIDTH, seed=4)
    return features, labels, *fit_classifier(features, labels, kind, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 4])
def test_svc_is_one_squared_hinge_machine_a_class_on_unit_features(classes: int) -> None:
    """At its optimum the gradient of (|w|^2 + b^2)/2 + sum_i [1 - s_i (w x_i + b)]_+^2 is 0, s_i = 1 in the class, else
    -1."""
    features, labels, weight, bias = fitted("svc", classes)
    assert weight.shape == (classes, WIDTH) and bias.shape == (classes,)
    x = torch.stack([naive.unit(row) for row in features.double()])
    for c in range(classes):
        w, b = weight[c].double().requires_grad_(), bias[c].double().requires_grad_()
        loss = (w.square().sum() + b.square()) / 2
        for row, label in zip(x, labels.tolist(), strict=True):
            sign = 1 if label == c else -1
            loss = loss + F.relu(1 - sign * ((w * row).sum() + b)) ** 2
        for gradient in torch.autograd.grad(loss, (w, b)):
            assert gradient.abs().max() < 0.02


@pytest.mark.parametrize("classes", [2, 4])
def test_fc_is_logistic_regression_on_the_features_as_they_are(classes: int) -> None:
    """At its optimum the gradient of the sum of cross-entropies plus |W|^2 / 2 is 0. Of two classes scikit-learn fits
    one row, whose score stands against 0."""
    features, labels, weight, bias = fitted("fc", classes)
    w, b = weight.double().requires_grad_(), bias.double().requires_grad_()
    if classes == 2:
        assert torch.equal(weight[0], -weight[1]) and torch.equal(bias[0], -bias[1])
        w, b = (torch.stack([0 * x[1], x[1]]) for x in (w, b))
    scores = slow.head_logits(features.double(), w, b)
    loss = len(labels) * naive.cross_entropy(scores, labels) + w.square().sum() / 2
    for gradient in torch.autograd.grad(loss, (w, b)):
        assert gradient[1:].abs().max() < 0.05


@pytest.mark.parametrize("kind", ["svc", "fc"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_fitted_classifier_in_a_head_tells_the_classes_apart(classes: int, kind: str) -> None:
    features, labels, weight, bias = fitted(kind, classes)
    head = GrowingHead(torch.nn.Linear(WIDTH, classes - 1))
    head.add(1, 0)
    head.unit = kind == "svc"
    head.assign(weight, bias)
    assert (head(features).argmax(1) == labels).double().mean() > 0.9


@pytest.mark.parametrize("kind", ["svc", "fc"])
def test_fitting_is_reproducible_whatever_the_global_streams(kind: str) -> None:
    torch.manual_seed(0)
    first = fitted(kind)
    torch.manual_seed(1)
    small.assert_same(first[2:], fitted(kind)[2:])
    big = fitted(kind, seed=2**62 + 5)  # seeds have 63 bits, scikit-learn takes 32
    assert torch.isfinite(big[2]).all() and first[2].dtype == torch.float32
