"""The groups of a class-incremental batch: who comes first, and what is stored of the suppliers."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from rgal.core.seeding import Streams
from rgal.engine.batches import LastBatchSupply, PoolSupply
from rgal.synthesis.pool import ImagePool
from rgal.tasks.class_incremental.groups import (
    IncrementalBatches,
    IncrementalTermData,
    grouped,
    real_images,
    statistics_of,
)
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.terms.objective import TermContext
from tests.helpers import small

SHAPE = small.GREY.shape


def test_groups_part_the_rows_and_none_is_empty() -> None:
    for real, replayed in product(range(4), range(4)):
        groups = grouped(real, real + replayed)
        rows = [row for part in groups.values() for row in range(real + replayed)[part]]
        assert rows == list(range(real + replayed))
        assert [name in groups for name in ("real", "replayed")] == [real > 0, replayed > 0]
        ctx = small.context()
        ctx.groups = groups
        assert real_images(ctx) == real


def test_a_step_of_another_task_has_no_real_images() -> None:
    assert real_images(small.context()) == 0


def real_supply() -> PoolSupply:
    pool = ImagePool(SHAPE)
    pool.add(small.rand(9, *SHAPE), torch.arange(9) % 2 + 4)
    return PoolSupply(pool, Streams("cpu", "real"), 3, real=True)


def replayed_supply(targets: torch.Tensor) -> LastBatchSupply:
    supply = LastBatchSupply()
    supply.latest = small.rand(len(targets), *SHAPE, seed=1), targets
    return supply


def test_real_images_alone() -> None:
    batch, expected = IncrementalBatches(real_supply(), None).next(), real_supply().next()
    assert torch.equal(batch.images, expected.images) and torch.equal(batch.targets, expected.targets)
    assert batch.groups == {"real": slice(0, 3)}


@pytest.mark.parametrize("shares", [False, True])
def test_replayed_images_follow_real_ones(shares: bool) -> None:
    """Mixed images come under the label of their largest share."""
    labels = torch.tensor([1, 0])
    targets = 0.2 + 0.6 * torch.nn.functional.one_hot(labels, 2) if shares else labels
    replayed, expected = replayed_supply(targets), real_supply().next()
    batch = IncrementalBatches(real_supply(), replayed).next()
    assert torch.equal(batch.images, torch.cat([expected.images, replayed.next().images]))
    assert batch.targets.tolist() == [*expected.targets.tolist(), 1, 0]
    assert batch.groups == {"real": slice(0, 3), "replayed": slice(3, 5)}


def test_both_suppliers_are_stored() -> None:
    batches = IncrementalBatches(real_supply(), replayed_supply(torch.tensor([2])))
    batches.next()
    draws = batches.real.streams.state_dict()
    again = IncrementalBatches(real_supply(), LastBatchSupply())
    again.load_state_dict(small.reloaded(batches.state_dict()))
    again.real.streams.load_state_dict(draws)
    for _ in range(4):
        one, other = batches.next(), again.next()
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
    assert IncrementalBatches(real_supply(), None).state_dict()["replayed"] is None


def test_statistics_are_those_of_the_task_or_empty() -> None:
    kept = ClassStatistics(means=torch.ones(2, 3))
    assert statistics_of(TermContext(small.GREY, {}, task_data=IncrementalTermData(kept))) is kept
    assert statistics_of(TermContext(small.GREY, {})) == ClassStatistics()
