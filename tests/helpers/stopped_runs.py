"""One trial through the command line, whole, in pieces or killed, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.running import drive
from tests.helpers.suites import DFQ_SUITE, SUITE

ROOT = Path(cli.__file__).parents[1]

SECONDS = ("synthesis_seconds", "student_seconds", "synthesis_cpu_seconds", "student_cpu_seconds")


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
    """What the only trial left, see `outcome_of`."""
    (trial,) = (results / "trials").iterdir()
    return outcome_of(trial)


def outcome_of(trial: Path) -> dict[str, str]:
    """Digests of the files, metrics and final numbers of a trial, seconds left out."""
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
    """Run the suite, without its report, in a process group of its own.

    Args:
        folder: of the suite file.
        results: the name of the results below it.
        method: the only one to run.
        interval: seconds between checkpoints.
    """
    code = (
        "import sys; from rgal import cli; import rgal.suite.store.checkpoint as c; cli.report = lambda *_: '';"
        f"c.INTERVAL_SECONDS = {interval}; c.WRITE_SHARE = 1.0; sys.exit(cli.main(sys.argv[1:]))"
    )
    arguments = [*command(folder, results, method), "--jobs", "0", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_at_random_moments(folder: Path, method: str) -> None:
    """A run that is killed ten times, each time after it had begun to work, ends like one that is left alone."""
    assert start(folder, "whole", method, 1e9).wait() == 0
    moments = random.Random(1)
    kills = 0
    while kills < 10:
        process = start(folder, "cut", method, 0.2)
        while process.poll() is None and process.pid not in at_work(folder / "cut"):
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


@contextmanager
def once_at_work(results: Path, act: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `act` with the id of the process that begins a trial below `results`, the first time while the block runs.

    Yields:
        That id, once it is known.
    """
    pids: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not pids and not over.wait(0.02):
            pids.extend(at_work(results)[:1])
        for pid in pids:
            act(pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield pids
    finally:
        over.set()
        watcher.join()


def at_work(results: Path) -> list[int]:
    """Process ids of those that began the trial last."""
    return [
        int(json.loads(record.read_text())["environment"]["pid"])
        for record in results.glob("trials/*/trial.json")
    ]
