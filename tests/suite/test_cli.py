"""The command line as people use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal import cli
from tests.helpers.suites import SUITE


def test_help_fits_one_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and len(lines) <= 40 and max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("tasks", "kd"),
        ("methods", "follows=paper"),
        ("datasets", "digits"),
        ("nets", "wrn40_2"),
        ("suites", "kd.yaml"),
    ],
)
def test_list(what: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", what]) == 0
    assert expected in capsys.readouterr().out


def test_dry_run_shows_trials_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--dry-run"]
    assert cli.main([*arguments, "--methods", "cmi", "rgal", "--seeds", "0", "1", "--set", "rounds=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 trials: digits wrn10_1 -> resnet8")
    assert len(lines) == 5 and all("3 rounds" in line and "3 student steps" in line for line in lines[1:])
    assert not (tmp_path / "r").exists()


def test_all_means_every_method_of_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rgal.methods.registry import methods

    (tmp_path / "suite.yaml").write_text(SUITE)
    assert cli.main(["--suite", str(tmp_path / "suite.yaml"), "--methods", "all", "--dry-run"]) == 0
    count = len([method for method in methods().values() if "kd" in method.tasks])
    assert capsys.readouterr().out.startswith(f"{count} trials")


def test_given_weights_are_measured_and_used(tmp_path: Path) -> None:
    """A teacher trained by one run serves another as --teacher-weights, with the same accuracy."""
    import json

    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--jobs", "0"]
    assert cli.main([*arguments, "--results", str(tmp_path / "a")]) == 0
    (weights,) = (tmp_path / "a" / "teachers").glob("*.safetensors")
    given = [*arguments, "--results", str(tmp_path / "b"), "--teacher-weights", str(weights)]
    assert cli.main(given) == 0

    def result(name: str) -> dict[str, float]:
        (path,) = (tmp_path / name / "trials").glob("*/result.json")
        loaded = json.loads(path.read_text())
        return {k: loaded[k] for k in ("last", "teacher_top1", "images")}

    assert result("a") == result("b")
