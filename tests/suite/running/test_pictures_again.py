"""A finished trial whose process died over its pictures gets them from the same command."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal import cli
from rgal.suite.running import work
from tests.helpers.stopped_runs import command, outcome, suite_file

pytestmark = pytest.mark.usefixtures("no_report")


class Killed(BaseException):
    """In place of a signal that nobody can handle."""


def call(folder: Path, results: str) -> int:
    return cli.main([*command(folder, results, "rgal"), "--jobs", "0"])


def test_pictures_are_drawn_by_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_file(tmp_path, rounds=2, steps=2)
    assert call(tmp_path, "whole") == 0

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(work, "_illustrate", dies)
        with pytest.raises(Killed):
            call(tmp_path, "cut")
    (trial,) = (tmp_path / "cut" / "trials").iterdir()
    numbers = (trial / "result.json").read_bytes()
    assert not (trial / "diversity.json").exists()
    assert call(tmp_path, "cut") == 0
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    assert (trial / "result.json").read_bytes() == numbers and not (trial / "checkpoint.pt").exists()


def test_pictures_that_kill_again_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_file(tmp_path, rounds=2, steps=2)

    def dies(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(work, "_illustrate", dies)
    for _ in range(2):
        with pytest.raises(Killed):
            call(tmp_path, "cut")
    assert call(tmp_path, "cut") == 0
