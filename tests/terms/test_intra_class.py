"""IntraQ's parts: goals of confidence, distances to class means of earlier rounds, the view that is sometimes taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.core.observe import Observation
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import resolve
from rgal.synthesis.views import identity, resized_crop, sometimes
from rgal.terms.intra_class import (
    MarginalDistance,
    SoftInception,
    marginal_distance_loss,
    soft_inception_loss,
)
from rgal.terms.objective import Context, TermContext
from tests.helpers import naive_classes as naive
from tests.helpers import small
from tests.helpers.runs import assert_resumes, finish, make_run, shared_problem

LABELS = {"mixed": [0, 2, 1, 2, 0, 4], "one class": [3] * 6, "one image": [1]}
CLASSES, WIDTH = 5, 7


def integers(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def seen(features: Tensor, labels: list[int], logits: Tensor | None = None) -> Context:
    logits = features if logits is None else logits
    return small.context(targets=integers(labels), teacher=Observation(logits=logits, feature=features))


# The soft inception loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_inception_equals_its_twin(labels: list[int]) -> None:
    goals = small.rand(len(labels), seed=1)
    small.assert_twins(
        lambda z: soft_inception_loss(z, integers(labels), goals),
        lambda z: naive.inception(z, labels, goals.tolist()),
        small.randn(len(labels), CLASSES),
    )


def test_no_images_no_loss() -> None:
    rows, sums = small.randn(0, WIDTH).requires_grad_(), (small.randn(CLASSES, WIDTH), torch.ones(CLASSES))
    for loss in (
        soft_inception_loss(rows, integers([]), torch.empty(0)),
        marginal_distance_loss(rows, integers([]), *sums, 0.05, 0.8),
    ):
        loss.backward()
        assert loss.item() == 0


def test_inception_of_huge_logits_is_finite() -> None:
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]]).requires_grad_()
    loss = soft_inception_loss(logits, integers([0, 0]), torch.tensor([1.0, 1.0]))
    loss.backward()
    assert loss.item() == 0.5 and torch.isfinite(logits.grad).all()


def test_goals_are_one_for_half_of_the_images_and_stay_for_a_round() -> None:
    term = SoftInception(0.6)
    context = seen(small.randn(4000, CLASSES), [0] * 4000)
    first = term(context)
    goal = term.goal
    assert goal is not None and goal.min() >= 0.6 and goal.max() == 1
    assert 0.45 < (goal == 1).double().mean() < 0.55
    assert goal[goal < 1].mean().item() == pytest.approx(0.8, abs=0.01)
    assert torch.equal(term(context), first) and term.goal is goal
    assert torch.equal(first, soft_inception_loss(context.of("teacher").logits, context.targets, goal))
    term.end_round()
    assert not torch.equal(term(context), first)


def test_a_low_of_one_makes_all_goals_one() -> None:
    term = SoftInception(1.0)
    term(seen(small.randn(50, CLASSES), [0] * 50))
    assert term.goal is not None and bool((term.goal == 1).all())


# The margins ----------------------------------------------------------------------------------------------------


def sums_of(earlier: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    sums, counts = torch.zeros(CLASSES, WIDTH), torch.zeros(CLASSES)
    for label, feature in earlier:
        sums[label] += feature
        counts[label] += 1
    return sums, counts


@pytest.mark.parametrize("so_far", [[], [0, 1, 1], [0, 1, 2, 3, 4, 4, 2]], ids=["first", "some", "all"])
@pytest.mark.parametrize("bounds", [(0.05, 0.8), (0.9, 1.1), (1.4, 0.2), (0.0, 2.0)])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_margins_equal_their_twin(labels: list[int], bounds: tuple[float, float], so_far: list[int]) -> None:
    earlier = list(zip(so_far, small.randn(len(so_far), WIDTH, seed=3), strict=True))
    small.assert_twins(
        lambda f: marginal_distance_loss(f, integers(labels), *sums_of(earlier), *bounds),
        lambda f: naive.marginal_distance(f, labels, earlier, *bounds),
        small.randn(len(labels), WIDTH),
    )


def test_margins_near_and_far() -> None:
    """Alike: lower - 0; opposite: 2 - upper; at a right angle, inside the margins: nothing."""
    mean = torch.tensor([[3.0, 0.0]]), torch.ones(1)
    for row, expected in (([2.0, 0.0], 0.05), ([-1.0, 0.0], 0.8), ([0.0, 5.0], 0.0)):
        loss = marginal_distance_loss(torch.tensor([row]), integers([0]), *mean, 0.05, 1.2)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_feature_of_zeros_has_a_finite_gradient() -> None:
    features = torch.zeros(2, WIDTH).requires_grad_()
    marginal_distance_loss(
        features, integers([0, 1]), *sums_of([(0, torch.ones(WIDTH))]), 0.05, 0.8
    ).backward()
    assert torch.isfinite(features.grad).all()


def margin_term() -> MarginalDistance:
    problem = shared_problem()
    return MarginalDistance(TermContext(problem.domain, {"teacher": problem.teacher}), 0.9, 1.0)


def fed(
    term: MarginalDistance, labels: list[int], *features: Tensor, better: list[bool] | None = None
) -> None:
    """One round, a step for each of these features."""
    for feature, kept in zip(features, better or [True] * len(features), strict=True):
        term.kept(seen(feature, labels), torch.tensor(kept))
    term.end_round()


def test_means_run_over_the_kept_images_of_earlier_rounds() -> None:
    term = margin_term()
    width, classes = term.sums.shape[1], len(term.counts)
    rounds = [([0, 1, 1], small.randn(3, width, seed=5)), ([1, 3], small.randn(2, width, seed=6))]
    now = small.randn(5, width, seed=7)
    labels = [0, 1, 2 % classes, 3, 1]
    earlier: list[tuple[int, Tensor]] = []
    assert float(term(seen(now, labels))) == 0
    for own, feature in rounds:
        fed(term, own, -feature, feature, 2 + feature, better=[True, True, False])
        earlier += zip(own, feature, strict=True)
        expected = naive.marginal_distance(now.double(), labels, earlier, 0.9, 1.0)
        assert float(term(seen(now, labels))) == pytest.approx(float(expected), rel=1e-5)
    assert term.counts.tolist() == [1, 3, 0, 1]
    before = term.sums.clone()
    term.end_round()  # a round without steps
    assert torch.equal(term.sums, before)


def test_a_step_reads_the_means_and_does_not_write_them() -> None:
    term = margin_term()
    feature = small.randn(2, term.sums.shape[1]).requires_grad_()
    fed(term, [0, 0], feature.detach())
    before = term.sums.clone()
    term(seen(feature, [0, 0])).backward()
    term.kept(seen(feature, [0, 0]), torch.tensor(True))
    assert torch.equal(term.sums, before) and not term.sums.requires_grad
    assert not term.kept_features.requires_grad


@pytest.mark.parametrize("stop", ["in a round", "between rounds"])
def test_the_state_of_both_terms_survives(stop: str) -> None:
    pairs: list[tuple[Any, Any]] = [(margin_term(), margin_term()), (SoftInception(0.5), SoftInception(0.5))]
    for term, again in pairs:
        width = term.sums.shape[1] if isinstance(term, MarginalDistance) else CLASSES
        context = seen(small.randn(3, width, seed=1), [0, 1, 1])
        for _ in range(2):
            term(context)
            term.kept(context, torch.tensor(True))
            term.end_round()
        if stop == "in a round":
            term(context)
            term.kept(context, torch.tensor(True))
        again.load_state_dict(small.reloaded(term.state_dict()))
        small.assert_same(again.state_dict(), term.state_dict())
        again.end_round()
        term.end_round()
        small.assert_same(again.state_dict(), term.state_dict())


# The view -------------------------------------------------------------------------------------------------------


def test_a_view_is_taken_for_a_whole_batch_or_not_at_all() -> None:
    x = small.rand(4, *small.COLOUR.shape)
    view, taken = sometimes(resized_crop((0.5, 1.0)), 0.25), 0
    for seed in range(200):
        out = view(x, small.COLOUR, small.rng(seed))
        rng = small.rng(seed)
        coin = float(torch.rand((), generator=rng))
        expected = resized_crop((0.5, 1.0))(x, small.COLOUR, rng) if coin < 0.25 else x
        assert torch.equal(out, expected)
        taken += coin < 0.25
    assert 30 < taken < 70


@pytest.mark.parametrize(("probability", "scale"), [(0.0, 1.0), (1.0, 3.0)])
def test_the_gradient_goes_through_what_was_taken(probability: float, scale: float) -> None:
    x = small.rand(2, *small.COLOUR.shape).requires_grad_()
    view = sometimes(lambda images, domain, rng: 3 * images, probability)
    view(x, small.COLOUR, small.rng()).sum().backward()
    assert x.grad.unique().tolist() == [scale]


def test_sometimes_the_identity_is_the_identity() -> None:
    x = small.rand(2, *small.COLOUR.shape)
    assert torch.equal(sometimes(identity)(x, small.COLOUR, small.rng()), x)


# The method -----------------------------------------------------------------------------------------------------


def one_shot(method: str = "intraq") -> Recipe:
    rounds = Rounds(3, synthesis_steps=3, student_steps=3, synthesis_batch=10, batch=8, warmup=2)
    return replace(resolve(method).recipe, rounds=rounds)


@pytest.mark.parametrize("method", ["intraq", "intraq+rgal"])
def test_a_stopped_run_ends_with_the_same_numbers(method: str) -> None:
    # Rounds are 3 steps and a close; then three student steps: in the first, second and third round, and in training.
    assert_resumes(one_shot(method), (2, 5, 6, 10, 13))


def test_the_student_trains_once_and_on_images_of_all_rounds() -> None:
    transfer = make_run(one_shot())
    kinds = [row["kind"] for row in finish(transfer).rows]
    assert kinds == ["synthesis"] * 3 + ["student", "evaluation"]
    assert len(transfer.pool) == 30 and transfer.schedule.steps == {"synthesis": 9, "student": 3}
    published = resolve("intraq").recipe.rounds
    assert published.warmup == published.count - 1
    assert published.total_student_steps() == 147 * 200  # of its 151 epochs the first four only set ranges


def test_the_margin_is_off_in_the_first_round_alone() -> None:
    rows = [row for row in finish(make_run(one_shot("intraq[lower=1.5]"))).rows if row["kind"] == "synthesis"]
    assert rows[0]["margin"] == 0 and all(row["margin"] > 0 for row in rows[1:])
    assert all(row["inception"] > 0 for row in rows)
