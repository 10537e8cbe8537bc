"""How jobs end: results before pictures, causes that only the runner knows, nothing written without the lock."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rgal import cli
from rgal.suite.running import engines
from rgal.suite.running.work import Outcome, TrialJob, perform
from rgal.suite.store.folders import Store
from rgal.suite.store.locks import locked
from tests.helpers.stopped_runs import command, suite_file
from tests.helpers.trials import TRIAL

pytestmark = pytest.mark.usefixtures("no_plots")


def trial_of(results: Path) -> Path:
    (folder,) = (results / "trials").iterdir()
    return folder


def test_an_error_over_pictures_costs_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_file(tmp_path, rounds=1, steps=2)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no pictures today")

    monkeypatch.setattr("rgal.analysis.grids.write_grid", broken)
    assert cli.main([*command(tmp_path, "r", "plain"), "--jobs", "0"]) == 0
    folder = trial_of(tmp_path / "r")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert "no pictures today" in (folder / "error.txt").read_text()
    assert (folder / "student.safetensors").exists() and not (folder / "samples.png").exists()


def test_a_process_that_died_over_pictures_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job is started again, finds the result and does no work."""
    suite_file(tmp_path, rounds=1, steps=2)
    jobs: list[Any] = []

    def kept(some: list[Any], *rest: Any) -> int:
        jobs.extend(some)
        return engines.run_inline(some, *rest)

    monkeypatch.setattr("rgal.suite.running.runner.run_inline", kept)
    assert cli.main([*command(tmp_path, "r", "plain"), "--jobs", "0"]) == 0
    before = (trial_of(tmp_path / "r") / "metrics.jsonl").read_bytes()
    outcome = perform(jobs[-1], lambda message: None, lambda: False)
    assert outcome.status == "finished" and outcome.result is not None and "last" in outcome.result
    assert (trial_of(tmp_path / "r") / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (-9, "by SIGKILL: out of memory?"),
        (-11, "by SIGSEGV: a crash of native code"),
        (7, "with exit code 7"),
    ],
)
def test_what_killed_a_worker_is_in_the_record(code: int, cause: str, tmp_path: Path) -> None:
    job = TrialJob(tmp_path, TRIAL, "f")
    folder = Store(tmp_path).trial_folder(TRIAL.name, TRIAL.key)
    folder.mkdir(parents=True)
    worker = SimpleNamespace(job=job, process=SimpleNamespace(exitcode=code), attempt=engines.ATTEMPTS)
    outcomes: list[Outcome] = []
    engines._died(worker, lambda _, outcome: outcomes.append(outcome), [], False)  # type: ignore[arg-type]
    (outcome,) = outcomes
    assert outcome.status == "failed" and outcome.reason.endswith(cause)
    record = json.loads((folder / "result.json").read_text())
    assert record["status"] == "failed" and record["reason"] == outcome.reason


def test_nothing_is_written_into_a_folder_that_another_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rgal.suite.running.work.WAIT_SECONDS", 0.1)
    folder = Store(tmp_path).trial_folder(TRIAL.name, TRIAL.key)
    folder.mkdir(parents=True)
    with locked(folder, "trial", busy="in use"):
        outcome = perform(TrialJob(tmp_path, TRIAL, "f"), lambda message: None, lambda: False)
        assert sorted(path.name for path in folder.iterdir()) == [".lock", ".lock-owner"]
    assert outcome.status == "failed" and "another process is working on it" in outcome.reason


def test_a_teacher_that_fails_ends_the_run_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite_file(tmp_path, rounds=1, steps=2)
    arguments = [*command(tmp_path, "r", "plain"), "--jobs", "0", "--set", "teacher_training.lr=1e30"]
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert "lower teacher_training.lr" in captured.err + captured.out and "no trial" not in captured.err


def test_temporary_files_of_killed_processes_go_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "a-1"
    folder.mkdir(parents=True)
    old, young, own = folder / ".x.json.abc.tmp", folder / ".y.json.abc.tmp", folder / "notes.tmp"
    for path in (old, young, own):
        path.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(own, (time.time() - 7200,) * 2)
    Store(tmp_path).remove_orphans()
    assert not old.exists() and young.exists() and own.exists()
