"""The same seed gives the numbers of the command line: its trials on the digits, and the same calls from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import rgal
from rgal import cli
from rgal.suite.plan.settings import Budget, load_suite
from rgal.suite.store.folders import Metrics
from tests.helpers import small

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")

DIGITS: dict[str, Any] = {"image": (1, 8, 8), "classes": 10, "mean": 0.3053, "std": 0.3758, "flip": False}


def smoke(task: str) -> dict[str, Any]:
    """The numbers of the digits' budget smoke, as a call takes them."""
    budget = load_suite(cli.suites_folder() / f"{task}.yaml", {"budget": "smoke"}).chosen_budget()
    assert isinstance(budget, Budget) and not budget.methods
    names = ("rounds", "synthesis_steps", "student_steps", "synthesis_batch", "batch", "generator_width")
    return {"budget": "smoke", **{name: getattr(budget, name) for name in names}}


def trial(
    folder: Path, task: str, *arguments: str, settings: Sequence[str] = ()
) -> tuple[Path, dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Run one trial by the command line: its teacher's weights, its student's, its rows."""
    fixed = ["--task", task, "--budget", "smoke", "--seeds", "3", "--results", str(folder), "--jobs", "0"]
    fixed += ["--set", "teacher_training.steps=4", *settings]  # both start from the same weights
    assert cli.main([*fixed, *arguments]) == 0
    (weights,) = (folder / "teachers").glob("*.safetensors")
    (ran,) = (folder / "trials").glob("*/student.safetensors")
    return weights, load_file(ran), Metrics(ran.parent / "metrics.jsonl").rows()


def assert_same_rows(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Row by row, but for seconds and for what needs labels."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        kept = {key: value for key, value in other.items() if "seconds" not in key and key != "top1"}
        assert {key: value for key, value in one.items() if "seconds" not in key} == kept


def test_distillation_is_that_of_the_command_line(tmp_path: Path) -> None:
    weights, student, rows = trial(tmp_path, "kd", "--methods", "cmi+rgal")
    teacher = rgal.Teacher("wrn16_1", **DIGITS, weights=weights, dataset="digits")
    result = rgal.distill(teacher, "wrn10_1", "cmi+rgal", smoke("kd"), seed=3)
    small.assert_same(small.snapshot(result), student)
    assert_same_rows(result.history, rows)


def test_quantization_is_that_of_the_command_line(tmp_path: Path) -> None:
    weights, student, rows = trial(tmp_path, "dfq", "--methods", "rgal", "--bits", "w4a4")
    teacher = rgal.Teacher("resnet8", **DIGITS, weights=weights, dataset="digits")
    result = rgal.quantize(teacher, "w4a4", "rgal", smoke("dfq"), seed=3, placement="paper")
    small.assert_same(small.snapshot(result), student)
    assert_same_rows(result.history, rows)


def test_new_classes_are_learnt_as_by_the_command_line(tmp_path: Path) -> None:
    """One phase of two digits after eight: the classifier, in parts there, is one layer here."""
    from rgal.data import load

    settings = ("base=8", "step=2", "order=natural")
    weights, student, rows = trial(tmp_path, "necil", "--methods", "abd", settings=settings)
    teacher = rgal.Teacher("resnet8", **(DIGITS | {"classes": 8}), weights=weights, dataset="digits")
    train = load("digits").train
    new = train.labels >= 8
    numbers = {name: value for name, value in smoke("necil").items() if value is not None}
    result = rgal.extend(teacher, train.images[new], train.labels[new], "abd", numbers, seed=3)
    ours = result.state_dict()
    head = torch.cat([student.pop(f"fc.parts.{part}.weight") for part in (0, 1)])
    bias = torch.cat([student.pop(f"fc.parts.{part}.bias") for part in (0, 1)])
    small.assert_same([ours.pop("fc.weight"), ours.pop("fc.bias")], [head, bias])
    small.assert_same(dict(ours), student)
    assert_same_rows(result.history, rows)
