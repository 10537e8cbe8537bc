"""How a call runs: the same seed the same numbers, stopped and gone on with, and nothing of the process changed."""

from __future__ import annotations

import functools
import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rgal
from tests.helpers import small
from tests.helpers.api_builders import SHORT, TwoBranches, network, pixels, teacher

CALLS: dict[str, Any] = {
    "distill": lambda **how: rgal.distill(teacher(), network(width=2, seed=1), "cmi+rgal", SHORT, **how),
    "quantize": lambda **how: rgal.quantize(teacher(), "w4a4", "rgal", SHORT, **how),
    "extend": lambda **how: rgal.extend(teacher(), pixels(), torch.arange(12) % 2 + 4, "rgal", SHORT, **how),
}


@functools.cache
def whole(verb: str) -> Any:
    """What a call of its own gives, run to the end at once: for all tests that compare with it."""
    return CALLS[verb]()


def after(steps: int) -> Any:
    """A callback that stops after so many calls."""
    left = [steps]

    def callback(position: Any) -> bool:
        left[0] -= 1
        return left[0] <= 0

    return callback


@pytest.mark.parametrize("verb", CALLS)
def test_a_call_that_is_stopped_three_times_goes_on_to_the_same_bytes(verb: str, tmp_path: Path) -> None:
    call, state = CALLS[verb], tmp_path / "state.pt"
    for steps in (1, 3, 5):
        begun = call(state=state, callback=after(steps))
        assert not begun.finished and state.exists()
    rest = call(state=state)
    expected = whole(verb)
    assert rest.finished and expected.finished
    small.assert_same(small.snapshot(rest), small.snapshot(expected))
    small.assert_same([rest.images, rest.labels], [expected.images, expected.labels])
    assert _without_seconds(rest.history) == _without_seconds(expected.history)
    again: list[Any] = []
    small.assert_same(small.snapshot(call(state=state, callback=again.append)), small.snapshot(expected))
    assert not again  # finished: nothing is left to do


def _without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in history]


def test_synthesis_can_be_stopped_too(tmp_path: Path) -> None:
    at_once = rgal.synthesise(teacher(), "deepinversion", SHORT)
    begun = rgal.synthesise(teacher(), "deepinversion", SHORT, state=tmp_path / "s", callback=after(3))
    assert not begun.finished and at_once.finished and "stopped before the end" in str(begun)
    rest = rgal.synthesise(teacher(), "deepinversion", SHORT, state=tmp_path / "s")
    small.assert_same([rest.images, rest.labels], [at_once.images, at_once.labels])


def test_what_the_callback_raises_comes_through_and_the_state_is_kept(tmp_path: Path) -> None:
    def interrupted(position: Any) -> None:
        if position.done > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CALLS["distill"](state=tmp_path / "s", callback=interrupted)
    rest = CALLS["distill"](state=tmp_path / "s")
    small.assert_same(small.snapshot(rest), small.snapshot(whole("distill")))


def test_a_student_that_starts_elsewhere_goes_on_from_the_state(tmp_path: Path) -> None:
    """Whoever runs a script again has another random student: the state holds the one that was begun with."""
    rgal.distill(teacher(), TwoBranches(width=2), "rgal", SHORT, state=tmp_path / "s", callback=after(5))
    one = rgal.distill(teacher(), TwoBranches(width=2), "rgal", SHORT, state=tmp_path / "s")
    assert one.finished


def test_a_state_of_another_call_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "s"
    CALLS["distill"](state=state, callback=after(2))
    for other, word in (
        (lambda: CALLS["distill"](state=state, seed=1), "seed"),
        (lambda: CALLS["quantize"](state=state), "task"),
        (lambda: rgal.distill(teacher(), network(width=2), "plain", SHORT, state=state), "method"),
        (
            lambda: rgal.distill(teacher(network(seed=5)), network(width=2), "cmi+rgal", SHORT, state=state),
            "weights",
        ),
        (lambda: rgal.distill(teacher(), network(width=3), "cmi+rgal", SHORT, state=state), "network"),
    ):
        with pytest.raises(rgal.UserError, match=f"is of a call with {word}"):
            other()


def test_a_file_that_is_no_state_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    for content in (b"mine", None):
        if content is None:
            torch.save({"run": 1}, path)
        else:
            path.write_bytes(content)
        before = path.read_bytes()
        with pytest.raises(rgal.UserError, match="holds no state"):
            CALLS["distill"](state=path)
        assert path.read_bytes() == before
    with pytest.raises(rgal.UserError, match="its folder does not exist"):
        CALLS["distill"](state=tmp_path / "no" / "s")


@pytest.mark.parametrize("verb", CALLS)
def test_nothing_of_the_process_is_changed(verb: str) -> None:
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    torch.use_deterministic_algorithms(False)
    before = _surroundings()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        disturbed = CALLS[verb]()
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    small.assert_same(_surroundings(), before)
    torch.manual_seed(8)  # what is global changes no number either
    small.assert_same(small.snapshot(whole(verb)), small.snapshot(disturbed))


def test_the_default_type_is_neither_used_nor_changed() -> None:
    net, student, images = network(), network(width=2, seed=1), pixels()
    torch.set_default_dtype(torch.float64)
    try:
        one = rgal.distill(teacher(net), student, "cmi+rgal", SHORT)
        assert one.student.fc.weight.dtype == torch.float32 and one.agreement(images).kl >= 0
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    small.assert_same(small.snapshot(one), small.snapshot(whole("distill")))


def _surroundings() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": list(np.random.get_state()[1]),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "type": str(torch.get_default_dtype()),
        "filters": len(warnings.filters),
        "environment": dict(os.environ),
    }


def test_it_works_in_inference_mode() -> None:
    made = teacher()
    with torch.inference_mode():
        inside = rgal.distill(made, network(width=2, seed=1), "cmi+rgal", SHORT)
    small.assert_same(small.snapshot(inside), small.snapshot(whole("distill")))


def test_the_student_of_the_user_stays_as_it_was() -> None:
    net = network(width=2)
    net.left.eval()
    net.top[0].weight.requires_grad_(False)
    modes, weights = [m.training for m in net.modules()], small.snapshot(net)
    result = rgal.distill(teacher(), net, "rgal", SHORT)
    small.assert_same(small.snapshot(net), weights)
    assert [m.training for m in net.modules()] == modes and not hasattr(net, "layer_names")
    assert not any(p.grad is not None for p in net.parameters())
    trained = result.student
    assert type(trained) is TwoBranches and not trained.training
    assert [p.requires_grad for p in trained.parameters()] == [p.requires_grad for p in net.parameters()]
    assert torch.equal(trained.top[0].weight, net.top[0].weight)  # no gradient was asked for
    assert not torch.equal(trained.fc.weight, net.fc.weight)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trained.modules())
    assert all(p.is_contiguous() for p in trained.parameters())


def test_the_teacher_stays_as_it_was() -> None:
    made = teacher()
    before = small.snapshot(made.net)
    for call in (
        lambda: rgal.distill(made, network(width=2), "rgal", SHORT),
        lambda: rgal.quantize(made, "w4a4", "rgal", SHORT),
        lambda: rgal.extend(made, pixels(), torch.arange(12) % 2 + 4, "rgal", SHORT),
    ):
        call()
        small.assert_same(small.snapshot(made.net), before)
        assert not made.net.training and not any(p.requires_grad for p in made.net.parameters())


def test_progress_is_shown_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    CALLS["distill"](progress=True)
    assert "100%" in capsys.readouterr().err
    CALLS["distill"]()
    assert capsys.readouterr().err == ""


def test_the_callback_is_told_where_the_run_is() -> None:
    told: list[Any] = []
    CALLS["distill"](callback=told.append)
    assert told[-1].done == 1 and [p.done for p in told] == sorted(p.done for p in told)
    assert {p.mode for p in told} == {"synthesis", "student"} and told[0].of == 2


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"seed": 0.5}, "seed 0.5"),
        ({"precision": "fp8"}, "valid: bf16, fp32"),
        ({"callback": 3}, "expected a function"),
        ({"device": "tpu"}, "expected auto, cpu, cuda"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(how: dict[str, Any], line: str) -> None:
    for call in CALLS.values():
        with pytest.raises(rgal.UserError) as error:
            call(**how)
        assert line in str(error.value) and "\n" not in str(error.value)
