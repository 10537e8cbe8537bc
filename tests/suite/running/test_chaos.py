"""The command line with two workers is killed a hundred times: a hundred results as of runs that are left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers import necil_builders
from tests.helpers.runners import runner
from tests.helpers.stopped_runs import at_work, outcome_of
from tests.helpers.suites import DFQ_SUITE, SUITE

KILLS = {"kd": 34, "dfq": 33, "necil": 33}
SUITES = {"kd": SUITE, "dfq": DFQ_SUITE, "necil": necil_builders.SUITE}
METHODS = {"kd": "rgal, cmi", "dfq": "gdfq+rgal, rgal", "necil": "rgal, pass"}
ROUNDS, STEPS = 30, 12  # of a trial: some seconds
ENOUGH = 1500  # seconds for a whole run on a machine that does other things too


def write_suite(folder: Path, task: str) -> None:
    text = SUITES[task].replace("rounds: 1", f"rounds: {ROUNDS if task != 'necil' else ROUNDS // 3}")
    for name in ("[plain]", "[finetune]"):
        text = text.replace(f"methods: {name}", f"methods: [{METHODS[task]}]")
    for few in ("_steps: 1\n", "_steps: 2\n"):
        text = text.replace(few, f"_steps: {STEPS}\n")
    (folder / "suite.yaml").write_text(text)


def whole_run(folder: Path, results: str) -> dict[str, dict[str, str]]:
    """Start the command, let it end, and return what each trial left."""
    process = runner(folder, results, "--jobs", "2", checkpoints=0.2)
    said, _ = process.communicate(timeout=ENOUGH)
    assert process.returncode == 0, said
    return outcomes(folder / results)


def outcomes(results: Path) -> dict[str, dict[str, str]]:
    return {trial.name: outcome_of(trial) for trial in sorted((results / "trials").iterdir())}


def everything(process: subprocess.Popen[str], results: Path) -> None:
    """Kill the command with all its processes, as the end of a machine does."""
    os.killpg(process.pid, signal.SIGKILL)


def the_command(process: subprocess.Popen[str], results: Path) -> None:
    """Kill the command alone: its workers have to notice, beside the one that takes their work up."""
    process.kill()


def a_worker(process: subprocess.Popen[str], results: Path) -> None:
    """Kill a process that runs a trial, as a machine that is out of memory does, once there is one."""
    while not at_work(results) and process.poll() is None:
        time.sleep(0.05)
    for worker in at_work(results)[-1:]:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


VICTIMS = (everything, the_command, a_worker)


@pytest.mark.slow
@pytest.mark.parametrize("task", KILLS)
def test_killed_at_any_moment(task: str, tmp_path: Path) -> None:
    """Each time at another moment from the start of the command to its end, imports and tables included."""
    write_suite(tmp_path, task)
    began = time.monotonic()
    whole, took = whole_run(tmp_path, "whole"), time.monotonic() - began
    chance, kills = random.Random(task), 0
    while kills < KILLS[task]:
        process = runner(tmp_path, "cut", "--jobs", "2", checkpoints=0.2)
        time.sleep(chance.uniform(0.0, took))
        if process.poll() is None:
            VICTIMS[kills % len(VICTIMS)](process, tmp_path / "cut")
            kills += 1
        process.wait(timeout=ENOUGH)
        assert whole_run(tmp_path, "cut") == whole, f"after {kills} kills"
        shutil.rmtree(tmp_path / "cut")
