"""Games, meta-generators, noisy layers and pyramids stopped in the middle of a round: nothing is lost or moved."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from rgal.engine.batches import StudentBatch
from rgal.engine.options import SHOWN
from rgal.methods.recipe import Recipe
from rgal.synthesis.noisy import NoisyGenerator
from tests.helpers import small
from tests.helpers.runs import ROUNDS, assert_resumes, finish, make_run, named

METHODS = (
    "dafl",
    "dafl[follows=paper]",
    "zskt",
    "zskt[follows=paper]",
    "dfad",
    "adversarial_dfq",
    "adversarial_dfq[follows=paper]",
    "fast[reset=2]",
    "fast[form=reptile]",
    "nayer[life=2]",
    "adaptive_deepinversion",
    "deepinversion[variant=imagenet]",  # of three steps two at half resolution
    "deepinversion[variant=imagenet,adv=0.2]+rgal",
)
# Of the same parts as others here; tests/contracts/test_contract.py stops every method twice.
SLOW = ("fast[form=reptile]", "adaptive_deepinversion", "deepinversion[variant=imagenet]")
STOPS = (1, 3, 4, 6, 7, 11)  # 3, 7: after the last step of a phase of rounds into a pool, before its end


@cache
def recipe(method: str) -> Recipe:
    """Three rounds; of games, two generator steps and four student steps a round in turns."""
    published = named(method)
    if published.source != "pool":
        rounds = replace(ROUNDS, synthesis_steps=2, student_steps=4, interleaved=True)
        return replace(published, rounds=rounds)
    images = published.images
    if isinstance(images, NoisyGenerator):
        images = replace(images, hidden=16)
    return replace(published, images=images, rounds=replace(ROUNDS, warmup=1))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if "follows=paper" in name or name in SLOW else ())
        for name in METHODS
    ],
)
def test_a_stopped_method_goes_on_bit_for_bit(method: str) -> None:
    """The state survives the trip as it is, and what follows is the same, memory and optimisers included."""
    assert_resumes(recipe(method), STOPS)


@pytest.mark.parametrize("method", ["dafl", "zskt", "dfad", "adversarial_dfq"])
def test_fresh_draws_are_counted_and_the_last_are_kept(method: str) -> None:
    """Every student batch is new; the pool has each round's last, under the teacher's labels."""
    transfer = make_run(recipe(method))
    drawn = []
    train = transfer.loop.step

    def step(batch: StudentBatch, *more: Any) -> Any:
        drawn.append(batch.images)
        return train(batch, *more)

    transfer.loop.step = step  # type: ignore[method-assign]
    rows = finish(transfer).rows
    size, images = ROUNDS.batch, torch.cat(drawn)
    assert len(images) == len(images.flatten(1).unique(dim=0)) == 12 * size == transfer.images
    assert [row["images"] for row in rows if row["kind"] == "student"] == [4 * size, 8 * size, 12 * size]
    kept = torch.cat(drawn[3::4])
    assert transfer.pool.capacity == SHOWN
    assert torch.equal(transfer.pool.images, (kept * 255).round().to(torch.uint8))
    teacher = transfer.problem.teacher
    assert torch.equal(transfer.pool.targets, teacher(transfer.problem.domain.normalise(kept)).argmax(1))


def test_a_meta_generator_forgets_its_way_in_once() -> None:
    plain, reset = make_run(recipe("fast[reset=0]")), make_run(recipe("fast[reset=2]"))
    while reset.schedule.round == 0:
        for transfer in (plain, reset):
            transfer.advance()
    nets = [transfer.inversion.images.net for transfer in (plain, reset)]
    small.assert_same(*(small.snapshot(net) for net in nets))
    for transfer in (plain, reset):  # the first step of round 2 moves the copies only
        transfer.advance()
    before, after = (small.snapshot(net) for net in nets)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"project.weight", "project.bias", "body.0.weight", "body.0.bias"}
    assert after["body.0.weight"].abs().max() < 0.1 and after["project.weight"].std() == pytest.approx(
        0.02, 0.2
    )
    assert not after["project.bias"].any() and not after["body.0.bias"].any()
