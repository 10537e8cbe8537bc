"""A budget's bf16 is for processors that have it; what runs instead is said, and stands in the trial's key."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal.core import cores
from rgal.suite.plan.trial import Trial
from rgal.suite.running.runner import make_plan, plan_warnings
from tests.helpers.suites import SUITE, suite


def planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> tuple[Trial, list[str]]:
    monkeypatch.setattr(cores, "computes_bf16", lambda: has_bf16)
    plan = make_plan(suite(tmp_path, SUITE, precision=precision, device="cpu"))
    return plan.trials[0], [line for line in plan_warnings(plan) if "instructions" in line]


def test_a_processor_without_bf16_runs_fp32_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallen, lines = planned(tmp_path, monkeypatch, False, "bf16")
    assert fallen.precision == "fp32"
    assert lines == [
        "warning: this processor has no instructions for bf16, which would be slower: fp32 instead"
    ]
    asked, silent = planned(tmp_path, monkeypatch, False, "fp32")
    assert asked.key == fallen.key and not silent


def test_a_processor_with_bf16_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low, lines = planned(tmp_path, monkeypatch, True, "bf16")
    exact, _ = planned(tmp_path, monkeypatch, True, "fp32")
    assert low.precision == "bf16" and not lines
    assert low.key != exact.key


def test_gpus_are_not_asked() -> None:
    assert cores.runnable("bf16", "cuda") == cores.runnable("bf16", "cuda:1") == "bf16"
