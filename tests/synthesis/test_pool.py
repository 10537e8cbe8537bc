"""The image pool: rounding, ring, epochs, state."""

from __future__ import annotations

import math

import pytest
import torch

from rgal.synthesis.pool import ImagePool, to_uint8
from tests.helpers import small
from tests.helpers.pool_builders import SHAPE, epoch, filled, life, numbered

# Writing --------------------------------------------------------------------------------------------------------


def test_pixels_are_rounded_to_nearest() -> None:
    levels = torch.arange(256)
    for offset, expected in ((0.0, levels), (0.49, levels), (-0.49, levels)):
        assert torch.equal(to_uint8((levels + offset) / 255).int(), expected.int())
    assert to_uint8(torch.tensor([-3.0, 7.0])).tolist() == [0, 255]


def test_rounding_leaves_no_bias_and_its_input_alone() -> None:
    images = small.rand(64, 3, 16, 16)
    before = images.clone()
    error = to_uint8(images).float() / 255 - images
    assert torch.equal(images, before)
    assert error.abs().max() <= 0.5 / 255 + 1e-6 and error.mean().abs() < 1e-4


def test_float_and_uint8_images_are_the_same_images() -> None:
    images, labels = numbered(0, 5)
    floats, bytes_ = ImagePool(SHAPE), ImagePool(SHAPE)
    floats.add(images.float() / 255, labels)
    bytes_.add(images, labels)
    assert torch.equal(floats.images, bytes_.images) and torch.equal(floats.targets, bytes_.targets)
    assert floats.images.dtype == torch.uint8 and floats.targets.dtype == torch.int64


@pytest.mark.parametrize("count", [1, 7, 30, 100])
def test_images_are_kept_in_order(count: int) -> None:
    pool = filled(count)
    assert len(pool) == pool.added == count
    images, labels = numbered(0, count)
    assert torch.equal(pool.images, images) and torch.equal(pool.targets, labels)


@pytest.mark.parametrize("batch", [1, 3, 5, 8, 9, 20])
@pytest.mark.parametrize("count", [5, 8, 9, 16, 37])
def test_a_full_pool_holds_the_newest_images(count: int, batch: int) -> None:
    pool = filled(count, capacity=8, batch=batch)
    assert len(pool) == min(count, 8)
    assert sorted(pool.targets.tolist()) == list(range(max(0, count - 8), count))
    assert torch.equal(pool.images[:, 0, 0, 0].long(), pool.targets)


def test_storage_doubles_so_that_appending_is_cheap() -> None:
    pool, sizes = ImagePool(SHAPE), set()
    for number in range(200):
        pool.add(*numbered(number, 1))
        sizes.add(len(pool._images))
    assert len(sizes) <= 9 and max(sizes) <= 400
    assert len(filled(100, capacity=10, batch=1)._images) == 10


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity of at least one"):
        ImagePool(SHAPE, capacity=capacity)


# Sampling -------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_every_image_once() -> None:
    pool, rng = filled(12), small.rng()
    first, second = epoch(pool, 3, 4, rng), epoch(pool, 3, 4, rng)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second and first != sorted(first)


def test_batches_are_full_where_the_epoch_does_not_divide() -> None:
    pool, rng = filled(10), small.rng()
    drawn = []
    for _ in range(5):
        images, labels = pool.sample(4, rng)
        assert images.shape == (4, *SHAPE)
        drawn += labels.tolist()
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))


def test_a_batch_may_be_larger_than_the_pool() -> None:
    labels = filled(3).sample(10, small.rng())[1].tolist()
    assert sorted(labels[:9]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_samples_are_floats_with_their_labels() -> None:
    images, labels = filled(9).sample(6, small.rng())
    assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)


def test_samples_are_copies() -> None:
    pool = filled(4)
    pool.sample(4, small.rng())[0].fill_(1)
    assert torch.equal(pool.images, numbered(0, 4)[0])


@pytest.mark.parametrize("size", [1, 3, 5, 8, 11])
def test_new_images_begin_a_new_order_over_all(size: int) -> None:
    """Every image once before any twice, whatever batches cross the epoch's end."""
    pool, rng = filled(6), small.rng()
    for start in (6, 8, 13):
        epoch(pool, 1, 4, rng)  # leaves the epoch unfinished
        pool.add(*numbered(start, 5))
        drawn = epoch(pool, 12, size, rng)
        whole = len(drawn) // len(pool) * len(pool)
        for first in range(0, whole, len(pool)):
            assert sorted(drawn[first : first + len(pool)]) == sorted(pool.targets.tolist())


def test_a_rounds_own_images_are_seen_in_their_round() -> None:
    """As many draws as there are images to be seen, in every round: a release's new data loader shows each once."""
    rounds, images, batch, steps = (
        50,
        8,
        4,
        100,
    )  # the published 200, 256, 128 and 400, an eighth to a quarter of them
    pool, rng = ImagePool(SHAPE), small.rng()
    draws = []
    for number in range(rounds):
        labels = torch.arange(number * images, (number + 1) * images)
        pool.add(torch.zeros(images, *SHAPE, dtype=torch.uint8), labels)
        drawn = torch.tensor(epoch(pool, steps, batch, rng))
        draws.append(int((drawn >= number * images).sum()))
        assert set(drawn.tolist()) == set(range(len(pool)))
    for number, count in enumerate(draws[-10:], start=rounds - 9):
        epochs = steps * batch / (number * images)  # 1.25 to 1
        assert images <= count <= images * math.ceil(epochs), number


def test_adding_no_image_goes_on_with_the_order() -> None:
    pool, rng = filled(6), small.rng()
    first = epoch(pool, 1, 3, rng)
    pool.add(*numbered(6, 0))
    assert sorted(first + epoch(pool, 1, 3, rng)) == list(range(6))


def test_batches_by_class_hold_new_images_at_once() -> None:
    pool, rng = ImagePool(SHAPE), small.rng()
    pool.add(torch.zeros(4, *SHAPE), torch.tensor([0, 0, 1, 1]))
    assert pool.sample(4, rng, per_class=2)[1].unique().tolist() == [0, 1]
    pool.add(torch.zeros(2, *SHAPE), torch.tensor([2, 2]))
    assert pool.sample(6, rng, per_class=2)[1].unique().tolist() == [0, 1, 2]


def test_sampling_depends_on_the_generator_alone() -> None:
    orders = [epoch(filled(20), 2, 10, small.rng(seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_an_empty_pool_says_so() -> None:
    with pytest.raises(ValueError, match="the image pool is empty"):
        ImagePool(SHAPE).sample(1, small.rng())


# State ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [None, 12])
@pytest.mark.parametrize("taken", [0, 1, 4])
@pytest.mark.parametrize("grown", [False, True])
def test_a_restored_pool_goes_on_with_the_same_samples(grown: bool, taken: int, capacity: int | None) -> None:
    pool, rng = filled(15, capacity), small.rng()
    epoch(pool, taken, 4, rng)
    if grown:
        pool.add(*numbered(15, 5))
    state, generator = small.reloaded(pool.state_dict()), rng.get_state()
    again, again_rng = ImagePool(SHAPE, capacity=capacity), small.rng(9)
    again.load_state_dict(state)
    again_rng.set_state(generator)
    assert life(pool, rng) == life(again, again_rng)
    assert torch.equal(pool.images, again.images) and pool.added == again.added


def test_a_state_without_contents_keeps_only_the_place() -> None:
    pool, rng = filled(10), small.rng()
    epoch(pool, 1, 4, rng)
    state = small.reloaded(pool.state_dict(contents=False))
    assert set(state) == {"order", "cursor"}
    again = filled(10)
    again.load_state_dict(state)
    assert epoch(again, 1, 6, rng) == epoch(pool, 1, 6, rng)


def test_a_stored_state_does_not_follow_the_live_pool() -> None:
    pool = filled(8, capacity=8)
    state = pool.state_dict()
    pool.add(*numbered(50, 8))
    assert torch.equal(state["targets"], torch.arange(8))


@pytest.mark.parametrize("labels", [[3, 1, 3, 3, 1, 3, 8, 1], [5] * 40 + list(range(20, 32)), [2, 2]])
@pytest.mark.parametrize(("n", "per_class"), [(4, 2), (11, 3), (24, 4)])
def test_batches_by_class_are_those_of_a_sort_of_the_whole_pool(
    labels: list[int], n: int, per_class: int
) -> None:
    """Whether the labels are balanced or not: the classes in a random order, the images of each by a random key."""
    pool = ImagePool((1, 1, 1))
    pool.add(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(labels))
    rng, twin = (torch.Generator().manual_seed(7) for _ in range(2))
    for _ in range(3):
        images, _ = pool.sample(n, rng, per_class)
        keys = torch.rand(len(labels), generator=twin, dtype=torch.float64).tolist()
        classes = sorted(set(labels))
        order = [classes[i] for i in torch.randperm(len(classes), generator=twin).tolist()]
        expected = []
        for slot in range(n):
            label, turn = order[slot // per_class % len(order)], slot // per_class // len(order)
            rows = sorted((i for i, y in enumerate(labels) if y == label), key=keys.__getitem__)
            expected.append(rows[(slot % per_class + turn * per_class) % len(rows)])
        assert images.mul(255).round().flatten().tolist() == expected
