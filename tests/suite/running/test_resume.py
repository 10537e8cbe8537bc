"""A run that is stopped at any point and started again ends with the same numbers, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.store import checkpoint
from tests.helpers.stopped_runs import (
    ROOT,
    at_work,
    command,
    kill_at_random_moments,
    outcome,
    run_in_pieces,
    start,
    suite_file,
)

pytestmark = pytest.mark.usefixtures("no_report")

# Every method is stopped in tests/contracts/test_contract.py as well; these through the command line.
ALSO_STOPPED = [("kd", "cmi"), ("kd", "deepinversion"), ("dfq", "rgal"), ("dfq", "zeroq")]


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("kd", "rgal"),
        ("dfq", "gdfq+rgal"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ALSO_STOPPED),
    ],
)
def test_stopped_after_every_few_steps(
    task: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A method that only calibrates has a single round: it gets as many steps in that.
    suite_file(tmp_path, rounds=3, steps=30 if method == "zeroq" else 3, task=task)
    assert cli.main([*command(tmp_path, "whole", method), "--jobs", "0"]) == 0
    run_in_pieces(command(tmp_path, "cut", method), tmp_path, monkeypatch)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "method"), [("kd", "rgal"), ("kd", "cmi"), ("dfq", "rgal"), ("dfq", "gdfq")]
)
def test_killed_at_ten_random_moments(task: str, method: str, tmp_path: Path) -> None:
    suite_file(tmp_path, rounds=30, steps=20, task=task)
    kill_at_random_moments(tmp_path, method)


def test_worker_process_killed_is_taken_up_again(tmp_path: Path) -> None:
    """A worker that dies (out of memory, say) is started again by the runner, and the run ends as if it had not."""
    suite_file(tmp_path, rounds=4, steps=6)
    assert cli.main([*command(tmp_path, "whole", "rgal"), "--jobs", "0", "--threads", "1"]) == 0
    runner = start(tmp_path, "cut", "rgal", 1e9, jobs="1")
    try:
        worker = _wait_for_worker(tmp_path / "cut", runner)
        os.kill(worker, signal.SIGKILL)
        assert runner.wait(timeout=300) == 0
    finally:
        runner.kill()
    (record,) = (tmp_path / "cut" / "trials").glob("*/trial.json")
    assert json.loads(record.read_text())["environment"]["pid"] != worker
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_interrupt_stops_cleanly_and_says_so(tmp_path: Path) -> None:
    suite_file(tmp_path, rounds=4000, steps=6)
    runner = subprocess.Popen(
        [sys.executable, str(ROOT / "run_suite.py"), *command(tmp_path, "r", "plain"), "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_for_worker(tmp_path / "r", runner)
        runner.send_signal(signal.SIGINT)
        output, _ = runner.communicate(timeout=180)
    finally:
        runner.kill()
    assert runner.returncode == 130
    assert "run the same command again" in output and "Traceback" not in output
    (trial,) = (tmp_path / "r" / "trials").iterdir()
    assert (trial / "checkpoint.pt").exists() and not (trial / "result.json").exists()


def _wait_for_worker(results: Path, runner: subprocess.Popen) -> int:  # type: ignore[type-arg]
    """Process id of the worker that runs the only trial, once it has begun."""
    deadline = time.monotonic() + 300  # on a busy machine
    while time.monotonic() < deadline and runner.poll() is None:
        if pids := at_work(results):
            return pids[0]
        time.sleep(0.02)
    raise AssertionError("no trial began")


def test_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"damaged")
    import torch

    assert checkpoint.Checkpoint(path).load(torch.device("cpu")) is None
