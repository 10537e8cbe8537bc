"""Several runners on one results directory: every trial once, one teacher, the numbers of a single runner."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rgal import cli
from tests.helpers.runners import done_once, numbers, runner
from tests.helpers.suites import SUITE


def suite_of(folder: Path, methods: str, seeds: int, rounds: int = 1) -> None:
    text = SUITE.replace("methods: [plain]", f"methods: [{methods}]").replace(
        "rounds: 1", f"rounds: {rounds}"
    )
    (folder / "suite.yaml").write_text(text.replace("seeds: [0]", f"seeds: {list(range(seeds))}"))


def single(folder: Path) -> dict[str, str]:
    """What a single runner makes of the suite."""
    arguments = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / "one")]
    assert cli.main([*arguments, "--jobs", "0", "--threads", "1"]) == 0
    return numbers(folder / "one")


def test_two_share_the_work(tmp_path: Path, no_plots: None) -> None:
    suite_of(tmp_path, "plain, scratch", 3)
    runners = [runner(tmp_path, "r", "--jobs", "0") for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in runners]
    assert [process.returncode for process in runners] == [0, 0], said
    done = done_once(said)
    assert len(done) == 9 and set(done.values()) == {1}, said
    assert not list((tmp_path / "r" / ".claims").iterdir())
    assert numbers(tmp_path / "r") == single(tmp_path)


@pytest.mark.slow
def test_eight_share_forty_trials(tmp_path: Path) -> None:
    suite_of(tmp_path, "plain, scratch, cmi, plain+rgal", 10)
    text = (tmp_path / "suite.yaml").read_text()
    (tmp_path / "suite.yaml").write_text(text + "teachers: 1\n")
    runners = [runner(tmp_path, "r", "--jobs", "1") for _ in range(8)]
    said = [process.communicate(timeout=1800)[0] for process in runners]
    assert [process.returncode for process in runners] == [0] * 8, said
    done = done_once(said)
    assert len(done) == 41 and set(done.values()) == {1}, done
    assert sum("tables: " in text for text in said) >= 1
    assert numbers(tmp_path / "r") == single(tmp_path)


@pytest.mark.slow
def test_two_of_eight_are_killed_every_five_seconds(tmp_path: Path) -> None:
    """Until two are left. A killed one's worker notices by itself, or is killed with it."""
    suite_of(tmp_path, "plain, scratch, cmi, plain+rgal", 10, rounds=20)
    runners = [runner(tmp_path, "r", "--jobs", "1") for _ in range(8)]
    alive, chance = list(runners), random.Random(3)
    while not list((tmp_path / "r").glob("trials/*/trial.json")):
        time.sleep(0.1)
    while len(alive) > 2:
        time.sleep(5)
        for together in (True, False):
            victim = alive.pop(chance.randrange(len(alive)))
            assert victim.poll() is None, "it had ended: make the trials longer"
            os.killpg(victim.pid, signal.SIGKILL) if together else victim.kill()
            victim.wait()
    said = [process.communicate(timeout=1800)[0] for process in alive]
    assert [process.returncode for process in alive] == [0, 0], said
    assert numbers(tmp_path / "r") == single(tmp_path)


def test_stopped_runner_gives_its_claims_back(tmp_path: Path) -> None:
    """At once, for the others."""
    suite_of(tmp_path, "plain", 1, rounds=4000)
    first = runner(tmp_path, "r", "--jobs", "1")
    try:
        while not list((tmp_path / "r").glob("trials/*/metrics.jsonl")) and first.poll() is None:
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        first.kill()
        raise
    assert first.returncode == 143, said
    assert not list((tmp_path / "r" / ".claims").iterdir())
