"""The command line as people use it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rgal import cli
from tests.helpers.suites import SUITE

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")


def test_help_fits_one_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and len(lines) <= 56 and max(map(len, lines)) <= 100


def test_examples_of_the_help_run(capsys: pytest.CaptureFixture[str]) -> None:
    help_text = cli.parser().format_help()
    examples = re.findall(r"^  rgal (.*?)  ", help_text, flags=re.M)
    assert len(examples) == 3
    for example in examples:
        assert cli.main([*example.split(), "--dry-run"]) == 0, example


@pytest.mark.parametrize("name", ["plugin", "plugin.yaml", "benchmarks/plugin.yaml"])
def test_suites_of_rgal_are_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's own goes before the suite of that name."""
    monkeypatch.chdir(tmp_path)
    assert cli.named_suite(Path(name)) == cli.suites_folder() / "plugin.yaml"
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / name).write_text(SUITE)
    assert cli.named_suite(Path(name)) == Path(name)
    assert cli.named_suite(Path("elsewhere") / "plugin.yaml") == Path("elsewhere/plugin.yaml")


def test_links_that_are_text_files_are_one_line(tmp_path: Path) -> None:
    """git writes symbolic links as text files where core.symlinks is false."""
    root = Path(cli.__file__).parents[1]
    shutil.copy(root / "run_suite.py", tmp_path)
    shutil.copytree(
        root / "rgal", tmp_path / "rgal", ignore=shutil.ignore_patterns("__pycache__", *cli.LINKS)
    )
    for name in cli.LINKS:
        (tmp_path / "rgal" / name).write_text(f"../{name}")
    command = [sys.executable, str(tmp_path / "run_suite.py"), "--list", "tasks"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: rgal/tasks is a text file") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("tasks", "kd"),
        ("methods", "rgal           [kd, dfq, necil] Liang"),
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
    assert all("3 rounds" in line and "3 student steps" in line for line in lines[1:5])
    assert lines[5:] == [
        "  resnet8: layers layer1, layer2, layer3; head fc; 9 of 9 norms matched",
        "  wrn10_1: layers block1, block2, block3; head fc; 7 of 7 norms matched",
        "4 of 4 trials to run, one at a time; how long is not known yet: nothing of this setting has finished here",
    ]
    assert not (tmp_path / "r").exists()


def test_all_means_every_method_of_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rgal.methods.registry import methods

    (tmp_path / "suite.yaml").write_text(SUITE)
    assert cli.main(["--suite", str(tmp_path / "suite.yaml"), "--methods", "all", "--dry-run"]) == 0
    runnable = [name for name, method in methods().items() if "kd" in method.tasks and name != "given"]
    count = len(runnable)  # a row of given images needs some
    assert capsys.readouterr().out.startswith(f"{count} trials")


def test_given_weights_are_measured_and_used(tmp_path: Path) -> None:
    """A teacher trained by one run serves another as --teacher-weights, with the same accuracy."""
    import json

    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--jobs", "0"]
    assert cli.main([*arguments, "--results", str(tmp_path / "a")]) == 0
    (weights,) = (tmp_path / "a" / "teachers").glob("*.safetensors")
    given = [*arguments, "--results", str(tmp_path / "b"), "--teacher-weights", str(weights)]
    given += ["--set", "allow_weak_teacher=true"]  # two steps teach it nothing
    assert cli.main(given) == 0

    def result(name: str) -> dict[str, float]:
        (path,) = (tmp_path / name / "trials").glob("*/result.json")
        loaded = json.loads(path.read_text())
        return {k: loaded[k] for k in ("last", "teacher_top1", "images")}

    assert result("a") == result("b")


def test_an_option_of_many_values_may_be_given_several_times() -> None:
    """The last one alone would silently undo the first."""
    given = [
        "--set",
        "rounds=2",
        "--set",
        "batch=8",
        "--methods",
        "cmi",
        "--methods",
        "rgal",
        "--seeds",
        "0",
        "--seeds",
        "1",
    ]
    options = cli.parser().parse_args(given)
    assert (options.set, options.methods, options.seeds) == (["rounds=2", "batch=8"], ["cmi", "rgal"], [0, 1])
    assert cli.parser().parse_args([]).set == []
