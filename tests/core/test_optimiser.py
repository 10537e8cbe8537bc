"""Learning rates over a training, and the optimisers made of their description."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rgal.core.optimiser import SGD, StudentAdam, StudentOptimiser

SCHEDULES = st.builds(
    StudentOptimiser,
    lr=st.floats(1e-4, 1.0),
    schedule=st.sampled_from(["cosine", "quarters", "steps", "constant"]),
    lr_warmup=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    drops=st.just(((0.5, 0.1), (0.75, 0.01))),
)


@given(spec=SCHEDULES, total=st.integers(1, 60))
def test_a_rate_rises_to_its_top_and_never_rises_again(spec: StudentOptimiser, total: int) -> None:
    rates = [spec.learning_rate(step, total) for step in range(total)]
    top = rates.index(max(rates))
    assert all(0 <= rate <= spec.lr * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= max(0, spec.lr_warmup * total)


@pytest.mark.parametrize(
    ("schedule", "divisors"), [("quarters", (1, 10, 100, 1000)), ("constant", (1, 1, 1, 1))]
)
def test_the_quarters_of_a_training(schedule: str, divisors: tuple[int, ...]) -> None:
    spec = StudentOptimiser(0.4, schedule=schedule)  # type: ignore[arg-type]
    assert [spec.learning_rate(step, 8) for step in (0, 2, 4, 6)] == pytest.approx(
        [0.4 / d for d in divisors]
    )


@pytest.mark.parametrize(
    "spec", [SGD(0.3, 0.01, momentum=0.8, nesterov=True), StudentAdam(weight_decay=0.01)], ids=["sgd", "adam"]
)
def test_the_optimiser_is_as_described(spec: SGD | StudentAdam) -> None:
    (group,) = spec.make([nn.Parameter(torch.ones(2))], fused=True).param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (spec.lr, 0.01, True)
    if isinstance(spec, SGD):
        assert group["momentum"] == 0.8 and group["nesterov"]
