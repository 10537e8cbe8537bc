"""The store, settings and trial keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rgal import benchmarks, cli
from rgal.suite.plan.settings import load_suite
from rgal.suite.store.folders import Metrics, Store, read_json, write_json
from rgal.suite.store.frames import load_records, make_frames, newest
from tests.helpers.data_builders import image_folder
from tests.helpers.suites import SUITE
from tests.helpers.trials import TRIAL


@pytest.mark.parametrize(
    "change",
    [
        {"data": "g"},
        {"teacher_key": "u"},
        {"student": "resnet8"},
        {"method": "cmi"},
        {"seed": 1},
        {"schedule": {"rounds": 3}},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"evaluate_on": "validation"},
        {"image_size": 16},
    ],
)
def test_the_key_covers_what_changes_numbers(change: dict[str, object]) -> None:
    assert replace(TRIAL, **change).key != TRIAL.key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"order": 3}, {"data_root": "/elsewhere"}, {"budget": "mine"}, {"keep_pool": True}]
)
def test_the_key_leaves_out_what_does_not(change: dict[str, object]) -> None:
    assert replace(TRIAL, **change).key == TRIAL.key  # type: ignore[arg-type]
    assert replace(TRIAL, device="cuda:1").key == replace(TRIAL, device="cuda").key


def test_methods_share_their_seeds() -> None:
    """Adding a method shifts nobody's draws: what streams are seeded with does not know the method."""
    assert replace(TRIAL, method="plain").seed_parts() == TRIAL.seed_parts()
    assert replace(TRIAL, seed=1).seed_parts() != TRIAL.seed_parts()


def test_metrics_drop_a_torn_line_and_cut_back(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.rows() == [] and metrics.size() == 0
    metrics.append([{"a": 1}])
    size = metrics.size()
    metrics.append([{"a": 2}, {"a": 3}])
    with metrics.path.open("ab") as file:
        file.write(b'{"a": 4, "b"')
    assert [row["a"] for row in metrics.rows()] == [1, 2, 3]
    metrics.truncate(size)
    assert metrics.rows() == [{"a": 1}]


def test_status(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = tmp_path / "trials" / "x-1"
    assert store.status(folder) == "missing"
    folder.mkdir(parents=True)
    assert store.status(folder) == "foreign"
    (folder / "trial.json").write_text("{")
    assert store.status(folder) == "broken"
    write_json(folder / "trial.json", {"schema": 1, "key": "1", "settings": TRIAL.settings()})
    assert store.status(folder) == "interrupted"
    for status in ("finished", "failed"):
        write_json(folder / "result.json", {"schema": 1, "status": status})
        assert store.status(folder) == status
    write_json(folder / "result.json", {"schema": 99, "status": "finished"})
    assert store.status(folder) == "newer"
    (folder / "result.json").write_text("{")
    assert store.status(folder) == "broken" and read_json(folder / "result.json") is None


@pytest.mark.usefixtures("no_plots", "no_pictures")
def test_frames_survive_broken_records(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main(arguments) == 0
    for name, text in (("torn-aa", "{"), ("foreign-bb", "[1]")):
        folder = tmp_path / "r" / "trials" / name
        folder.mkdir()
        (folder / "trial.json").write_text(text)
    results, curves = make_frames(load_records(Store(tmp_path / "r")))
    assert sorted(results["status"]) == ["broken", "finished", "foreign"]
    assert len(curves) == 1 and curves["top1"].notna().all()
    assert cli.main([*arguments, "--report-only"]) == 0


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_budget_that_was_edited_is_not_averaged_with_itself(tmp_path: Path) -> None:
    """Tables show the newest trial of a method and seed. Another seed, or validation images, stand for themselves."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main(arguments) == 0
    for record in (tmp_path / "r" / "trials").glob("*/trial.json"):  # clocks have seconds
        record.write_text(record.read_text().replace('"started": "2', '"started": "1'))
    assert cli.main([*arguments, "--set", "student_steps=3", "--seeds", "0", "1"]) == 0
    results, _ = make_frames(load_records(Store(tmp_path / "r")))
    assert len(results) == 3
    kept = newest(results)
    assert sorted(zip(kept["seed"], kept["student_steps"], strict=True)) == [(0, 3), (1, 3)]
    assert cli.main([*arguments, "--set", "evaluate_on=validation"]) == 0
    results, _ = make_frames(load_records(Store(tmp_path / "r")))
    assert len(newest(results)) == 3 and results["setting"].nunique() == 2


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_how_the_images_are_stored_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RGAL_CACHE", str(tmp_path / "decoded"))
    root = image_folder(tmp_path / "set", suffix="jpeg")
    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main([*arguments, "--dataset", "mine", "--data-root", str(root)]) == 0
    results, _ = make_frames(load_records(Store(tmp_path / "r")))
    assert list(results["encoding"]) == ["JPEG"]


@pytest.mark.usefixtures("no_plots")
def test_finished_trials_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main(arguments) == 0
    (result,) = (tmp_path / "r" / "trials").glob("*/result.json")
    before = result.stat().st_mtime_ns
    tables = {p.name: p.read_bytes() for p in (tmp_path / "r" / "tables").iterdir()}
    capsys.readouterr()
    assert cli.main(arguments) == 0
    assert "1 of 1 trials are finished already" in capsys.readouterr().err
    assert result.stat().st_mtime_ns == before
    assert {p.name: p.read_bytes() for p in (tmp_path / "r" / "tables").iterdir()} == tables


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_failed_trials_are_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rgal.suite.running import work

    (tmp_path / "suite.yaml").write_text(SUITE)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by design")

    with monkeypatch.context() as patched:
        patched.setattr(work, "prepare", broken)
        assert cli.main(arguments) == 1
    (folder,) = (tmp_path / "r" / "trials").iterdir()
    assert json.loads((folder / "result.json").read_text())["reason"] == "ZeroDivisionError: by design"
    assert "ZeroDivisionError" in (folder / "error.txt").read_text()
    assert cli.main(arguments) == 0


def test_assignments_reach_suite_and_budget(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    suite = load_suite(
        path, {"seeds": [3]}, ("rounds=7", "teacher_training.lr=1e-2", "evaluate_on=validation")
    )
    assert suite.chosen_budget().rounds == 7
    assert (
        suite.chosen_budget().teacher_training.lr == 0.01
        and suite.chosen_budget().teacher_training.steps == 2
    )
    assert suite.evaluate_on == "validation" and suite.seeds == (3,)
    suite = load_suite(path, {}, ("budgets.smoke.methods.cmi.rounds=9",))
    assert suite.chosen_budget().methods["cmi"].rounds == 9


def test_every_shipped_suite_is_valid() -> None:
    folder = Path(benchmarks.__file__).parent
    suites = sorted(folder.glob("*.yaml"))
    assert suites
    for path in suites:
        suite = load_suite(path, {})
        assert {"smoke", "small", "paper"} <= set(suite.budgets), path
