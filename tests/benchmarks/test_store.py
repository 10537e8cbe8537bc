"""The benchmark of stores of many trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rgal.benchmarks.store import __main__ as benchmark
from rgal.benchmarks.store.made_up import METHODS, write_suite, write_trials
from rgal.benchmarks.store.table import with_table
from rgal.suite.plan.settings import load_suite
from rgal.suite.running.runner import make_plan, stored_trials
from rgal.suite.store.folders import Store
from rgal.suite.store.index import Index


def test_made_up_trials_are_the_finished_ones_of_their_command(tmp_path: Path) -> None:
    plan = make_plan(load_suite(write_suite(tmp_path / "suite.yaml", 2 * len(METHODS), len(METHODS)), {}))
    assert len(plan.trials) == 40 and len({trial.setting for trial in plan.trials}) == 2
    write_trials(tmp_path, plan.trials[:4], dict(plan.codes))
    stored = stored_trials(plan, Store(tmp_path))
    assert [one.status for one in stored] == ["finished"] * 4 + ["missing"] * 36
    assert not any(one.other_code for one in stored)
    entries = Index(tmp_path).entries(Store(tmp_path).trial_folders())
    assert len(entries) == 4 and all(len(entry.curve) == 6 and entry.damage == [] for entry in entries)


def test_each_command_is_measured_on_a_store_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def cost(arguments: list[str]) -> dict[str, float]:
        sizes.append(len(list(Path(arguments[-1]).glob("trials/*"))))
        return {"cpu_seconds": 1.0, "wall_seconds": 2.0, "peak_mb": 3}

    monkeypatch.setattr(benchmark, "run", cost)
    benchmark.main(["--trials", "20", "--json", str(tmp_path / "rows.json")])
    assert sizes == [19, 19, 20, 20]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["command"] for row in rows] == list(benchmark.STEPS)
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize("arguments", [["--trials", "30"], ["--trials", "20", "--a-setting", "0"]])
def test_sizes_that_cannot_be_made_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark.main(arguments)
    assert stop.value.code == 2


def test_the_table_of_the_docs_is_that_of_its_numbers() -> None:
    docs = Path(benchmark.__file__).resolve().parents[2] / "docs"
    document = (docs / "scaling.md").read_text()
    rows = json.loads((docs / "store.json").read_text())
    assert with_table(document, rows) == document and {row["command"] for row in rows} == set(benchmark.STEPS)
