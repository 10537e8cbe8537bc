"""How long trials will take, against sums by hand; and what a run and a dry run say of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rgal.suite.plan.trial import Trial
from rgal.suite.running.estimates import Speeds, Work
from rgal.suite.running.runner import what_is_left
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records
from tests.helpers.store_builders import add_trial, settings
from tests.helpers.suites import call


def trial(method: str = "cmi", setting: str = "digits wrn16_1 -> wrn10_1", device: str = "cpu") -> Trial:
    """A trial of which only these matter."""
    made = object.__new__(Trial)
    for name, value in (("method", method), ("setting", setting), ("device", device)):
        object.__setattr__(made, name, value)
    return made


def speeds(root: Path, *finished: tuple[str, dict[str, Any]]) -> Speeds:
    for number, (method, result) in enumerate(finished):
        add_trial(root, f"t{number}", settings(method, number, device="cpu"), **result)
    return Speeds(load_records(Store(root)))


def spent(synthesis: tuple[int, float], student: tuple[int, float]) -> dict[str, Any]:
    """(steps, seconds) of each kind."""
    return {
        "synthesis_steps": synthesis[0],
        "synthesis_seconds": synthesis[1],
        "student_steps": student[0],
        "student_seconds": student[1],
    }


def test_a_method_takes_as_long_as_its_own_steps_did(tmp_path: Path) -> None:
    known = speeds(
        tmp_path,
        ("cmi", spent((100, 20.0), (200, 10.0))),
        ("cmi", spent((300, 40.0), (200, 30.0))),
        ("rgal", spent((100, 1.0), (100, 1.0))),
    )
    assert known.seconds(trial(), Work(1, 50, 100)) == pytest.approx(50 * 60 / 400 + 100 * 40 / 400)


def test_a_method_that_has_never_run_takes_as_long_as_the_others(tmp_path: Path) -> None:
    known = speeds(tmp_path, ("cmi", spent((100, 20.0), (0, 0.0))), ("rgal", spent((100, 10.0), (100, 5.0))))
    assert known.seconds(trial("plain"), Work(1, 10, 10)) == pytest.approx(10 * 30 / 200 + 10 * 5 / 100)
    assert known.seconds(trial("cmi"), Work(1, 10, 10)) == pytest.approx(10 * 20 / 100 + 10 * 5 / 100)
    assert known.seconds(trial("naive"), Work(1, 0, 0)) == 0


def test_seconds_without_steps_are_those_of_the_method(tmp_path: Path) -> None:
    known = speeds(tmp_path, ("fecam", spent((0, 0.0), (0, 3.0))), ("fecam", spent((0, 0.0), (0, 5.0))))
    assert known.seconds(trial("fecam"), Work(1, 0, 0)) == pytest.approx(4.0)
    assert math.isnan(known.seconds(trial("fecam"), Work(1, 0, 10)))


@pytest.mark.parametrize(("setting", "device"), [("other", "cpu"), ("digits wrn16_1 -> wrn10_1", "cuda:1")])
def test_other_networks_and_devices_tell_nothing(tmp_path: Path, setting: str, device: str) -> None:
    known = speeds(tmp_path, ("cmi", spent((100, 20.0), (100, 20.0))))
    other = trial(setting=setting, device=device)
    assert not known.knows(other) and math.isnan(known.seconds(other, Work(1, 1, 1)))


def test_unfinished_trials_tell_nothing(tmp_path: Path) -> None:
    add_trial(tmp_path, "a", settings("cmi", device="cpu"), status="failed")
    assert not Speeds(load_records(Store(tmp_path))).settings


@pytest.mark.parametrize(
    ("planned", "seconds", "slots", "expected"),
    [
        (3, {}, 2, "all 3 trials are finished"),
        (3, {"a": 60.0, "b": 30.0}, 2, "2 of 3 trials to run, 2 at a time: about 0:45, as finished trials here took"),
        (1, {"a": math.nan}, 1, "1 of 1 trials to run, one at a time; how long is not known yet: "),
        (2, {"a": math.nan, "b": 4000.0}, 1, "about 1:06:40, and 1 of which nothing is known"),
    ],
)  # fmt: skip
def test_what_is_left_in_a_line(planned: int, seconds: dict[str, float], slots: int, expected: str) -> None:
    assert expected in what_is_left(planned, seconds, slots)


SUITE = """
task: kd
dataset: digits
teacher: wrn10_1
student: wrn10_1
methods: [plain, rgal]
seeds: [0]
budget: smoke
device: cpu
budgets:
  smoke: {rounds: 1, synthesis_steps: 1, student_steps: 1, synthesis_batch: 8, batch: 8, generator_width: 8,
    teacher_training: {steps: 1, batch: 8}}
"""


def test_runs_and_dry_runs_say_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert call(tmp_path, "--methods", "plain", "--set", "allow_weak_teacher=true") == 0
    said = capsys.readouterr().err
    assert (
        "digits wrn10_1 -> wrn10_1, budget smoke, on cpu: 1 of 1 trials to run, one at a time; how long"
        in said
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert call(tmp_path, "--dry-run") == 0
    plain, with_rgal = (line for line in capsys.readouterr().out.splitlines() if " seed " in line)
    assert plain.endswith("finished") and "about 0:0" in with_rgal
    assert call(tmp_path, "--methods", "plain", "--dry-run") == 0
    assert "all 1 trials are finished" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
