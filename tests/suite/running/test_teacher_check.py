"""Given weights that hardly know the classes stop a run, with the likely causes; trained ones are warned of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from rgal import nets
from rgal.suite.running.teacher_check import check_given, recorded_top1, weakness
from tests.helpers.suites import SUITE, call, fails


@pytest.mark.parametrize(
    ("top1", "classes", "weak"),
    [
        (19.9, 10, True),
        (20.0, 10, False),
        (59.0, 2, True),
        (61.0, 2, False),
        (1.9, 100, True),
        (2.1, 100, False),
    ],
)
def test_near_chance_is_weak(top1: float, classes: int, weak: bool) -> None:
    assert bool(weakness(top1, classes)) is weak


def test_far_below_the_record_beside_the_file_is_weak(tmp_path: Path) -> None:
    weights = tmp_path / "teacher.safetensors"
    assert recorded_top1(weights, "digits") is None
    weights.with_suffix(".json").write_text(json.dumps({"top1": 98.0, "dataset": "digits"}))
    assert recorded_top1(weights, "digits") == 98.0 and recorded_top1(weights, "cifar10") is None
    check_given(weights, "digits", 90.0, 10)
    with pytest.raises(Exception, match=r"50\.00 % .* far below the 98\.00 % of its record"):
        check_given(weights, "digits", 50.0, 10)


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_weights_near_chance_stop_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    save_file(nets.build("wrn10_1", 10, 1, 8).state_dict(), str(tmp_path / "untrained.safetensors"))
    arguments = ["--teacher-weights", str(tmp_path / "untrained.safetensors")]
    for _ in range(2):
        line = fails(tmp_path, capsys, *arguments)
        assert "near chance (10.00 %)" in line and "untrained.safetensors" in line
        assert all(cause in line for cause in ("normalisation", "order of classes", "range"))
    assert call(tmp_path, *arguments, "--set", "allow_weak_teacher=true") == 0
    assert "near chance" in fails(
        tmp_path, capsys, *arguments, "--seeds", "1"
    )  # also when it was allowed before


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_trained_teacher_near_chance_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert call(tmp_path, "--set", "teacher_training.steps=1", "teacher_training.lr=1e-9") == 0
    assert "teacher wrn10_1 on digits (seed 0): warning: " in capsys.readouterr().err
