"""A run that is stopped at any point and started again ends with the same numbers, byte for byte."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.store import checkpoint
from tests.helpers.stopped_runs import (
    at_work,
    command,
    kill_at_random_moments,
    once_at_work,
    outcome,
    run_in_pieces,
    suite_file,
)

pytestmark = pytest.mark.usefixtures("no_report")

# Every method is stopped in tests/contracts/test_contract.py as well; these through the command line.
ALSO_STOPPED = [
    ("dfq", "gdfq+rgal"),
    ("kd", "cmi"),
    ("kd", "deepinversion"),
    ("dfq", "rgal"),
    ("dfq", "zeroq"),
]


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("kd", "rgal"),
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


@pytest.mark.workers
def test_worker_process_killed_is_taken_up_again(tmp_path: Path) -> None:
    """A worker that dies (out of memory, say) is started again by the runner, and the run ends as if it had not."""
    suite_file(tmp_path, rounds=4, steps=6)
    assert cli.main([*command(tmp_path, "whole", "rgal"), "--jobs", "0", "--threads", "1"]) == 0
    with once_at_work(tmp_path / "cut", lambda worker: os.kill(worker, signal.SIGKILL)) as killed:
        assert cli.main([*command(tmp_path, "cut", "rgal"), "--jobs", "1", "--threads", "1"]) == 0
    assert killed and at_work(tmp_path / "cut") not in (killed, [os.getpid()])
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.workers
def test_interrupt_stops_cleanly_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    suite_file(tmp_path, rounds=4000, steps=6)
    with once_at_work(tmp_path / "r", lambda _: os.kill(os.getpid(), signal.SIGINT)):
        assert cli.main([*command(tmp_path, "r", "plain"), "--jobs", "1"]) == 130
    output = "".join(capfd.readouterr())
    assert "run the same command again" in output and "Traceback" not in output
    (trial,) = (tmp_path / "r" / "trials").iterdir()
    assert (trial / "checkpoint.pt").exists() and not (trial / "result.json").exists()


def test_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"damaged")
    import torch

    assert checkpoint.Checkpoint(path).load(torch.device("cpu")) is None
