"""How jobs end: results before pictures, causes that only the runner knows, nothing written without the claim."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from rgal.suite.running import engines
from rgal.suite.running.devices import Places
from rgal.suite.running.jobs import Outcome, TrialJob
from rgal.suite.running.scheduler import Assignment, Died, Listener, Scheduler
from rgal.suite.running.work import perform
from rgal.suite.store.claims import Claim, Claims, Seen
from rgal.suite.store.folders import Store
from tests.helpers.stopped_runs import command, suite_file
from tests.helpers.trials import TRIAL

pytestmark = pytest.mark.usefixtures("no_plots")


def trial_of(results: Path) -> Path:
    (folder,) = (results / "trials").iterdir()
    return folder


def claim_of(job: TrialJob) -> Claim:
    claim = Claims(job.root).acquire(job.claim, Seen(), job.title)
    assert claim is not None
    return claim


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

    def kept(job: Any, *rest: Any) -> Outcome:
        jobs.append(job)
        return perform(job, *rest)

    monkeypatch.setattr(engines, "perform", kept)
    assert cli.main([*command(tmp_path, "r", "plain"), "--jobs", "0"]) == 0
    before = (trial_of(tmp_path / "r") / "metrics.jsonl").read_bytes()
    outcome = perform(jobs[-1], claim_of(jobs[-1]), lambda message: None, lambda: False)
    assert outcome.status == "finished" and outcome.result is not None and "last" in outcome.result
    assert (trial_of(tmp_path / "r") / "metrics.jsonl").read_bytes() == before


class Dying:
    """An engine whose jobs all die without a word."""

    def __init__(self, code: int) -> None:
        self.code, self.started = code, list[Assignment]()

    def start(self, assignment: Assignment) -> None:
        self.started.append(assignment)  # and its claim is as this process acquired it

    def wait(self, *_: Any) -> list[tuple[Assignment, Died]]:
        return [(self.started[-1], Died(engines._cause(self.code)))]

    def stop(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (-9, "by SIGKILL: out of memory?"),
        (-11, "by SIGSEGV: a crash of native code"),
        (7, "with exit code 7"),
    ],
)
def test_what_killed_a_worker_is_in_the_record(code: int, cause: str, tmp_path: Path) -> None:
    job, engine, outcomes = TrialJob(tmp_path, TRIAL, "f"), Dying(code), list[Outcome]()
    job.folder.mkdir(parents=True)
    listener = Listener(lambda *_: None, lambda _, outcome: outcomes.append(outcome), print)
    assert Scheduler(Claims(tmp_path), engine, Places(["cpu"], 1), 1, listener).run([job]) == 0
    (outcome,) = outcomes
    assert outcome.status == "failed" and outcome.reason.endswith(cause)
    assert [one.attempt for one in engine.started] == [1, 2, 3]
    record = json.loads(job.product.read_text())
    assert record["status"] == "failed" and record["reason"] == outcome.reason
    assert not list((tmp_path / ".claims").iterdir())


@pytest.mark.parametrize("moment", ["before", "while it works"])
def test_nothing_is_written_into_a_folder_whose_claim_was_lost(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrialJob(tmp_path, TRIAL, "f")
    claim = claim_of(job)

    def lost(*_: Any) -> None:
        claim.path.unlink()
        raise RuntimeError("an error that would be recorded")

    if moment == "before":
        claim.path.unlink()
    else:
        monkeypatch.setattr("rgal.suite.running.work.prepare", lost)
    outcome = perform(job, claim, lambda message: None, lambda: False)
    assert outcome == Outcome("elsewhere")
    written = sorted(path.name for path in job.folder.iterdir()) if job.folder.exists() else []
    assert written == ([] if moment == "before" else ["trial.json"])


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
