"""A run that is stopped at any point and started again ends with the same numbers, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.running import drive
from rgal.suite.store import checkpoint
from tests.suite.test_bad_inputs import DFQ_SUITE, SUITE

ROOT = Path(cli.__file__).parents[1]
SECONDS = ("synthesis_seconds", "student_seconds")


def suite_file(folder: Path, rounds: int, steps: int, task: str = "kd") -> Path:
    text = {"kd": SUITE, "dfq": DFQ_SUITE}[task]
    text = text.replace("rounds: 1", f"rounds: {rounds}").replace("steps: 1", f"steps: {steps}")
    path = folder / "suite.yaml"
    path.write_text(
        text.replace("teacher_training: {steps: 2, batch: 8}", "teacher_training: {steps: 30, batch: 32}")
    )
    return path


def command(folder: Path, results: str, method: str) -> list[str]:
    return ["--suite", str(folder / "suite.yaml"), "--results", str(folder / results), "--methods", method]


def outcome(results: Path) -> dict[str, str]:
    """Digests of the files, metrics and final numbers of the only trial, seconds left out."""
    (trial,) = (results / "trials").iterdir()
    rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    final = json.loads((trial / "result.json").read_text())
    for row in [*rows, final]:
        for name in SECONDS:
            row.pop(name, None)
    files = ("student.safetensors", "samples.png", "layers.json", "phases.json", "diversity.json")
    return {
        **{
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in map(trial.joinpath, files)
            if p.exists()
        },
        "metrics": json.dumps(rows, sort_keys=True),
        "final": json.dumps(final, sort_keys=True),
    }


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


def run_in_pieces(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only trial in `folder`/cut, stopped after every few steps in one process; the teacher is the whole run's."""
    (folder / "cut").mkdir()
    (folder / "cut" / "teachers").symlink_to(folder / "whole" / "teachers")
    original = drive.drive
    from rgal.suite.running import work

    def impatient(run, folder, device, report, stop, watch):  # type: ignore[no-untyped-def]
        left = iter(range(4))
        return original(run, folder, device, report, lambda: next(left, None) is None, watch)

    stops = 0
    with monkeypatch.context() as patched:
        patched.setattr(work, "drive", impatient)
        while not list((folder / "cut").glob("trials/*/result.json")) and stops < 30:
            assert cli.main([*arguments, "--jobs", "0"]) == 0
            stops += 1
    assert 3 < stops < 30


def start(folder: Path, results: str, method: str, interval: float) -> subprocess.Popen[bytes]:
    """The suite in a process group of its own, with checkpoints every `interval` seconds."""
    code = (
        "import sys, rgal.suite.store.checkpoint as c; from rgal import cli;"
        f"c.INTERVAL_SECONDS = {interval}; c.WRITE_SHARE = 1.0; sys.exit(cli.main(sys.argv[1:]))"
    )
    arguments = [*command(folder, results, method), "--jobs", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "method"), [("kd", "rgal"), ("kd", "cmi"), ("dfq", "rgal"), ("dfq", "gdfq")]
)
def test_killed_at_ten_random_moments(task: str, method: str, tmp_path: Path) -> None:
    suite_file(tmp_path, rounds=30, steps=20, task=task)
    kill_at_random_moments(tmp_path, method)


def kill_at_random_moments(folder: Path, method: str) -> None:
    """A run that is killed ten times, each time after it had begun to work, ends like one that is left alone."""
    assert start(folder, "whole", method, 1e9).wait() == 0
    moments = random.Random(1)
    kills = 0
    while kills < 10:
        process = start(folder, "cut", method, 0.2)
        while process.poll() is None and process.pid not in _at_work(folder / "cut"):
            time.sleep(0.05)
        time.sleep(moments.uniform(0.1, 1.5))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 10, "the trial ended before it had been killed ten times: make it longer"
    assert start(folder, "cut", method, 0.2).wait() == 0
    assert outcome(folder / "cut") == outcome(folder / "whole")


def _at_work(results: Path) -> list[int]:
    """Process ids of those that began the trial last."""
    return [
        int(json.loads(record.read_text())["environment"]["pid"])
        for record in results.glob("trials/*/trial.json")
    ]


def test_worker_process_killed_is_taken_up_again(tmp_path: Path) -> None:
    """A worker that dies (out of memory, say) is started again by the runner, and the run ends as if it had not."""
    suite_file(tmp_path, rounds=4, steps=6)
    assert cli.main([*command(tmp_path, "whole", "rgal"), "--jobs", "1"]) == 0
    arguments = [*command(tmp_path, "cut", "rgal"), "--jobs", "1"]
    runner = subprocess.Popen(
        [sys.executable, str(ROOT / "run_suite.py"), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        worker = _wait_for_worker(tmp_path / "cut", runner)
        os.kill(worker, signal.SIGKILL)
        assert runner.wait(timeout=120) == 0
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
        output, _ = runner.communicate(timeout=60)
    finally:
        runner.kill()
    assert runner.returncode == 130
    assert "run the same command again" in output and "Traceback" not in output
    (trial,) = (tmp_path / "r" / "trials").iterdir()
    assert (trial / "checkpoint.pt").exists() and not (trial / "result.json").exists()


def _wait_for_worker(results: Path, runner: subprocess.Popen) -> int:  # type: ignore[type-arg]
    """Process id of the worker that runs the only trial, once it has begun."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and runner.poll() is None:
        if pids := _at_work(results):
            return pids[0]
        time.sleep(0.02)
    raise AssertionError("no trial began")


def test_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"damaged")
    import torch

    assert checkpoint.Checkpoint(path).load(torch.device("cpu")) is None
