"""Suppliers of student batches beside lists of images, and what the student is shown of a batch."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.batches import (
    NEXT_BATCH,
    Augmentation,
    BatchSupply,
    GeneratorSupply,
    LastBatchSupply,
    PoolSupply,
    StudentBatch,
)
from rgal.synthesis.image_source import ImageSource
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.views import identity
from tests.helpers import small

SHAPE = small.GREY.shape


def numbered_pool(count: int = 12) -> ImagePool:
    """Images whose pixels are their number / 255 and whose label is their number."""
    pool = ImagePool(SHAPE)
    numbers = torch.arange(count)
    pool.add((numbers / 255).view(-1, 1, 1, 1).expand(-1, *SHAPE), numbers)
    return pool


def numbers(batch: StudentBatch) -> list[int]:
    """The numbers of a batch's images, each of which has its number as label."""
    values = (batch.images[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(values, batch.targets) and batch.images.shape[1:] == SHAPE
    return cast(list[int], values.tolist())


class Counting(ImageSource):
    """A generator whose k-th image is k / 255 everywhere; it notes the generator of its draws."""

    def __init__(self) -> None:
        super().__init__(small.GREY, torch.device("cpu"))
        self.made = 0
        self.generators: list[torch.Generator] = []

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        self.generators.append(rng)
        values = torch.arange(self.made, self.made + n) / 255
        self.made += n
        return values.view(-1, 1, 1, 1).expand(-1, *SHAPE)


class Parity(nn.Module):
    """A teacher: images of an even number are of class 0, the others of class 1."""

    def forward(self, x: Tensor) -> Tensor:
        values = (small.GREY.denormalise(x)[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(values % 2, 4).float()


# Pools ----------------------------------------------------------------------------------------------------------


def test_a_pool_supplies_what_it_samples_on_the_given_stream() -> None:
    supply, streams = PoolSupply(numbered_pool(), Streams("cpu", 1), 5), Streams("cpu", 1)
    twin = numbered_pool()
    for _ in range(6):
        images, targets = twin.sample(5, streams.get(NEXT_BATCH))
        batch = supply.next()
        assert torch.equal(batch.images, images) and torch.equal(batch.targets, targets)
        assert not batch.groups and len(numbers(batch)) == 5


def test_every_image_comes_once_before_any_comes_again() -> None:
    supply = PoolSupply(numbered_pool(12), Streams("cpu", 2), 4)
    drawn = [number for _ in range(3) for number in numbers(supply.next())]
    assert sorted(drawn) == list(range(12))


def test_purposes_draw_apart() -> None:
    one = PoolSupply(numbered_pool(), Streams("cpu", 1), 6)
    other = PoolSupply(numbered_pool(), Streams("cpu", 1), 6, purpose="replayed batches")
    assert numbers(one.next()) != numbers(other.next())


def test_batches_of_classes() -> None:
    pool = ImagePool(SHAPE)
    pool.add(small.rand(40, *SHAPE), torch.arange(40) % 8)
    labels = PoolSupply(pool, Streams("cpu", 1), 12, per_class=4).next().targets
    assert sorted(torch.bincount(labels).tolist())[-3:] == [4, 4, 4] and len(labels.unique()) == 3


def test_a_supply_of_real_images_stores_its_place_and_no_image() -> None:
    streams = Streams("cpu", 3)
    supply = PoolSupply(numbered_pool(), streams, 5, real=True)
    supply.next()
    state, draws = small.reloaded(supply.state_dict()), streams.state_dict()
    assert "images" not in state["pool"]
    again_streams = Streams("cpu", 3)
    again_streams.load_state_dict(draws)
    again = PoolSupply(numbered_pool(), again_streams, 5, real=True)
    again.load_state_dict(state)
    assert [numbers(again.next()) for _ in range(4)] == [numbers(supply.next()) for _ in range(4)]


def test_a_supply_of_synthesised_images_stores_nothing() -> None:
    supply = PoolSupply(numbered_pool(), Streams("cpu", 3), 5)
    assert supply.state_dict() == {}
    supply.load_state_dict({})


# The last batch -------------------------------------------------------------------------------------------------


def test_the_last_batch_is_handed_over_as_it_is() -> None:
    supply = LastBatchSupply()
    with pytest.raises(RuntimeError, match="before any image was synthesised"):
        supply.next()
    for seed in range(3):
        supply.latest = small.rand(4, *SHAPE, seed=seed), torch.arange(4)
        for _ in range(2):
            batch = supply.next()
            assert batch.images is supply.latest[0] and batch.targets is supply.latest[1]
    again = LastBatchSupply()
    again.load_state_dict(small.reloaded(supply.state_dict()))
    assert torch.equal(again.next().images, supply.next().images)


# A generator ----------------------------------------------------------------------------------------------------


def generator_supply(pool: ImagePool, shown: list[bool]) -> tuple[GeneratorSupply, Counting, Streams]:
    source, streams, marks = Counting(), Streams("cpu", 4), iter(shown)
    problem = Problem(Parity(), small.GREY, torch.device("cpu"))
    return GeneratorSupply(source, problem, streams, 3, pool, lambda: next(marks)), source, streams


def test_a_generator_supplies_fresh_images_and_the_pool_keeps_those_to_look_at() -> None:
    pool = ImagePool(SHAPE)
    supply, source, streams = generator_supply(pool, [False, True, False, True])
    for step in range(4):
        batch = supply.next()
        values = (batch.images[:, 0, 0, 0] * 255).round().tolist()
        assert values == [3 * step, 3 * step + 1, 3 * step + 2] and not batch.targets.any()
        assert supply.drawn == 3 * (step + 1)
    assert pool.images[:, 0, 0, 0].tolist() == [3, 4, 5, 9, 10, 11]
    assert pool.targets.tolist() == [1, 0, 1, 1, 0, 1]
    assert all(generator is streams.get(NEXT_BATCH) for generator in source.generators)


def test_a_generator_supply_stores_how_many_it_drew() -> None:
    supply, _, _ = generator_supply(ImagePool(SHAPE), [False] * 2)
    supply.next()
    again, _, _ = generator_supply(ImagePool(SHAPE), [False])
    again.load_state_dict(small.reloaded(supply.state_dict()))
    assert again.drawn == 3


def test_every_supplier_keeps_the_contract() -> None:
    supplies: list[BatchSupply] = [
        PoolSupply(numbered_pool(), Streams("cpu", 1), 2),
        LastBatchSupply(),
        generator_supply(ImagePool(SHAPE), [])[0],
    ]
    assert all(isinstance(supply.state_dict(), dict) for supply in supplies)


# What the student is shown --------------------------------------------------------------------------------------


def batch_of(count: int) -> StudentBatch:
    return StudentBatch(small.rand(count, *SHAPE), torch.arange(count))


def test_an_augmentation_shows_each_image_through_the_view() -> None:
    batch, streams = batch_of(5), Streams("cpu", 5)
    same, shown = Augmentation()(batch, small.GREY, streams)
    expected = Augmentation().view(batch.images, small.GREY, Streams("cpu", 5).get("student view"))
    assert same is batch and torch.equal(shown, expected)


def test_pairs_double_images_and_targets() -> None:
    batch = batch_of(3)
    doubled, shown = Augmentation(identity, pairs=True)(batch, small.GREY, Streams("cpu", 5))
    assert torch.equal(doubled.images, torch.cat([batch.images, batch.images]))
    assert doubled.targets.tolist() == [0, 1, 2, 0, 1, 2] and torch.equal(shown, doubled.images)


def test_fmix_mixes_what_is_shown_and_not_the_batch() -> None:
    batch = batch_of(6)
    same, shown = Augmentation(identity, fmix=True)(batch, small.GREY, Streams("cpu", 5))
    assert same is batch and shown.shape == batch.images.shape and not torch.equal(shown, batch.images)
