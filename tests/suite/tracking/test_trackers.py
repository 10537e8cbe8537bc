"""Trackers: MLflow and Weights & Biases get the rows as they are, and one that fails costs nothing but itself."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rgal import cli
from rgal.core.errors import UserError
from rgal.suite.tracking import tracker as module
from rgal.suite.tracking.mlflow import mlflow_run
from rgal.suite.tracking.tracker import TRACKERS, Tracked, Tracker, Watch, check_trackers, tracking
from rgal.suite.tracking.wandb import wandb_run
from tests.helpers.stopped_runs import command, suite_file

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")

ROWS = [
    {"kind": "synthesis", "round": 1, "synthesis_steps": 3, "student_steps": 0, "bn": 2.0, "images": 8},
    {"kind": "student", "round": 1, "synthesis_steps": 3, "student_steps": 4, "kd": 1.5, "images": 8},
    {"kind": "evaluation", "round": 1, "synthesis_steps": 3, "student_steps": 4, "top1": 50.0, "images": 8},
]
EXPECTED = [
    ("synthesis/bn", 2.0, 3), ("cost/images", 8.0, 3), ("student/kd", 1.5, 4), ("cost/images", 8.0, 7),
    ("evaluation/top1", 50.0, 4),
]  # fmt: skip


def tracked(root: Path) -> Tracked:
    return Tracked(
        root, "kd-cmi-s0-aa", {"seed": 0, "schedule": {"rounds": 6}, "options": {}, "network": None}
    )


# MLflow --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_mlflow_has_one_run_of_a_trial_however_often_it_began(
    tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(times):
        with mlflow_run(tracked(tmp_path)) as watch:
            watch(ROWS[:1])
            watch(ROWS[1:])
    client = MlflowClient((tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("rgal")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "kd-cmi-s0-aa" and run.info.status == "FINISHED"
    assert run.data.params == {"seed": "0", "schedule.rounds": "6"}
    for name in dict.fromkeys(name for name, *_ in EXPECTED):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(m.key, m.value, m.step) for m in history] == [one for one in EXPECTED if one[0] == name]


class FakeClient:
    """MlflowClient's calls, kept."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.experiment: str | None = None

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.experiment) if self.experiment else None

    def create_experiment(self, name: str) -> str:
        self.experiment = name
        return name

    def search_runs(self, experiments: list[str], query: str) -> list[SimpleNamespace]:
        return [run for run in self.runs.values() if f"'{run.tags['rgal.trial']}'" in query]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> SimpleNamespace:
        run = SimpleNamespace(
            info=SimpleNamespace(run_id=f"run{len(self.runs)}"), tags=tags, batches=[], status=""
        )
        self.runs[run.info.run_id] = run
        return run

    def delete_run(self, run_id: str) -> None:
        del self.runs[run_id]

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        self.runs[run_id].batches.append((list(metrics), list(params)))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status


@pytest.fixture
def mlflow_client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The package mlflow, of which only what is called exists."""
    client = FakeClient()
    for name, parts in {
        "mlflow": {},
        "mlflow.tracking": {"MlflowClient": lambda uri: client},
        "mlflow.entities": {"Metric": lambda *told: told, "Param": lambda *told: told},
        "mlflow.exceptions": {"MlflowException": RuntimeError},
    }.items():
        fake = ModuleType(name)
        fake.__dict__.update(parts)
        monkeypatch.setitem(sys.modules, name, fake)
    return client


def test_mlflow_is_told_in_batches(tmp_path: Path, mlflow_client: FakeClient) -> None:
    with pytest.raises(RuntimeError, match="trial"), mlflow_run(tracked(tmp_path)):
        raise RuntimeError("the trial failed")
    with mlflow_run(tracked(tmp_path)) as watch:
        watch(ROWS)
        watch([{**ROWS[1], "student_steps": 5 + step} for step in range(400)])
    (run,) = mlflow_client.runs.values()
    assert run.status == "FINISHED" and run.batches[0][1] == [("seed", "0"), ("schedule.rounds", "6")]
    sent = [(name, value, step) for metrics, _ in run.batches for name, value, _, step in metrics]
    assert sent[: len(EXPECTED)] == EXPECTED and len(sent) == len(EXPECTED) + 2 * 400
    assert max(len(metrics) for metrics, _ in run.batches) <= 500


# Weights & Biases ----------------------------------------------------------------------------------------------------


class FakeRun:
    """A run of wandb: its calls, kept."""

    def __init__(self) -> None:
        self.axes: dict[str, str] = {}
        self.logged: list[dict[str, float]] = []
        self.code: int | None = None

    def define_metric(self, name: str, step_metric: str = "", hidden: bool = False) -> None:
        if step_metric:
            self.axes[name] = step_metric

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


def test_wandb_is_told_of_every_kind_along_its_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = FakeRun(), {}
    fake = ModuleType("wandb")
    fake.__dict__.update(init=lambda **told: asked.update(told) or run, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with wandb_run(tracked(tmp_path)) as watch:
        watch(ROWS)
    assert asked["mode"] == "offline" and asked["config"] == {"seed": 0, "schedule.rounds": 6}
    assert asked["dir"] == str(tmp_path / "wandb") and run.code == 0
    axis = {pattern.partition("/")[0]: step for pattern, step in run.axes.items()}
    sent = [
        (name, value, values[axis[name.partition("/")[0]]])
        for values in run.logged for name, value in values.items() if "/" in name
    ]  # fmt: skip
    assert sent == EXPECTED
    monkeypatch.setenv("WANDB_API_KEY", "x")
    with pytest.raises(ValueError), wandb_run(tracked(tmp_path)):
        raise ValueError
    assert asked["mode"] == "online" and run.code == 1


def test_wandb_itself_writes_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb_run(tracked(tmp_path)) as watch:
        watch(ROWS)
    (written,) = (tmp_path / "wandb").rglob("*.wandb")
    content = written.read_bytes()
    assert b"evaluation/top1" in content and b"schedule.rounds" in content


# All of them ---------------------------------------------------------------------------------------------------------


@contextmanager
def keeping(trial: Tracked) -> Iterator[Watch]:
    with (trial.root / "kept.jsonl").open("a") as file:
        yield lambda rows: file.writelines(json.dumps(row) + "\n" for row in rows)


@contextmanager
def breaking(trial: Tracked) -> Iterator[Watch]:
    def watch(rows: list[dict[str, Any]]) -> None:
        if len(rows) == 1:
            raise ConnectionError("the server is\naway")

    yield watch
    raise OSError("and stays away")


@contextmanager
def refusing(trial: Tracked) -> Iterator[Watch]:
    raise ConnectionError("no server")
    yield print


@pytest.fixture
def own_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trackers of this file: one that keeps rows, one that fails over them, one that cannot be opened."""
    for function in (keeping, breaking, refusing):
        name = function.__name__
        monkeypatch.setitem(TRACKERS, name, Tracker("json", (__name__, name), "json"))


@pytest.mark.usefixtures("own_trackers")
def test_a_tracker_that_fails_costs_nothing_but_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tracking(("breaking", "refusing", "keeping"), tracked(tmp_path)) as watch:
        for row in ROWS:
            watch([row])
    assert [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()] == ROWS
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == [
        "--track refusing",
        "--track breaking",
        "--track breaking",
    ]
    assert "is not followed any more: ConnectionError: the server is" in said[1] and len(said) == 3


@pytest.mark.usefixtures("own_trackers")
def test_a_trial_is_the_same_with_and_without(tmp_path: Path) -> None:
    suite_file(tmp_path, rounds=2, steps=2)
    for name, more in (("plain", []), ("told", ["--track", "keeping", "breaking", "keeping"])):
        assert cli.main([*command(tmp_path, name, "plain"), "--jobs", "0", *more]) == 0
    (one,), (other,) = ((tmp_path / name / "trials").iterdir() for name in ("plain", "told"))
    assert one.name == other.name
    rows = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    assert [json.loads(line) for line in (tmp_path / "told" / "kept.jsonl").read_text().splitlines()] == rows
    assert (one / "student.safetensors").read_bytes() == (other / "student.safetensors").read_bytes()


def test_an_error_of_the_trial_is_not_the_trackers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="mine"), tracking((), tracked(tmp_path)):
        raise ValueError("mine")
    assert not capsys.readouterr().err


def test_what_is_not_there_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="did you mean 'mlflow'"):
        check_trackers(["mlfow"])
    found = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    suite_file(tmp_path, rounds=1, steps=1)
    for flag in (["--tensorboard"], ["--track", "tensorboard"]):
        assert cli.main([*command(tmp_path, "r", "plain"), *flag]) == 2
        error = capsys.readouterr().err
        assert (
            error
            == "error: --track tensorboard: needs the package tensorboard; pip install 'tensorboard>=2.17'\n"
        )
    assert not (tmp_path / "r").exists()
