"""Event files repeat metrics.jsonl, once, whatever happened to the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from rgal.suite.tracking.scalars import costs, scalars
from rgal.suite.tracking.tensorboard import event_files
from rgal.suite.tracking.tracker import Tracked
from tests.helpers.stopped_runs import command, run_in_pieces, suite_file
from tests.helpers.suites import SUITE

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")

Events = dict[str, list[tuple[int, float]]]


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard")


def events(folder: Path) -> Events:
    """Tag -> (step, value) in the order of the files, read by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), {"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def rows_of(trial: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]


def expected(rows: list[dict[str, Any]]) -> Events:
    """What the rows say, in a plain loop, with numbers as event files hold them: in 32 bits."""
    scalars_of: Events = {}
    for row in rows:
        step = row["synthesis_steps"] if row["kind"] == "synthesis" else row["student_steps"]
        for name, value in row.items():
            if name not in ("kind", "round", "images") and not name.endswith(("_steps", "_seconds")):
                scalars_of.setdefault(f"{row['kind']}/{name}", []).append(
                    (step, pytest.approx(value, rel=1e-6))
                )
    for name in ("images", "synthesis_seconds", "student_seconds"):
        spent = {
            row["synthesis_steps"] + row["student_steps"]: pytest.approx(row[name], rel=1e-6) for row in rows
        }
        scalars_of[f"cost/{name}"] = list(spent.items())
    return scalars_of


def one(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


@pytest.mark.workers
@pytest.mark.usefixtures("tensorboard")
def test_events_are_the_rows(tmp_path: Path) -> None:
    """Of a trial in a worker, in a folder called like the trial's; the next test's are in this process."""
    suite_file(tmp_path, rounds=3, steps=2)
    assert cli.main([*command(tmp_path, "r", "rgal"), "--jobs", "1", "--track", "tensorboard"]) == 0
    trial, written = one(tmp_path / "r" / "trials"), one(tmp_path / "r" / "tensorboard")
    assert written.name == trial.name
    read = events(written)
    assert read == expected(rows_of(trial))
    assert {"synthesis/spread", "student/gather", "evaluation/top1", "cost/images"} <= set(read)
    assert [step for step, _ in read["evaluation/top1"]] == [2, 4, 6]


@pytest.mark.usefixtures("tensorboard")
def test_stopped_runs_have_each_event_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_file(tmp_path, rounds=3, steps=3)
    assert cli.main([*command(tmp_path, "whole", "plain"), "--jobs", "0"]) == 0
    assert not (tmp_path / "whole" / "tensorboard").exists()
    run_in_pieces([*command(tmp_path, "cut", "plain"), "--track", "tensorboard"], tmp_path, monkeypatch)
    folder = one(tmp_path / "cut" / "tensorboard")
    assert events(folder) == expected(rows_of(one(tmp_path / "cut" / "trials")))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.usefixtures("tensorboard")
def test_rows_that_were_cut_off_are_gone(tmp_path: Path) -> None:
    """A killed run wrote rows after its last checkpoint; taken up again, it starts from the rows that are left."""

    def row(step: int) -> dict[str, Any]:
        return {"kind": "student", "round": step, "synthesis_steps": 0, "student_steps": step, "kd": step / 2}

    with event_files(Tracked(tmp_path, "trial", {})) as watch:
        watch([])
        for step in (1, 2, 3):
            watch([row(step)])
    with event_files(Tracked(tmp_path, "trial", {})) as watch:
        watch([row(1)])
        watch([row(2)])
        watch([])
    assert events(tmp_path / "tensorboard" / "trial") == {"student/kd": [(1, 0.5), (2, 1.0)]}


def test_the_key_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "suite.yaml").write_text(SUITE)
    printed = []
    for more in ([], ["--track", "tensorboard"]):
        assert cli.main(["--suite", str(tmp_path / "suite.yaml"), "--dry-run", *more]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_steps_of_a_row() -> None:
    """Each kind's own; an evaluation of a method that trains nothing has its round, or they would all stand at 0."""
    spent = {
        "synthesis_steps": 7,
        "student_steps": 30,
        "images": 5,
        "synthesis_seconds": 1.0,
        "student_seconds": 2.0,
    }
    assert scalars({"kind": "synthesis", "round": 2, "bn": 1, **spent}) == [("synthesis/bn", 1.0, 7)]
    assert scalars({"kind": "student", "round": 2, "phase": 1, "kd": 2.5, **spent}) == [
        ("student/kd", 2.5, 30)
    ]
    assert scalars({"kind": "evaluation", "round": 2, "top1": 50.0, **spent}) == [
        ("evaluation/top1", 50.0, 30)
    ]
    spent["student_steps"] = 0
    assert scalars({"kind": "evaluation", "round": 2, "top1": 50.0, **spent}) == [
        ("evaluation/top1", 50.0, 2)
    ]
    assert costs({"kind": "student", "round": 2, **spent}) == [
        ("cost/images", 5.0, 7), ("cost/synthesis_seconds", 1.0, 7), ("cost/student_seconds", 2.0, 7),
    ]  # fmt: skip
    assert (
        scalars({"kind": "student", "student_steps": 1})
        == []
        == costs({"kind": "student", "student_steps": 1})
    )
