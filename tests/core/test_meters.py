"""Means of named scalars, each over the steps in which it occurred."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rgal.core.meters import Meter
from tests.helpers import small

STEPS = st.lists(
    st.dictionaries(st.sampled_from(["kd", "bn", "oh"]), st.floats(-100, 100, width=32)), max_size=8
)


@given(steps=STEPS, stop=st.integers(0, 8))
def test_means_are_those_of_the_lists(steps: list[dict[str, float]], stop: int) -> None:
    """Also when another meter takes over in the middle."""
    meter = Meter()
    for number, step in enumerate(steps):
        if number == stop:
            state = small.reloaded(meter.state_dict())
            meter = Meter()
            meter.load_state_dict(state)
        meter.add({name: torch.tensor(value) for name, value in step.items()})
    names = dict.fromkeys(name for step in steps for name in step)
    lists = {name: [step[name] for step in steps if name in step] for name in names}
    means = {name: pytest.approx(sum(values) / len(values), abs=1e-9) for name, values in lists.items()}
    assert {name: meter.peek(name) for name in names} == means
    assert meter.take() == means and meter.take() == {} and meter.peek("kd") is None


def test_a_meter_keeps_no_graph() -> None:
    value = torch.ones((), requires_grad=True) * 2
    meter = Meter()
    meter.add({"kd": value})
    assert not meter.state_dict()["sums"]["kd"].requires_grad


def test_many_small_numbers_are_not_lost_in_a_large_sum() -> None:
    meter = Meter()
    for value in (2.0**25, *[1.0] * 64):  # of which float32 would keep none
        meter.add({"x": torch.tensor(value)})
    assert meter.take() == {"x": (2.0**25 + 64) / 65}
