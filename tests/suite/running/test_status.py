"""`--status`: a line a trial, from records and claims alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.running.status import status_text
from rgal.suite.store.claims import Claim, Claims
from tests.helpers.store_builders import add_trial, change, settings


def begun(root: Path, key: str, seed: int) -> Path:
    folder = add_trial(root, key, settings(seed=seed))
    (folder / "result.json").unlink()
    return folder


def claimed(root: Path, key: str, **changes: object) -> Claim:
    claim = Claims(root).try_to_claim(f"trial-{key}", f"title of {key}")
    assert claim is not None
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), **changes}))
    return claim


def test_who_works_on_what_and_what_failed(tmp_path: Path) -> None:
    add_trial(tmp_path, "aa", settings(seed=0))
    failed = add_trial(tmp_path, "bb", settings(seed=1))
    change(failed / "result.json", status="failed", reason="too hot")
    for seed, key in enumerate(("cc", "dd", "ee"), 2):
        begun(tmp_path, key, seed)
    there = {"host": "node7", "machine": "another", "pid": 17, "device": "cuda:1"}
    claimed(tmp_path, "cc", **there, said="round 3/20 | 41 %", at="2026-01-01 10:00:00 UTC")
    claimed(tmp_path, "dd", born="1")  # a process of this machine that is gone
    claimed(tmp_path, "ff", **there)
    head, *lines = status_text(tmp_path).splitlines()
    assert head == "5 trials: 1 finished, 1 failed, 1 running, 2 begun"
    told = {line.split()[0]: line for line in lines}
    assert set(told) == {
        "title",
        *(f"kd-cmi-s{seed}-{key}" for seed, key in enumerate(("aa", "bb", "cc", "dd", "ee"))),
    }
    assert "title of ff" in told["title"] and "process 17 on node7, cuda:1" in told["title"]
    assert "finished" in told["kd-cmi-s0-aa"]
    assert told["kd-cmi-s1-bb"].endswith("failed    too hot")
    assert told["kd-cmi-s2-cc"].endswith(
        "running   round 3/20 | 41 % | process 17 on node7, cuda:1 | last sign of life at 2026-01-01 10:00:00 UTC"
    )
    assert told["kd-cmi-s3-dd"].endswith("begun     its process is gone")
    assert told["kd-cmi-s4-ee"].endswith("begun     nobody works on it")


def test_hostile_records_and_claims_are_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, text in (("aa", "{"), ("bb", "[1]"), ("cc", "[" * 5000)):
        (begun(tmp_path, key, 0) / "trial.json").write_text(text)
    begun(tmp_path, "dd", 1)
    claimed(tmp_path, "dd", machine="x", host="a\nb\x1b[2J", said="c\r" * 3)
    claimed(tmp_path, "ee", machine="x", pid="no", at={})
    assert cli.main(["--results", str(tmp_path), "--status"]) == 0
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(lines) == 5 and all(line.isprintable() for line in lines)


def test_an_empty_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--results", str(tmp_path), "--status"]) == 0
    assert capsys.readouterr().out == "0 trials\n"
    assert not list(tmp_path.iterdir())
    assert cli.main(["--results", str(tmp_path / "none"), "--status"]) == 2
    assert "no such folder" in capsys.readouterr().err
