"""Batches of so many images of each of their classes: the student's, out of the pool, and the targets of synthesis."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from rgal.core.seeding import Streams
from rgal.engine.batches import StudentBatch
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.pool import ImagePool
from tests.helpers import small
from tests.helpers.runs import ROUNDS, finish, make_run, named, shared_problem

SHAPE = (1, 2, 3)


def pool_of(*labels: int, capacity: int | None = None) -> ImagePool:
    """Images whose pixels are their number, in a mixed order of labels."""
    pool = ImagePool(SHAPE, capacity=capacity)
    mixed = torch.tensor(labels)[torch.randperm(len(labels), generator=small.rng(5))]
    add(pool, *mixed.tolist())
    return pool


def add(pool: ImagePool, *labels: int) -> None:
    for label in labels:
        image = torch.full((1, *SHAPE), pool.added, dtype=torch.uint8)
        pool.add(image, torch.tensor([label]))


def draw(pool: ImagePool, n: int, per_class: int, rng: torch.Generator) -> dict[int, list[int]]:
    """Class -> numbers of its images in a batch of n; every image with its own label."""
    images, labels = pool.sample(n, rng, per_class)
    assert images.shape == (n, *SHAPE) and images.dtype == torch.float32 and labels.shape == (n,)
    numbers = (images[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(images, (numbers / 255).view(-1, 1, 1, 1).expand(-1, *SHAPE))
    owner = dict(zip(pool.images[:, 0, 0, 0].tolist(), pool.targets.tolist(), strict=True))
    counts: dict[int, list[int]] = {}
    for number, label in zip(numbers.tolist(), labels.tolist(), strict=True):
        assert owner[number] == label
        counts.setdefault(label, []).append(number)
    return counts


def sizes(batch: dict[int, list[int]]) -> list[int]:
    return sorted(map(len, batch.values()), reverse=True)


def unrepeated(batch: dict[int, list[int]]) -> bool:
    return all(len(set(numbers)) == len(numbers) for numbers in batch.values())


SIX_OF_TEN = [label for label in range(10) for _ in range(6)]


# Out of the pool ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "per_class", "expected"),
    [
        (12, 4, [4, 4, 4]),
        (12, 6, [6, 6]),
        (14, 4, [4, 4, 4, 2]),
        (3, 4, [3]),
        (10, 1, [1] * 10),
        (1, 1, [1]),
    ],
)
def test_as_many_different_images_of_each_drawn_class(n: int, per_class: int, expected: list[int]) -> None:
    pool, rng = pool_of(*SIX_OF_TEN), small.rng()
    for _ in range(20):
        batch = draw(pool, n, per_class, rng)
        assert sizes(batch) == expected and unrepeated(batch)


@pytest.mark.parametrize(
    ("classes", "n", "per_class", "expected"),
    [(2, 12, 2, [6, 6]), (3, 8, 2, [4, 2, 2]), (2, 20, 3, [11, 9]), (1, 7, 4, [7]), (3, 7, 1, [3, 2, 2])],
)
def test_fewer_classes_than_groups_take_turns(
    classes: int, n: int, per_class: int, expected: list[int]
) -> None:
    """A class goes on with new images at each of its turns."""
    pool, rng = pool_of(*(label for label in range(classes) for _ in range(12))), small.rng()
    for _ in range(20):
        batch = draw(pool, n, per_class, rng)
        assert sizes(batch) == expected and unrepeated(batch)


@pytest.mark.parametrize(("n", "per_class"), [(8, 4), (9, 3), (11, 8)])
def test_a_class_with_fewer_images_repeats_them_evenly(n: int, per_class: int) -> None:
    pool, rng = pool_of(0, 0, *[1] * 20), small.rng()
    for _ in range(20):
        batch = draw(pool, n, per_class, rng)
        rare = Counter(batch.get(0, []))
        assert len(set(batch[1])) == len(batch[1])
        if sum(rare.values()) > 1:
            assert len(rare) == 2 and max(rare.values()) - min(rare.values()) <= 1


def test_one_class_and_one_image() -> None:
    assert draw(pool_of(7), 5, 4, small.rng()) == {7: [0] * 5}
    assert sorted(draw(pool_of(3, 3, 3, 3), 4, 2, small.rng())[3]) == [0, 1, 2, 3]


def test_gaps_between_labels_are_never_drawn() -> None:
    pool, rng = pool_of(*[2] * 5, *[40] * 5, *[999] * 5), small.rng()
    labels: set[int] = set()
    for _ in range(30):
        batch = draw(pool, 4, 2, rng)
        assert sizes(batch) == [2, 2] and unrepeated(batch)
        labels |= set(batch)
    assert labels == {2, 40, 999}


def test_class_batches_depend_on_the_generator_alone() -> None:
    def run(seed: int, global_seed: int) -> list[dict[int, list[int]]]:
        torch.manual_seed(global_seed)
        pool, rng = pool_of(*SIX_OF_TEN), small.rng(seed)
        return [draw(pool, 8, 4, rng) for _ in range(5)]

    assert run(1, 1) == run(1, 2) != run(2, 1)
    first, *rest = run(1, 1)
    assert first not in rest


def test_class_batches_leave_the_shuffled_order_where_it_is() -> None:
    ones = []
    for between in (False, True):
        pool, rng = pool_of(*SIX_OF_TEN), small.rng()
        first = pool.sample(10, rng)[1]
        if between:
            draw(pool, 8, 4, small.rng(9))
        ones.append(torch.cat([first, pool.sample(50, rng)[1]]))
    assert torch.equal(*ones)


def test_the_empty_pool_says_so() -> None:
    with pytest.raises(ValueError, match="the image pool is empty"):
        ImagePool(SHAPE).sample(4, small.rng(), per_class=2)


def within(count: int, trials: float, p: float) -> bool:
    """Whether a count is less than five deviations from what is expected."""
    return abs(count - trials * p) < 5 * (trials * p * (1 - p)) ** 0.5 + 1


def test_classes_are_drawn_alike_and_images_alike_inside_a_class() -> None:
    """However unequal the classes; and every two classes, and every two images of a class, meet as often."""
    counts = {0: 4, 1: 5, 3: 8, 4: 16, 7: 30}
    pool, rng = pool_of(*(label for label, count in counts.items() for _ in range(count))), small.rng()
    drawn, images, trials = Counter[int](), Counter[int](), 1000
    two_classes, two_images = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for _ in range(trials):
        batch = draw(pool, 8, 4, rng)
        drawn.update(list(batch))
        images.update(number for numbers in batch.values() for number in numbers)
        two_classes.update(combinations(sorted(batch), 2))
        two_images.update(combinations(sorted(batch.get(4, [])), 2))
    assert drawn.keys() == counts.keys() and all(within(times, trials, 2 / 5) for times in drawn.values())
    assert len(two_classes) == 10 and all(within(times, trials, 1 / 10) for times in two_classes.values())
    for number, label in enumerate(pool.targets.tolist()):
        assert within(images[number], drawn[label], 4 / counts[label])
    for two in combinations((pool.targets == 4).nonzero().flatten().tolist(), 2):
        assert within(two_images[two], drawn[4], 4 * 3 / (16 * 15))


def test_new_images_and_new_classes_join_at_once() -> None:
    pool, rng = pool_of(0, 0, 1, 1), small.rng()
    assert set(draw(pool, 8, 2, rng)) == {0, 1}
    add(pool, 0, 5, 5)
    assert draw(pool, 10, 2, rng).keys() == {0, 1, 5}
    assert {number for _ in range(30) for number in draw(pool, 6, 2, rng)[0]} >= {4}


def test_a_class_that_was_overwritten_is_drawn_no_more() -> None:
    pool, rng = pool_of(0, 0, 0, 0, capacity=4), small.rng()
    draw(pool, 4, 2, rng)
    add(pool, 3, 3, 3)
    for _ in range(10):
        assert sizes(draw(pool, 4, 2, rng)) == [2, 2]
    add(pool, 3)
    assert draw(pool, 4, 2, rng).keys() == {3}


@pytest.mark.parametrize("capacity", [None, 7])
def test_a_restored_pool_draws_the_same_class_batches(capacity: int | None) -> None:
    pool, rng = pool_of(0, 1, 1, 2, 2, 2, 3, 3, 3, 3, capacity=capacity), small.rng()
    draw(pool, 6, 2, rng)
    again, other = pool_of(9, 9, capacity=capacity), small.rng()
    draw(again, 4, 2, other)  # so that it has counted its old images
    again.load_state_dict(small.reloaded(pool.state_dict()))
    other.set_state(rng.get_state())
    for label in (4, 4, 0):
        assert draw(pool, 9, 3, rng) == draw(again, 9, 3, other)
        add(pool, label)
        add(again, label)


# Targets of synthesis -------------------------------------------------------------------------------------------


def targets(n: int, per_class: int, rounds: int = 1) -> list[Tensor]:
    """Those of some rounds; the domain has four classes."""
    recipe = named("plain", images=Pixels(), per_class=per_class, rounds=replace(ROUNDS, synthesis_batch=n))
    inversion = Inversion(
        recipe.inversion(),
        shared_problem(),
        {"student": small.student(small.GREY)},
        Streams("cpu", "targets"),
        "fp32",
    )
    drawn = []
    for _ in range(rounds):
        inversion.begin()
        drawn.append(inversion.targets)
    return drawn


@pytest.mark.parametrize(
    ("n", "per_class", "expected"),
    [
        (8, 4, [4, 4]),
        (16, 4, [4, 4, 4, 4]),
        (6, 4, [4, 2]),
        (3, 4, [3]),
        (10, 2, [4, 2, 2, 2]),
        (20, 4, [8, 4, 4, 4]),
        (7, 1, [2, 2, 2, 1]),
    ],
)
def test_targets_are_sorted_groups_of_a_class(n: int, per_class: int, expected: list[int]) -> None:
    rounds = targets(n, per_class, 10)
    for labels in rounds:
        assert torch.equal(labels, labels.sort().values) and labels.dtype == torch.int64
        assert sorted(Counter(labels.tolist()).values(), reverse=True) == expected
    if len(set(expected)) > 1 or len(expected) < 4:
        assert len({tuple(labels.tolist()) for labels in rounds}) > 1


@pytest.mark.parametrize("per_class", [0, 2, 3])
def test_every_class_is_as_likely_a_target(per_class: int) -> None:
    rounds = 400
    counts = Counter(label for labels in targets(6, per_class, rounds) for label in labels.tolist())
    assert sorted(counts) == [0, 1, 2, 3]
    assert all(abs(count - 6 * rounds / 4) < 5 * (6 * rounds) ** 0.5 for count in counts.values())


def test_a_recipe_of_class_batches_synthesises_and_trains_on_them() -> None:
    recipe = named("plain", per_class=2, rounds=replace(ROUNDS, synthesis_batch=6, batch=4))
    transfer = make_run(recipe)
    train, batches = transfer.loop.step, []

    def step(batch: StudentBatch, *more: object) -> object:
        batches.append(batch.targets)
        return train(batch, *more)  # type: ignore[arg-type]

    transfer.loop.step = step  # type: ignore[method-assign]
    outcome = finish(transfer)
    for made in outcome.pool[1].view(3, 6):
        assert sorted(Counter(made.tolist()).values()) == [2, 2, 2]
    assert len(batches) == 6
    assert all(sorted(Counter(labels.tolist()).values()) == [2, 2] for labels in batches)
