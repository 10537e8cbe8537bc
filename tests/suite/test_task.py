"""Tasks from plug-ins: the one of the documentation, from its file to its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from rgal.methods.registry import methods
from rgal.suite import task as suite_task
from rgal.suite.task import Task, task, tasks
from tests.helpers.documents import code_blocks
from tests.helpers.suites import SUITE

pytestmark = pytest.mark.usefixtures("no_plots", "nothing_stays")

OWN_SUITE = SUITE.replace("task: kd", "task: self").replace("student: resnet8\n", "")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The file of the documentation, and a suite for it."""
    path = tmp_path / "own_task.py"
    path.write_text(code_blocks("plugins.md")[1])
    (tmp_path / "mine.yaml").write_text(OWN_SUITE)
    return path


def call(plugin: Path, *arguments: str) -> int:
    folder = plugin.parent
    fixed = ["--task", "self", "--suite", str(folder / "mine.yaml"), "--results", str(folder / "r")]
    return cli.main([*fixed, "--plugin", str(plugin), *arguments])


@pytest.mark.workers
def test_it_runs_in_a_worker_and_is_reported(
    plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(plugin, "--methods", "plain", "--jobs", "1") == 0
    assert "digits wrn10_1, by itself" in capsys.readouterr().out
    (record,) = (plugin.parent / "r" / "trials").glob("*/trial.json")
    settings: dict[str, Any] = json.loads(record.read_text())["settings"]
    assert (settings["task"], settings["teacher"], settings["student"]) == ("self", "wrn10_1", "wrn10_1")
    assert settings["plugins"] == [str(plugin)]
    tables = [path.read_text() for path in (plugin.parent / "r" / "tables").glob("self_*.md")]
    assert any("plain" in table for table in tables)
    monkeypatch.setattr(suite_task, "_ADDED", {})  # the report needs no plug-in
    assert cli.main(["--results", str(plugin.parent / "r"), "--report-only"]) == 0


def test_it_runs_the_methods_of_distillation(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(plugin, "--methods", "all", "--dry-run") == 0
    count = sum("kd" in method.tasks and name != "given" for name, method in methods().items())
    assert capsys.readouterr().out.startswith(f"{count} trials: digits wrn10_1, by itself")
    assert call(plugin, "--methods", "gdfq", "--dry-run") == 2
    assert "method 'gdfq' is not for task 'self'" in capsys.readouterr().err


def test_it_is_listed(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "tasks", "--plugin", str(plugin)]) == 0
    assert "self     data-free self-distillation" in capsys.readouterr().out


def test_it_has_no_suite_unless_one_is_named(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--task", "self", "--plugin", str(plugin)]) == 2
    error = capsys.readouterr().err
    assert "task 'self' has no suite" in error and "--suite FILE" in error and len(error.splitlines()) == 1


def test_without_its_plugin_it_is_unknown(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--suite", str(plugin.parent / "mine.yaml"), "--dry-run"]) == 2
    assert "unknown task 'self'" in capsys.readouterr().err


def test_an_edited_task_is_another_trial(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def key() -> str:
        capsys.readouterr()
        assert call(plugin, "--dry-run") == 0
        return capsys.readouterr().out.splitlines()[1].split()[0]

    text, first = plugin.read_text(), key()
    plugin.write_text(text.replace("@task", "# A remark.\n@task"))
    assert key() == first
    plugin.write_text(text.replace('"student")', '"other student")'))
    assert key() != first


@pytest.mark.parametrize(
    ("line", "expected"),
    [('name = "kd"', "a task 'kd' exists already, in rgal.tasks"), ('name = ""', "expected a `name`")],
)
def test_names_that_cannot_be(
    line: str, expected: str, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin.write_text(plugin.read_text().replace('name = "self"', line))
    assert cli.main(["--list", "tasks", "--plugin", str(plugin)]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1


def test_two_files_cannot_bring_the_same(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = plugin.with_name("other.py")
    other.write_text(plugin.read_text())
    assert cli.main(["--list", "tasks", "--plugin", str(plugin), str(other)]) == 2
    assert "a task 'self' exists already" in capsys.readouterr().err


def test_our_tasks_stay() -> None:
    @task
    class Mine(Task):
        name = "mine"

    assert set(tasks()) == {"dfq", "kd", "mine", "necil"} and isinstance(tasks()["mine"], Mine)
