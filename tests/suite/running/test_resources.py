"""How a run shares the granted cores out among trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rgal import cli
from rgal.suite.running import resources
from rgal.suite.running.resources import HowToRun, share_cores
from tests.helpers.suites import SUITE

# granted cores, OMP_NUM_THREADS, --jobs, --threads, devices, number of trials -> (at a time, threads of each)
CASES = [
    (8, None, None, None, "cpu", 20, (8, 1)),
    (8, None, None, None, "cpu", 2, (2, 4)),
    (8, None, None, None, "cpu", 0, (1, 8)),
    (8, None, 3, None, "cpu", 20, (3, 2)),
    (8, None, 20, None, "cpu", 20, (20, 1)),
    (8, None, None, 4, "cpu", 20, (2, 4)),
    (8, 4, None, None, "cpu", 20, (2, 4)),
    (8, 4, None, 2, "cpu", 20, (4, 2)),
    (8, 16, None, None, "cpu", 20, (1, 16)),
    (8, None, None, None, "cuda:0", 20, (5, 1)),
    (8, None, None, None, "cuda:0", 1, (1, 8)),
    (8, 1, None, None, "cuda:0", 20, (5, 1)),
    (4, None, None, None, "cuda:0 cuda:1", 20, (4, 1)),
    (2, None, None, None, "cuda:0 cuda:1 cuda:2", 20, (3, 1)),
    (64, None, None, None, "cuda:0 cuda:1", 20, (10, 6)),
    (8, None, 2, None, "cuda:0 cuda:1 cuda:2", 20, (2, 4)),
    (8, None, 0, None, "cuda:0 cuda:1", 20, (1, 8)),
    (8, None, 0, None, "cpu", 20, (1, 8)),
]


@pytest.mark.parametrize(("cores", "openmp", "jobs", "threads", "device", "trials", "expected"), CASES)
def test_sharing(
    cores: int,
    openmp: int | None,
    jobs: int | None,
    threads: int | None,
    device: str,
    trials: int,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "granted_cores", lambda: cores)
    monkeypatch.setattr(resources, "wanted_threads", lambda: openmp)
    assert share_cores(HowToRun(jobs, threads), device.split(), trials) == expected


def test_who_says_how_many_share_a_gpu_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "granted_cores", lambda: 2)
    monkeypatch.setattr(resources, "wanted_threads", lambda: None)
    assert share_cores(HowToRun(per_device=3), ["cuda:0", "cuda:1"], 20) == (6, 1)


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--threads", "-2"], ["--jobs", "-1"]])
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert " ".join(arguments) + ": expected" in capsys.readouterr().err


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_the_record_holds_the_threads(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    before = torch.get_num_threads()
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main([*arguments, "--threads", "3"]) == 0
    (record,) = (tmp_path / "r" / "trials").glob("*/trial.json")
    assert json.loads(record.read_text())["environment"]["threads"] == 3
    assert torch.get_num_threads() == before
