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
from tests.helpers.runners import done_once, forked_runner, numbers, own_work, runner
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


@pytest.mark.workers
@pytest.mark.usefixtures("no_plots")
def test_two_share_the_work(tmp_path: Path) -> None:
    suite_of(tmp_path, "plain, scratch", 2)
    runners = [forked_runner(tmp_path, "r", f"said{number}") for number in range(2)]
    said = [one.communicate() for one in runners]
    assert [one.process.exitcode for one in runners] == [0, 0], said
    done = done_once(said)
    assert len(done) == 6 and set(done.values()) == {1}, said
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


def until_it_works(process: subprocess.Popen[str], results: Path) -> None:
    """Wait for the first rows of a trial."""
    while not list(results.glob("trials/*/metrics.jsonl")) and process.poll() is None:
        time.sleep(0.05)


@pytest.mark.slow
def test_a_frozen_runner_finds_that_another_did_its_work(tmp_path: Path) -> None:
    """It writes nothing more into the trial, and ends like the other."""
    suite_of(tmp_path, "plain", 1, rounds=40)
    first = runner(tmp_path, "r", "--jobs", "0", lapse=3)
    until_it_works(first, tmp_path / "r")
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        second = runner(tmp_path, "r", "--jobs", "0", lapse=3)
        said, _ = second.communicate(timeout=300)
        assert second.returncode == 0 and len(own_work(said)) == 1, said
        left = contents(tmp_path / "r" / "trials")
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 0 and "plain seed 0" in said and "(by another runner)" in said, said
    assert contents(tmp_path / "r" / "trials") == left
    assert not list((tmp_path / "r" / ".claims").iterdir())
    assert numbers(tmp_path / "r") == single(tmp_path)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.workers
def test_stopped_runner_gives_its_claims_back(tmp_path: Path) -> None:
    """At once, for the others."""
    suite_of(tmp_path, "plain", 1, rounds=4000)
    first = forked_runner(tmp_path, "r", "said")
    try:
        while not list((tmp_path / "r").glob("trials/*/metrics.jsonl")) and first.process.is_alive():
            time.sleep(0.05)
        first.process.terminate()
        said = first.communicate()
    finally:
        first.process.kill()
    assert first.process.exitcode == 143, said
    assert not list((tmp_path / "r" / ".claims").iterdir())
