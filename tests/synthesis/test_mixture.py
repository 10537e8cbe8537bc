"""Qimera's images of several classes: what the generator is told, the shares that both phases aim at, and labels for
whoever needs one a image."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.observe import Observation
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.batches import StudentBatch
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import resolve
from rgal.synthesis.mixture import MixedGenerator, class_shares
from rgal.terms.inversion import one_hot
from rgal.terms.objective import Objective, Progress, TermContext, labels_of
from rgal.terms.transfer import cross_entropy
from tests.helpers import naive_classes as naive
from tests.helpers import small
from tests.helpers.image_builders import OPTIMISER, TARGETS, TINY, N, loss_of
from tests.helpers.runs import assert_resumes, finish, make_run, shared_problem

CLASSES = small.COLOUR.classes
CPU = torch.device("cpu")


def started(mixed: int = 2, probability: float = 1.0, targets: Tensor = TARGETS, seed: int = 0) -> Any:
    images = MixedGenerator(**TINY, mixed=mixed, probability=probability).build(small.COLOUR, CPU, 0)
    images.attach(len(targets), small.rng(seed))
    images.start(targets, OPTIMISER)
    return images


# What the generator is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [1, 2, 3, 2 * CLASSES])
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_images_and_their_gradients_equal_the_plain_version(mixed: int, probability: float) -> None:
    images = started(mixed, probability)
    rng = torch.Generator()
    rng.set_state(images.rng.get_state())
    noise = torch.randn(N, mixed, TINY["latent"], generator=rng)
    weight = small.randn(N, *small.COLOUR.shape, seed=4)
    net, table = deepcopy(images.net), images.labels.weight.detach().double().requires_grad_()
    told = [
        naive.mixed_input(table, labels, z, w)
        for labels, z, w in zip(images.members.tolist(), noise.double(), images.weights.double(), strict=True)
    ]
    expected = net(torch.stack(told).float())
    (expected * weight).sum().backward()
    made = images.images()
    (made * weight).sum().backward()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    wanted = table.grad
    error = (images.labels.weight.grad.double() - wanted).abs().max()
    assert error < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("mixed", [1, 2, 3, 4 * CLASSES])
def test_shares_are_weights_summed_by_class(mixed: int) -> None:
    labels = torch.randint(0, CLASSES, (8, mixed), generator=small.rng())
    small.assert_twins(
        lambda w: (class_shares(labels, w, CLASSES) * small.randn(8, CLASSES, seed=1).to(w)).sum(),
        lambda w: (naive.class_shares(labels.tolist(), w, CLASSES) * small.randn(8, CLASSES, seed=1)).sum(),
        small.rand(8, mixed),
    )


def test_shares_without_images() -> None:
    nothing = torch.empty(0, 2)
    assert class_shares(nothing.long(), nothing, CLASSES).shape == (0, CLASSES)


@pytest.mark.parametrize("mixed", [2, 4])
def test_weights_are_the_softmax_of_normal_noise_in_descending_order(mixed: int) -> None:
    images = started(mixed, targets=torch.zeros(20_000, dtype=torch.int64))
    assert torch.allclose(images.weights.sum(1), torch.ones(20_000))
    assert bool((images.weights.diff(dim=1) <= 0).all())
    noise = torch.randn(20_000, mixed, generator=small.rng(9)).softmax(1).sort(1, descending=True).values
    assert torch.allclose(images.weights.mean(0), noise.mean(0), atol=0.01)
    assert images.members[:, 1:].unique().tolist() == list(range(CLASSES))


def test_a_batch_is_mixed_with_the_probability_and_as_a_whole() -> None:
    images, mixed = started(probability=0.25), 0
    for _ in range(400):
        images.start(TARGETS, OPTIMISER)
        lone = images.weights[:, 0] == 1
        assert bool(lone.all()) or not bool(lone.any())
        mixed += not bool(lone.any())
        assert torch.equal(images.members[:, 0], TARGETS)
        if bool(lone.all()):
            assert torch.equal(images.shares, F.one_hot(TARGETS, CLASSES).float())
    assert 70 < mixed < 130


def test_of_two_labels_the_drawn_one_leads() -> None:
    """So batches of so many images a class stay such."""
    for seed in range(20):
        assert torch.equal(labels_of(started(2, seed=seed).shares), TARGETS)


def test_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="mixed=0"):
        MixedGenerator(mixed=0).build(small.COLOUR, CPU, 0)


def test_the_vectors_of_all_members_are_trained(problem: Problem) -> None:
    images = started(3)
    before = images.labels.weight.detach().clone()
    images.step(loss_of(problem, images.images()))
    moved = (images.labels.weight.detach() != before).any(1)
    assert set(moved.nonzero().flatten().tolist()) == set(images.members.unique().tolist())


def test_a_state_holds_the_mixture() -> None:
    images = started(3)
    again = MixedGenerator(**TINY, mixed=3).build(small.COLOUR, CPU, 1)
    again.load_state_dict(small.reloaded(images.state_dict()))
    again.attach(N, images.rng)
    position = images.rng.get_state()
    expected = images.images()
    images.rng.set_state(position)
    assert torch.equal(again.images(), expected)
    assert again.shares is not None and torch.equal(again.shares, images.shares)


# Soft targets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["teacher", "student"])
def test_cross_entropies_follow_the_shares(net: str) -> None:
    weighted = one_hot(1.0) if net == "teacher" else cross_entropy()
    term = weighted.build(TermContext(small.COLOUR, {}))
    shares = small.rand(6, CLASSES).softmax(1)

    def fast(logits: Tensor) -> Tensor:
        context = small.context(targets=labels_of(shares), **{net: Observation(logits=logits)})
        context.shares = shares
        return term(context)

    small.assert_twins(fast, lambda z: naive.soft_cross_entropy(z, shares.double()), small.randn(6, CLASSES))


def test_terms_find_labels_beside_the_shares() -> None:
    problem = shared_problem()
    objective = Objective([one_hot(1.0)], TermContext(problem.domain, {"teacher": problem.teacher}))
    x, labels = small.rand(4, *problem.domain.shape), torch.tensor([0, 3, 1, 1])
    for targets in (labels, F.one_hot(labels, 4).float() * 0.6 + 0.1):
        _, _, ctx = objective(x, targets, {"global": x}, Streams("cpu"), Progress())
        assert torch.equal(ctx.targets, labels) and ctx.cross_entropy_targets is targets


# The method -----------------------------------------------------------------------------------------------------


def shrunk(method: str = "qimera[mixing=0.5]", **changes: Any) -> Recipe:
    recipe = resolve(method).recipe
    assert isinstance(recipe.images, MixedGenerator)
    rounds = Rounds(2, 4, 4, synthesis_batch=10, batch=10, interleaved=True)
    return replace(recipe, images=replace(recipe.images, **TINY), rounds=rounds, **changes)


RECIPES = {
    "qimera": shrunk(),
    "many labels": shrunk("qimera[mixing=1,labels=9]"),
    "qimera+rgal": shrunk("qimera[mixing=0.5]+rgal"),
    "rounds": shrunk(source="pool", keep="best"),
}
RECIPES["rounds"] = replace(RECIPES["rounds"], rounds=Rounds(3, 3, 2, synthesis_batch=10, batch=8))


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_ends_with_the_same_numbers(name: str) -> None:
    assert_resumes(RECIPES[name], (1, 2, 3, 6, 11))


def test_the_student_sees_shares_and_the_pool_labels() -> None:
    told: list[tuple[Tensor, Tensor]] = []
    transfer = make_run(shrunk("qimera[mixing=1]"), on_images=lambda *batch: told.append(batch))
    trained, train = [], transfer.loop.step

    def step(batch: StudentBatch, *more: Any) -> Any:
        trained.append((batch.images, batch.targets))
        return train(batch, *more)

    transfer.loop.step = step  # type: ignore[method-assign]
    finish(transfer)
    assert len(told) == len(trained) == 8
    for (shown, labels), (images, targets) in zip(told, trained, strict=True):
        assert torch.equal(shown, images) and labels.shape == (10,) and labels.dtype == torch.int64
        assert targets.shape == (10, small.GREY.classes) and torch.equal(targets.argmax(1), labels)
        assert torch.allclose(targets.sum(1), torch.ones(10)) and targets.max() < 1 + 1e-6
    assert any(bool((targets > 0).sum(1).gt(1).any()) for _, targets in trained)
    assert torch.equal(transfer.pool.targets, torch.cat([told[3][1], told[7][1]]))


def test_pairs_double_the_shares_too() -> None:
    rows = finish(make_run(shrunk(pairs=True))).rows
    assert all(row["ce"] > 0 for row in rows if row["kind"] == "student")


def test_without_mixing_shares_are_one_hot() -> None:
    transfer = make_run(shrunk("qimera[mixing=0]"))
    finish(transfer)
    _, targets = transfer.synthesised.latest  # type: ignore[union-attr]
    assert set(targets.unique().tolist()) == {0.0, 1.0}
