"""A class-incremental run that is stopped in any phase and started again ends with the same numbers, byte for byte."""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch

from rgal.suite.plan.settings import Schedule
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.spec import spec_of
from tests.helpers import small
from tests.helpers.necil_builders import SECONDS, SHORT, SUITE, finish, necil_methods, recipe, start
from tests.helpers.stopped_runs import kill_at_random_moments


def schedule(method: str) -> Schedule:
    """Five student steps, of which R-DFCIL takes the last three with a frozen extractor; CMI looks back on rounds."""
    rounds = 2 if method.startswith("cmi") else 1
    return SHORT.model_copy(
        update={"rounds": rounds, "warmup": rounds - 1, "synthesis_steps": 2, "student_steps": 5}
    )


METHODS = ["cmi+rgal", "pass+rgal", "fetril+rgal", "abd[warm=true]", "r_dfcil[refine=0.4]"]
METHODS += [name for name in necil_methods() if spec_of(recipe(name)).keeps and f"{name}+rgal" not in METHODS]
STRIDES = (1, 1, 3, 4, 2, 3)
FEWER = (1, 4, 6, 3)  # amid each phase


def untimed(state: Any) -> Any:
    """Without seconds, however deep."""
    if isinstance(state, dict):
        return {k: untimed(v) for k, v in state.items() if k not in (*SECONDS, "seconds", "cpu_seconds")}
    return state


# They keep what dpcr and praka keep: means, or means and covariances, that follow the extractor or are learnt against.
SLOW = ("adagauss", "adc", "ldc", "napa_vq")


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in METHODS]
)
def test_stopped_after_every_few_steps(method: str) -> None:
    """Taken up from the disk by a run that was just made: rows, weights, counts and what is kept are the same."""
    whole = start(method, schedule=schedule(method))
    expected = [untimed(row) for row in finish(whole)]
    going, rows, stops = start(method, schedule=schedule(method)), [], []
    strides = cycle(FEWER if whole.spec.learns and method not in METHODS[:5] else STRIDES)
    while not going.finished:
        for _ in range(next(strides)):
            if not going.finished:
                rows += [untimed(row) for row in going.advance()]
        stops.append((going.phase, "" if going.transfer is None else going.transfer.mode))
        going = taken_up(going, method)
    assert rows == expected
    assert all(any(stop[0] == phase for stop in stops) for phase in range(3))
    busy = [kind for kind in ("synthesis", "student") if whole.spent[f"{kind}_steps"]]
    assert set(stops) >= set(product((1, 2), busy))
    assert going.counts == whole.counts
    small.assert_same(small.snapshot(going.student), small.snapshot(whole.student))
    small.assert_same(going.statistics.tensors(), whole.statistics.tensors())
    small.assert_same(untimed(going.result()), untimed(whole.result()))
    small.assert_same(untimed(going.state_dict()), untimed(whole.state_dict()))


def taken_up(going: IncrementalRun, method: str) -> IncrementalRun:
    state = small.reloaded(going.state_dict())
    again = start(method, schedule=schedule(method))
    again.load_state_dict(state)
    small.assert_same(untimed(again.state_dict()), untimed(state))
    return again


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_generator_goes_on(warm: bool) -> None:
    """It starts a phase as the last one left it, and counts as kept; a new one does neither."""
    going = start(f"abd[warm={str(warm).lower()}]")
    opening, left, opened_with = going._open_phase, [], []

    def opened() -> None:
        opening()
        assert going.transfer is not None and going.transfer.inversion is not None
        left.append(going.transfer.inversion.images.net)  # type: ignore[attr-defined]
        opened_with.append(small.snapshot(left[-1]))

    going._open_phase = opened  # type: ignore[method-assign]
    finish(going)
    first, second = small.snapshot(left[0]), opened_with[1]
    assert all(torch.equal(first[name], value) for name, value in second.items()) == warm
    assert (going.result()["memory_mb"] > 0) == warm


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rounds", "steps", "student_steps"), [("rgal", 15, 20, 200), ("pass", 1, 1, 400)]
)
def test_killed_at_ten_random_moments(
    method: str, rounds: int, steps: int, student_steps: int, tmp_path: Path
) -> None:
    text = SUITE.replace("rounds: 1", f"rounds: {rounds}")
    text = text.replace("student_steps: 2", f"student_steps: {student_steps}")
    (tmp_path / "suite.yaml").write_text(text.replace("synthesis_steps: 2", f"synthesis_steps: {steps}"))
    kill_at_random_moments(tmp_path, method)
