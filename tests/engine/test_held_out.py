"""Held-out images: the same for the same teacher, stopped or not, and of no trial's streams."""

from __future__ import annotations

import torch

from rgal.core.seeding import Streams
from rgal.engine.held_out import HeldOutRun, HeldOutSpec, held_out_images, held_out_streams
from tests.helpers import foreign_builders, small

SPEC = HeldOutSpec(images=10, steps=3, batch=8)


def test_the_same_teacher_gives_the_same_images() -> None:
    problem = small.problem(small.GREY, "wrn10_2")
    (images, labels), again = (held_out_images(problem, SPEC, "wrn10_2") for _ in range(2))
    assert images.shape == (10, *small.GREY.shape) and images.dtype == torch.uint8
    assert torch.equal(images, again[0]) and torch.equal(labels, again[1])
    other, _ = held_out_images(problem, SPEC, "another")
    assert not torch.equal(images, other)


def test_steps_lower_the_loss() -> None:
    """Averaged over the steps, as the row has it: more steps, less loss."""
    problem = small.problem(small.GREY, "wrn10_2")

    def loss(steps: int) -> float:
        run = HeldOutRun(problem, HeldOutSpec(32, steps, 32), held_out_streams(problem, "wrn10_2"))
        (row,) = [row for _ in range(steps) for row in run.advance()]
        return float(row["total"])

    assert loss(40) < 0.8 * loss(1)


def test_a_stopped_run_goes_on_with_the_same_images() -> None:
    problem = small.problem(small.GREY, "wrn10_2")
    whole, _ = held_out_images(problem, SPEC, "wrn10_2")
    for stop in (1, 3, 4):
        run = HeldOutRun(problem, SPEC, held_out_streams(problem, "wrn10_2"))
        for _ in range(stop):
            run.advance()
        state = small.reloaded(run.state_dict())
        rest = HeldOutRun(problem, SPEC, held_out_streams(problem, "wrn10_2"))
        rest.load_state_dict(state)
        while not rest.finished:
            rest.advance()
        assert torch.equal(rest.images()[0], whole)


def test_a_network_without_batch_norms_has_them_too() -> None:
    problem = small.problem(small.COLOUR, "wrn10_2")
    bare = type(problem)(foreign_builders.Tokens(small.COLOUR.classes), small.COLOUR)
    images, _ = held_out_images(bare, SPEC)
    assert len(images) == 10


def test_its_draws_are_those_of_no_trial() -> None:
    problem = small.problem(small.GREY, "wrn10_2")
    ours = held_out_streams(problem, "wrn10_2").get("synthesis")
    trial = Streams("cpu", "kd", "none", "wrn10_2", "wrn10_1", 0).get("synthesis")
    assert not torch.equal(torch.rand(4, generator=ours), torch.rand(4, generator=trial))
