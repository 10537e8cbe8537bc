"""Random streams: what a draw depends on, and what it does not."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rgal.core.seeding import Streams, global_seed, seed_for
from tests.helpers import small

PARTS = st.lists(st.integers() | st.sampled_from(["trial", "kd", "a", "b", "ab"]), max_size=4)


def draw(streams: Streams, purpose: str) -> Tensor:
    return torch.rand(4, generator=streams.get(purpose))


@given(one=PARTS, other=PARTS)
def test_other_parts_are_another_seed(one: list[object], other: list[object]) -> None:
    """As long as they are written differently: 0 and "0" are one."""
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (seed_for("x", *one) == seed_for("x", *other)) == same
    assert 0 <= seed_for(*one) < 2**63


def test_draws_of_one_purpose_do_not_shift_anothers() -> None:
    alone, busy = Streams("cpu", "trial", 0), Streams("cpu", "trial", 0)
    draw(busy, "batches")
    torch.rand(9, generator=busy.cpu("views"))
    assert torch.equal(draw(alone, "views"), draw(busy, "views"))
    assert not torch.equal(draw(Streams("cpu", "trial", 0), "a"), draw(Streams("cpu", "trial", 1), "a"))
    assert not torch.equal(draw(Streams("cpu", 0), "a"), draw(Streams("cpu", 0), "b"))


def test_streams_go_on_where_a_checkpoint_left_them() -> None:
    streams = Streams("cpu", "trial", 0)
    for purpose in ("batches", "views"):
        draw(streams, purpose)
    torch.rand(3, generator=streams.cpu("choice"))
    again = Streams("cpu", "trial", 0)
    again.load_state_dict(small.reloaded(streams.state_dict()))
    assert torch.equal(draw(again, "views"), draw(streams, "views"))
    expected = torch.rand(3, generator=streams.cpu("choice"))
    assert torch.equal(torch.rand(3, generator=again.cpu("choice")), expected)
    assert torch.equal(draw(again, "new"), draw(streams, "new"))


def test_the_global_stream_goes_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with global_seed("weights"):
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)
