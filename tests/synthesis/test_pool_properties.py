"""The image pool against a list that does the same one image at a time, through any history."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from rgal.synthesis.pool import ImagePool
from tests.helpers import small

SHAPE = (1, 1, 1)
HISTORY = st.lists(
    st.tuples(st.just("add"), st.integers(0, 9))
    | st.tuples(st.just("sample"), st.integers(1, 9))
    | st.tuples(st.just("reload"), st.just(0)),
    max_size=12,
)


class ListPool:
    """Numbers in slots, the oldest overwritten; an epoch is a shuffled list of slots, and adding numbers ends it."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.slots: list[int] = []
        self.next = 0
        self.epoch: list[int] = []

    def add(self, numbers: list[int]) -> None:
        if numbers:
            self.epoch = []
        for number in numbers if self.capacity is None else numbers[-self.capacity :]:
            if self.capacity is None or len(self.slots) < self.capacity:
                self.slots.append(number)
            else:
                self.slots[self.next % self.capacity] = number
            self.next += 1

    def sample(self, n: int, rng: torch.Generator) -> list[int]:
        drawn = []
        for _ in range(n):
            if not self.epoch:
                self.epoch = torch.randperm(len(self.slots), generator=rng).tolist()
            drawn.append(self.slots[self.epoch.pop(0)])
        return drawn


def reloaded(pool: ImagePool) -> ImagePool:
    again = ImagePool(SHAPE, capacity=pool.capacity)
    again.load_state_dict(small.reloaded(pool.state_dict()))
    return again


@given(history=HISTORY, capacity=st.none() | st.integers(1, 8))
def test_any_history_leaves_what_the_list_has(history: list[tuple[str, int]], capacity: int | None) -> None:
    pool, twin, made = ImagePool(SHAPE, capacity=capacity), ListPool(capacity), 0
    rng, twins_rng = small.rng(), small.rng()
    for what, count in history:
        if what == "add":
            numbers = torch.arange(made, made + count)
            pool.add(numbers.to(torch.uint8).view(-1, 1, 1, 1), numbers)
            twin.add(numbers.tolist())
            made += count
        elif what == "reload":
            pool = reloaded(pool)
        elif len(pool):
            images, targets = pool.sample(count, rng)
            assert targets.tolist() == twin.sample(count, twins_rng)
            assert torch.equal((images.flatten() * 255).round().long(), targets)
        assert pool.targets.tolist() == twin.slots and len(pool) == len(twin.slots)
        assert torch.equal(pool.images.flatten().long(), pool.targets)


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    per_class=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_a_batch_by_class_holds_whole_classes(labels: list[int], per_class: int, seed: int) -> None:
    """Every class of the batch as often as the others; different images of it as long as there are any."""
    pool = ImagePool(SHAPE)
    pool.add(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(labels))
    present = len(set(labels))
    images, targets = pool.sample(per_class * present, small.rng(seed), per_class)
    rows = (images.flatten() * 255).round().long().tolist()
    assert [labels[row] for row in rows] == targets.tolist()
    assert sorted(targets.tolist()) == sorted([label for label in set(labels) for _ in range(per_class)])
    for label in set(labels):
        mine = [row for row in rows if labels[row] == label]
        assert len(set(mine)) == min(per_class, labels.count(label))
