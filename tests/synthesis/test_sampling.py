"""Batches by priority, their weights, and which images make room in a pool that is full."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.observe import Observation
from rgal.core.problem import Problem
from rgal.methods.recipe import Recipe
from rgal.methods.registry import resolve
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.sampling import Memory, Prioritised, least_priority, oldest
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, Reads, stateless
from rgal.terms.transfer import cross_entropy, distillation
from tests.helpers import small
from tests.helpers.runs import ROUNDS, assert_resumes, finish, make_run, named, shared_problem

SHAPE = small.GREY.shape


def pool_of(priorities: list[float], capacity: int | None = None) -> ImagePool:
    pool = ImagePool(SHAPE, capacity=capacity)
    count = len(priorities)
    pool.add(small.rand(count, *SHAPE), torch.arange(count) % 3)
    pool.set_priorities(torch.arange(count), torch.tensor(priorities))
    return pool


def test_images_are_drawn_as_often_as_their_priority_says_and_weighed_back() -> None:
    priorities = [1.0, 2.0, 0.0, 5.0]
    rows, weights = Prioritised().draw(pool_of(priorities), 40_000, small.rng(), fraction=1.0)
    shares = torch.bincount(rows, minlength=4) / len(rows)
    torch.testing.assert_close(shares, torch.tensor(priorities) / 8, atol=0.01, rtol=0)
    # At the end the weights undo the frequencies: every image that is drawn at all counts the same.
    sums = torch.zeros(4).index_add(0, rows, weights)
    assert sums[[0, 1, 3]].std() / sums[3] < 0.03 and weights.max() == 1


@pytest.mark.parametrize(("fraction", "power"), [(0.0, 0.4), (0.5, 0.7), (1.0, 1.0)])
def test_weights_are_those_of_the_formula(fraction: float, power: float) -> None:
    pool = pool_of([0.5, 1.5, 2.0])
    rows, weights = Prioritised(exponent=0.6).draw(pool, 50, small.rng(), fraction)
    mass = [p**0.6 for p in (0.5, 1.5, 2.0)]
    by_hand = [(3 * mass[row] / sum(mass)) ** -power for row in rows.tolist()]
    torch.testing.assert_close(weights, torch.tensor(by_hand) / max(by_hand))


def test_new_images_have_the_largest_priority_and_rows_that_come_twice_the_larger() -> None:
    pool = pool_of([0.5, 3.0])
    pool.add(small.rand(2, *SHAPE), torch.tensor([0, 1]))
    assert pool.priorities.tolist() == [0.5, 3.0, 3.0, 3.0] and pool.born.tolist() == [0, 1, 2, 3]
    pool.set_priorities(torch.tensor([1, 1, 0]), torch.tensor([0.25, 0.125, 4.0]))
    assert pool.priorities.tolist() == [4.0, 0.25, 3.0, 3.0]
    assert pool.class_counts(4).tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize(
    ("rank", "stay"), [(oldest, {4, 5, 3}), (least_priority, {1, 4, 5}), ("label", {3, 4, 5})]
)
def test_images_of_the_lowest_rank_make_room(rank: object, stay: set[int]) -> None:
    """Of four images in a pool of three the fourth takes the place of one, then two more come."""
    chosen = rank if callable(rank) else lambda pool, problem: pool.targets.float()
    pool, memory = pool_of([1.0, 9.0, 2.0], capacity=3), Memory(3, chosen)
    problem = shared_problem()
    for label in (1, 2):
        count = label
        room = memory.making_room(pool, problem)
        pool.add(small.rand(count, *SHAPE), torch.full((count,), 3 if label == 2 else 2), room)
        if label == 1:
            pool.set_priorities((pool.born == 3).nonzero()[:, 0], torch.tensor([1.5]))
    assert set(pool.born.tolist()) == stay and len(pool) == 3


def test_a_pool_that_is_not_full_is_filled_first() -> None:
    pool = pool_of([1.0, 1.0], capacity=4)
    pool.add(small.rand(3, *SHAPE), torch.tensor([7, 8, 9]), torch.tensor([1, 0]))
    assert pool.born.tolist() == [0, 4, 2, 3] and pool.targets.tolist() == [0, 9, 7, 8]


# In a run -------------------------------------------------------------------------------------------------------


def weighted(ctx: Context) -> Tensor:
    losses = kl_div(ctx.of("student").logits, ctx.of("teacher").logits, reduction="none")
    ctx.priority = losses.detach()
    return ctx.mean(losses)


def by_priority(**changes: object) -> Recipe:
    term = stateless("kd", 1.0, weighted, Reads("student"), Reads("teacher"))
    changes = {"transfer": (term,), "sampling": Prioritised(), "memory": Memory(14, least_priority)} | changes
    return named("plain", **changes)


def test_a_stopped_run_by_priority_goes_on_bit_for_bit() -> None:
    assert_resumes(by_priority(), (1, 4, 5, 12))


def test_a_term_sets_the_priorities_of_the_images_that_it_saw() -> None:
    transfer = make_run(by_priority(rounds=replace(ROUNDS, count=1, student_steps=1)))
    drawn = []
    taken, draw = transfer.batches.next, None
    transfer.batches.next = lambda: drawn.append(taken()) or drawn[-1]  # type: ignore[method-assign, func-returns-value]
    assert draw is None
    finish(transfer)
    (batch,) = drawn
    assert batch.rows is not None and batch.weights is not None
    changed = (transfer.pool.priorities != 1).nonzero()[:, 0].tolist()
    assert changed == sorted(set(batch.rows.tolist()))


def test_the_pool_holds_what_its_memory_says_and_terms_read_it() -> None:
    seen = []

    def counting(ctx: Context) -> Tensor:
        assert ctx.pool is not None
        seen.append((len(ctx.pool), int(ctx.pool.class_counts(4).sum())))
        return ctx.of("teacher").logits.mean()

    recipe = by_priority(synthesis=(stateless("count", 1.0, counting, Reads("teacher")),))
    finish(make_run(recipe))
    steps = ROUNDS.synthesis_steps
    assert seen == [(0, 0)] * steps + [(10, 10)] * steps + [(14, 14)] * steps


def test_distillation_and_cross_entropy_weigh_their_samples() -> None:
    student, teacher = small.rand(3, 4, seed=1), small.rand(3, 4, seed=2)
    labels, weights = torch.tensor([0, 1, 2]), torch.tensor([1.0, 0.5, 0.25])
    ctx = small.context(student=Observation(student), teacher=Observation(teacher), targets=labels)
    ctx.weights = weights
    values = {
        "kd": sum(w * kl_div(s[None], t[None], 5.0) for w, s, t in zip(weights, student, teacher, strict=True)),
        "ce": sum(w * F.cross_entropy(s[None], y[None]) for w, s, y in zip(weights, student, labels, strict=True)),
    }  # fmt: skip
    for term in (distillation(1.0, 5.0), cross_entropy()):
        found = term.build(None)(ctx)  # type: ignore[arg-type]
        torch.testing.assert_close(found, values[term.name] / 3)


def test_what_no_pool_could_do_is_refused() -> None:
    game = resolve("dafl").recipe
    with pytest.raises(ValueError, match="fills"):
        replace(game, sampling=Prioritised())
    with pytest.raises(ValueError, match="not both"):
        by_priority(per_class=2)


def test_ranks_may_ask_the_teacher() -> None:
    """The image of which the teacher is least sure makes room."""

    def sureness(pool: ImagePool, problem: Problem) -> Tensor:
        logits = problem.teacher(problem.domain.normalise(pool.images.float() / 255))
        return logits.softmax(1).max(1).values

    pool, problem = pool_of([1.0] * 5, capacity=5), shared_problem()
    room = Memory(5, sureness).making_room(pool, problem)
    with torch.no_grad():
        expected = sureness(pool, problem).argmin()
    assert room is not None and room[0] == expected
