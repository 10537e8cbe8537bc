"""Noisy class means in place of old images: draws, losses against loops, and where their gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rgal.core.seeding import Streams
from rgal.tasks.class_incremental import prototypes
from rgal.tasks.class_incremental.groups import IncrementalTermData, statistics_of
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.terms.negatives import BANDS, Negatives, sample_negatives
from rgal.terms.objective import Context, LossTerm, Term, TermContext
from rgal.terms.relation import relation_distances
from tests.helpers import naive_incremental as slow
from tests.helpers import small
from tests.helpers.relation_builders import LIMITS, by_pair, close_rows
from tests.helpers.two_phase_builders import STILL, gradients, step_context, two_phases

OLD, NEW, WIDTH, DRAWS = 4, 2, 5, 12
R = 8  # real images; with rotations 2 images in each of four
LABELS = torch.tensor([4, 5, 4, 4, 5, 5, 4, 5])


def memory(old: int = OLD) -> ClassStatistics:
    shape = small.randn(old, WIDTH, WIDTH, seed=2)
    return ClassStatistics(2 * small.randn(old, WIDTH, seed=1), shape @ shape.mT / WIDTH, torch.tensor(0.3))


def setting(outputs: int = 1, old: int = OLD) -> TermContext:
    return TermContext(STILL, two_phases(old, NEW, outputs), task_data=IncrementalTermData(memory(old)))


def context(where: TermContext, features: Tensor, labels: Tensor = LABELS, part: str = "step") -> Context:
    """All images real, as for every method that keeps means."""
    ctx = step_context(where.nets, features, features.detach(), labels, len(labels))  # type: ignore[arg-type]
    ctx.streams = Streams("cpu", part)
    return ctx


def rows_of(where: TermContext) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the new classifier in float64."""
    head = growing_head(where.nets["student"])
    return head.weight().double(), torch.cat([part.bias for part in head.parts]).double()


def draws(
    name: str, kept: ClassStatistics, number: int = DRAWS, part: str = "step"
) -> tuple[Tensor, list[int]]:
    """Means and their classes as the term's stream gives them: first all classes, then the noise."""
    rng = Streams("cpu", part).get(f"{name} draws")
    classes = torch.randint(0, len(kept.means), (number,), generator=rng).tolist()
    noise = torch.randn(number, WIDTH, generator=rng)
    return torch.stack(
        [kept.means[c] + kept.radius * e for c, e in zip(classes, noise, strict=True)]
    ), classes


def assert_head_gradients(value: Tensor, expected: Tensor, where: TermContext) -> None:
    """Of the loss and of its twin, on the classifier; and none anywhere else."""
    parameters = list(growing_head(where.nets["student"]).parameters())
    wanted = torch.autograd.grad(expected, parameters)
    value.backward()
    for parameter, gradient in zip(parameters, wanted, strict=True):
        scale = float(gradient.abs().max())
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-5 * max(scale, 1))
    assert all(name.startswith("fc.") for name in gradients(where.nets["student"]))
    assert not gradients(where.nets["teacher"])


# Draws ----------------------------------------------------------------------------------------------------------


def test_means_are_drawn_of_all_old_classes_alike_with_noise_of_the_radius() -> None:
    where = setting()
    term = prototypes.prototype_cross_entropy(1.0, draws=20_000).build(where)
    drawn, classes = term.noisy_means(context(where, small.randn(R, WIDTH)))
    share = classes.bincount(minlength=OLD) / 20_000
    torch.testing.assert_close(share, torch.full((OLD,), 1 / OLD), rtol=0, atol=0.02)
    noise = drawn - statistics_of(where).means[classes]
    torch.testing.assert_close(noise.mean(0), torch.zeros(WIDTH), rtol=0, atol=0.01)
    torch.testing.assert_close(noise.T @ noise / 20_000, 0.09 * torch.eye(WIDTH), rtol=0, atol=0.003)


def test_every_step_draws_anew_and_the_stream_alone_decides() -> None:
    where = setting()
    term = prototypes.prototype_cross_entropy(1.0, draws=DRAWS).build(where)
    ctx = context(where, small.randn(R, WIDTH))
    first, second = term.noisy_means(ctx), term.noisy_means(ctx)
    assert not torch.equal(first[0], second[0])
    again, classes = draws("prototypes", statistics_of(where))
    assert torch.equal(first[0], again) and first[1].tolist() == classes


def test_a_method_without_means_is_told() -> None:
    where = setting()
    for kept in (ClassStatistics(), ClassStatistics(means=statistics_of(where).means)):
        term = prototypes.prototype_cross_entropy(1.0).build(
            TermContext(STILL, where.nets, task_data=IncrementalTermData(kept))
        )
        with pytest.raises(AssertionError, match="keeps neither means nor radius"):
            term(context(where, small.randn(R, WIDTH)))


# Cross-entropies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("outputs", [1, 4])
def test_prototype_cross_entropy_equals_the_loop(outputs: int, temperature: float) -> None:
    """With four outputs a class, means are of unrotated images: label 4c."""
    where = setting(outputs)
    term = prototypes.prototype_cross_entropy(10.0, DRAWS, temperature).build(where)
    value = term(context(where, small.randn(R, WIDTH)))
    drawn, classes = draws("prototypes", statistics_of(where))
    expected = slow.prototype_cross_entropy(*rows_of(where), drawn.double(), classes, outputs, temperature)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_head_gradients(value, expected, where)


def augmented(where: TermContext, strength: float, temperature: float) -> tuple[Tensor, Tensor]:
    term = prototypes.semantic_augmentation(10.0, DRAWS, temperature, strength).build(where)
    value = term(context(where, small.randn(R, WIDTH)))
    rng = Streams("cpu", "step").get("prototypes draws")
    classes = torch.randint(0, OLD, (DRAWS,), generator=rng)
    kept = statistics_of(where).means[classes].double(), statistics_of(where).covariances[classes].double()
    expected = slow.semantic_augmentation(*rows_of(where), *kept, classes.tolist(), strength, temperature)
    return value, expected


@pytest.mark.parametrize(("strength", "temperature"), [(2.5, 0.1), (1.0, 1.0), (0.0, 1.0)])
def test_semantic_augmentation_equals_the_loop(strength: float, temperature: float) -> None:
    where = setting()
    value, expected = augmented(where, strength, temperature)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_head_gradients(value, expected, where)


def test_semantic_augmentation_without_strength_is_the_cross_entropy_of_the_means() -> None:
    where = setting()
    kept = statistics_of(where)
    loss = prototypes.semantic_augmentation_loss(
        growing_head(where.nets["student"]), kept.means, kept.covariances, torch.arange(OLD), 0.0, 1.0
    )
    expected = slow.prototype_cross_entropy(*rows_of(where), kept.means.double(), list(range(OLD)), 1, 1.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_semantic_augmentation_bounds_the_loss_of_sampled_features_from_above() -> None:
    where, strength = setting(), 0.5
    head, kept = growing_head(where.nets["student"]), statistics_of(where)
    with torch.no_grad():
        for c in range(OLD):
            mean, cov = kept.means[c : c + 1], kept.covariances[c : c + 1]
            classes = torch.tensor([c])
            bound = prototypes.semantic_augmentation_loss(head, mean, cov, classes, strength, 1.0)
            normal = torch.distributions.MultivariateNormal(
                torch.zeros(WIDTH), strength * cov[0] + 1e-6 * torch.eye(WIDTH)
            )
            torch.manual_seed(c)
            sampled = torch.nn.functional.cross_entropy(
                head(mean + normal.sample((20_000,))), classes.expand(20_000)
            )
            at_mean = torch.nn.functional.cross_entropy(head(mean), classes)
            assert at_mean < sampled < bound


# The triplet ----------------------------------------------------------------------------------------------------


def triplet_term(where: TermContext, band: str = "uniform", margin: float = 0.2) -> Term:
    return prototypes.prototype_relation(0.1, band, margin, DRAWS).build(where)  # type: ignore[arg-type]


def redrawn(
    where: TermContext, upright: Tensor, labels: Tensor, band: str
) -> tuple[Tensor, Tensor, Negatives]:
    """(rows, labels, negatives) of the triplet: real ones, then means clamped at 0 under labels of their own."""
    drawn, classes = draws("prototype_gather", statistics_of(where))
    rows = torch.cat([upright, drawn.clamp(min=0)])
    all_labels = torch.cat([labels, torch.tensor([-1 - c for c in classes])])
    real = torch.arange(len(rows)) < len(upright)
    negatives = sample_negatives(
        rows, all_labels, BANDS[band], Streams("cpu", "step").get("prototype_gather negatives"),
        among=real[:, None] & ~real[None, :],
    )  # fmt: skip
    return rows, all_labels, negatives


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("band", BANDS)
def test_the_prototype_triplet_equals_the_pair_loop(band: str, outputs: int) -> None:
    """With rotations, of the first quarter of the batch, which is upright."""
    where = setting(outputs)
    term = triplet_term(where, band, margin=0.7)
    features = small.rand(R, WIDTH)
    labels = LABELS if outputs == 1 else torch.tensor([16, 16, 17, 17, 18, 18, 19, 19])
    upright = R // outputs
    _, all_labels, negatives = redrawn(where, features[:upright], labels[:upright], band)
    drawn = redrawn(where, features[:upright], labels[:upright], band)[0][upright:].double()

    def twin(f: Tensor) -> Tensor:
        rows = torch.cat([f[:upright], drawn])
        return slow.against_constants([rows], all_labels.tolist(), upright, by_pair(negatives), 0.7)

    small.assert_twins(lambda f: term(context(where, f, labels)), twin, features)
    assert term(context(where, features, labels)) > 0


def test_its_negatives_follow_the_exact_probabilities_of_means_alone() -> None:
    rows = close_rows(18, 6)
    labels = torch.tensor([0, 1] * 5 + [-1, -2, -3, -4] * 2)
    real = torch.arange(18) < 10
    among = real[:, None] & ~real[None, :]
    for band in BANDS:
        wanted = torch.tensor(slow.among_probabilities(rows, labels.tolist(), among, LIMITS[band]))
        sampled = sample_negatives(rows, labels, BANDS[band], small.rng(), draws=20_000, among=among)
        assert torch.equal(sampled.exists, real) and (wanted[:, :10] == 0).all()
        count = torch.stack([row.bincount(minlength=18) for row in sampled.index[:10]]) / 20_000
        torch.testing.assert_close(count, wanted[:10], rtol=0, atol=0.02)


def test_a_step_brings_new_images_together_and_away_from_where_old_classes_were() -> None:
    where = setting()
    term, features = triplet_term(where, margin=1.0), small.rand(R, WIDTH).requires_grad_()
    drawn, classes = draws("prototype_gather", statistics_of(where))
    means = drawn.clamp(min=0)

    def distances(f: Tensor) -> tuple[float, float]:
        """(of new images of one class, of new images to means)."""
        same, _ = relation_distances(f, LABELS)
        both = torch.cat([f, means])
        _, across = relation_distances(both, torch.cat([torch.zeros(R), torch.ones(len(classes))]))
        return float(same), float(across)

    before = distances(features.detach())
    for _ in range(20):
        (gradient,) = torch.autograd.grad(term(context(where, features)), features)
        features.data -= 0.3 * gradient
    after = distances(features.detach())
    assert after[0] < before[0] - 0.05 and after[1] > before[1] + 0.05


def test_its_gradient_reaches_real_features_alone_and_it_reports_its_fallback() -> None:
    where = setting()
    kept = ClassStatistics(*(t.requires_grad_() for t in statistics_of(where).tensors().values()))
    where = TermContext(STILL, where.nets, task_data=IncrementalTermData(kept))
    features = small.rand(R, WIDTH).requires_grad_()
    ctx = context(where, features)
    triplet_term(where, "focal")(ctx).backward()
    assert features.grad.abs().max() > 0 and kept.means.grad is None and kept.radius.grad is None
    assert not gradients(where.nets["student"])
    assert set(ctx.notes) == {"prototype_gather_fallback"}
    assert 0 <= float(ctx.notes["prototype_gather_fallback"]) <= 1


@pytest.mark.parametrize("labels", [[4], [4, 5]], ids=["one image", "no pair"])
def test_without_a_pair_it_is_an_attached_zero(labels: list[int]) -> None:
    where = setting()
    features = small.rand(len(labels), WIDTH).requires_grad_()
    value = triplet_term(where)(context(where, features, torch.tensor(labels)))
    value.backward()
    assert value.item() == 0 and torch.equal(features.grad, torch.zeros_like(features))


def test_one_new_class_and_one_old_class_suffice() -> None:
    """The negatives are old classes: a new one needs no other beside it."""
    where = setting(old=1)
    features = small.rand(6, WIDTH).requires_grad_()
    value = triplet_term(where)(context(where, features, torch.ones(6, dtype=torch.int64)))
    value.backward()
    assert value > 0 and torch.isfinite(features.grad).all() and features.grad.abs().max() > 0


def test_dead_features_give_finite_gradients() -> None:
    where = setting()
    features = torch.zeros(R, WIDTH).requires_grad_()
    value = triplet_term(where)(context(where, features))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(features.grad).all()


@pytest.mark.parametrize(
    "weighted",
    [
        prototypes.prototype_cross_entropy(10.0, DRAWS),
        prototypes.semantic_augmentation(10.0, DRAWS),
        prototypes.prototype_relation(0.1, "distance", 0.2, DRAWS),
    ],
)
def test_bfloat16_features_change_no_loss_by_much(weighted: LossTerm) -> None:
    where, features = setting(), small.rand(R, WIDTH)
    exact = weighted.build(where)(context(where, features))
    rounded = weighted.build(where)(context(where, features.bfloat16().float()))
    assert rounded.dtype == torch.float32 and rounded.item() == pytest.approx(exact.item(), rel=0.05)


def test_names_weights_and_reads() -> None:
    listed = [
        prototypes.prototype_cross_entropy(10.0),
        prototypes.semantic_augmentation(9.0),
        prototypes.prototype_relation(0.1, "distance", 0.2),
    ]
    assert [(w.name, w.weight) for w in listed] == [
        ("prototypes", 10.0), ("prototypes", 9.0), ("prototype_gather", 0.1),
    ]  # fmt: skip
    for weighted in listed:
        term = weighted.build(setting())
        assert term.draws == 64 and not term.state_dict() and not list(term.parameters())
        assert {(need.net, need.what) for need in term.reads} >= {("teacher", "logits")}
