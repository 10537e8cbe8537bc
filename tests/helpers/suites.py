"""Small suite files, and the command line on one of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from rgal.suite.plan.settings import Suite, load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running.runner import make_plan

SUITE = """
task: kd
dataset: digits
teacher: wrn10_1
student: resnet8
methods: [plain]
seeds: [0]
budget: smoke
budgets:
  smoke:
    rounds: 1
    synthesis_steps: 1
    student_steps: 1
    synthesis_batch: 8
    batch: 8
    teacher_training: {steps: 2, batch: 8}
"""

DFQ_SUITE = SUITE.replace("task: kd", "task: dfq").replace("student: resnet8\n", "options: {bits: [w4a4]}\n")


def leave_out_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line end when its trials have: no tables, no plots, no page."""
    monkeypatch.setattr(cli, "report", lambda *_: "")


def call(folder: Path, *arguments: str, suite: str = "suite.yaml") -> int:
    fixed = ["--suite", str(folder / suite), "--results", str(folder / "results"), "--jobs", "0"]
    return cli.main([*fixed, *arguments])


def snapshot(folder: Path) -> dict[str, str]:
    files = sorted(p for p in (folder / "results" / "trials").rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def fails(
    folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, suite: str = "suite.yaml"
) -> str:
    """Run, expect exit code 2, one line, and every finished file as it was. The line."""
    before = snapshot(folder)
    capsys.readouterr()
    assert call(folder, *arguments, suite=suite) == 2
    error = capsys.readouterr().err.strip()
    lines = [
        line
        for line in error.splitlines()
        if not line.startswith(("[", "data set ")) and not re.search("finished already|to run, ", line)
    ]
    assert len(lines) == 1 and lines[0].startswith("error: "), error
    assert "Traceback" not in error
    assert before.items() <= snapshot(folder).items()
    return lines[0]


def suite(folder: Path, text: str = SUITE, name: str = "suite.yaml", **overrides: Any) -> Suite:
    (folder / name).write_text(text)
    return load_suite(folder / name, overrides)


def trials(*arguments: Any, **overrides: Any) -> list[Trial]:
    return make_plan(suite(*arguments, **overrides)).trials


PAIRS = (
    SUITE.replace("teacher: wrn10_1\nstudent: resnet8\n", "")
    + """
pairs:
  - {teacher: wrn10_1, student: resnet8, methods: {plain: {synthesis_lr: 0.5, parameters: {bn: 2}}}}
  - {teacher: wrn10_1, student: lenet5}
"""
)

SWEEP = SUITE + "sweep: {synthesis_batch: [8, 16]}\n"
