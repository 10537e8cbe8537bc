"""A measure that a task declares is in records, tables and page; trials that several codes made are marked."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

import rgal.tasks
from rgal.reporting.figures.cases import accuracy_versus_cases, case_data
from rgal.reporting.figures.curves import accuracy_curves, curve_data, level_data
from rgal.reporting.report import render
from rgal.reporting.results import mixed_fingerprints
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records, make_frames
from rgal.suite.store.records import read_record
from rgal.suite.task import measures_of
from tests.helpers.reporting_builders import accuracy_of, diversity_of, plugins_of, some_results, trial
from tests.helpers.store_builders import add_trial, change, evaluation, settings

TOY = """
from rgal.suite.measures import ACCURACY, Measure, costs
from rgal.suite.task import Task


class Toy(Task):
    name = "toy"
    summary = "a task of a plug-in"
    real_data = "real toys"
    measures = (
        Measure("miou", "Mean IoU", "%", 1, "higher", "percentage", spread=True, tables=("plugin", "plot"),
                note="Mean IoU: of all toys."),
        *ACCURACY,
        Measure("flips", "Flips", decimals=0, place="back", optional=True, note="Flips: at most {}."),
        *costs(),
    )


TASK = Toy()
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task whose module stands beside those of the suite."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "toy.py").write_text(TOY)
    monkeypatch.setattr(rgal.tasks, "__path__", [*rgal.tasks.__path__, str(tmp_path / "tasks")])
    monkeypatch.delitem(sys.modules, "rgal.tasks.toy", raising=False)
    yield
    sys.modules.pop("rgal.tasks.toy", None)


def toy_store(root: Path) -> Store:
    for order, (method, miou) in enumerate((("cmi", 40.0), ("cmi+rgal", 43.0), ("scratch", 60.0))):
        for seed in range(3):
            asked = settings(method, seed, task="toy", order=order)
            numbers = {"miou": miou + seed, "flips": 1000 + seed, "data_free": method != "scratch"}
            add_trial(root, f"{order}{seed}".rjust(12, "0"), asked, **numbers)
    return Store(root)


@pytest.mark.usefixtures("drawings", "toy")
def test_a_measure_of_a_plugin_is_everywhere(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "r")
    rendered = render(store)
    main, plugin = (path for path in rendered.tables if path.suffix == ".md")
    text = main.read_text(encoding="utf-8")
    assert "Mean IoU (%)" in text and " 41.0 ± 1.0 |" in text and "Flips" in text and " 1,001 |" in text
    assert "- Mean IoU: of all toys. Top-1: " in text and "- Flips: at most 1,000 to 1,002." in text
    assert "Mean IoU vs best baseline (points)" in text and "highest mean mean IoU (cmi)" in text
    assert "† Trained on real toys." in text
    raw = pd.read_csv(main.with_suffix(".csv")).set_index("method")
    assert raw.loc["cmi+rgal", ["miou_mean_percent", "flips"]].tolist() == [44.0, 1001.0]
    assert raw.loc["cmi+rgal", "vs_best_mean_points"] == 3.0
    assert "Mean IoU difference (points)" in plugin.read_text(encoding="utf-8")
    assert [path.suffix for path in rendered.plots if path.stem.endswith("_miou")] == [".png", ".svg"]
    page = rendered.page.read_text(encoding="utf-8")
    assert (
        "<figcaption><strong>Mean IoU<" in page
        and "Mean IoU (%)" in page
        and "41.0 ± 1.0" in page
        and "Mean IoU: of all toys." in page
    )


def test_plots_show_the_measure_that_a_task_declares_first(toy: None, tmp_path: Path) -> None:
    store = toy_store(tmp_path / "r")
    for folder in store.trial_folders():
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(evaluation(9, 50.0) | {"miou": 30.0}) + "\n")
    results, curves = make_frames(load_records(store))
    for figure in (accuracy_curves(curves, results), accuracy_versus_cases(results)):
        assert figure.axes[0].get_ylabel() == "Test mean IoU (%)"
    assert set(curve_data(curves, results)["mean"]) == {30.0}
    assert level_data(results, measures_of("toy")[0]) == {"scratch †": 61.0}
    assert list(case_data(results)["mean"]) == [61.0, 41.0, 44.0]


def test_a_record_is_judged_by_the_measures_of_a_plugin(toy: None, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12, settings(task="toy"), miou=130.0)
    assert read_record(folder).reason == "result.json: miou: found 130.0, expected a percentage"


@pytest.mark.usefixtures("drawings")
def test_a_store_of_a_task_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    rendered = render(store)
    assert not rendered.left_out and re.search(r"^cmi +92.00 ± 0.00", rendered.text, re.M)


def made_by(**fingerprints: list[str | None]) -> pd.DataFrame:
    rows = [
        trial(method.replace("_", "+"), order, seed, 90.0 + seed, fingerprint=print_, diversity_same=0.5)
        for order, (method, prints) in enumerate(fingerprints.items())
        for seed, print_ in enumerate(prints)
    ]
    return pd.DataFrame(rows)


A, B = "0123456789ab", "ba9876543210"


@pytest.mark.parametrize(
    ("prints", "mixed"),
    [([A, A], ""), ([A, B], f"{A}, {B}"), ([A, ""], f"{A}, unknown"), ([A, None], f"{A}, unknown"),
     (["", ""], ""), ([f"{A}+{B}"] * 2, f"{A}+{B}")],
)  # fmt: skip
def test_which_trials_several_codes_made(prints: list[str | None], mixed: str) -> None:
    assert mixed_fingerprints(made_by(cmi=prints)) == mixed


def test_codes_of_different_methods_settings_and_failed_trials_are_not_mixed() -> None:
    frame = made_by(cmi=[A, A], rgal=[B, B])
    assert "‡" not in accuracy_of(frame).text("md")
    assert mixed_fingerprints(made_by(cmi=[A, B]).assign(setting=["a", "b"])) == ""
    assert "‡" not in accuracy_of(made_by(cmi=[A, B]).assign(status=["finished", "failed"])).text("md")
    assert mixed_fingerprints(some_results()) == ""


def test_rows_that_several_codes_made_are_marked() -> None:
    frame = made_by(cmi=[A, B], cmi_rgal=[A, A])
    note = f"‡ made by different versions of the code: {A}, {B}; run again with --fresh."
    for table, names in (
        (accuracy_of(frame), {"Method": ["cmi ‡", "cmi+rgal"]}),
        (plugins_of(frame), {"Host": ["cmi ‡"], "With RGAL": ["cmi+rgal"]}),
        (diversity_of(frame), {"Method": ["cmi ‡", "cmi+rgal"]}),
    ):
        assert {name: list(table.cells()[name]) for name in names} == names and note in table.notes
        assert r"\ensuremath{^\ddagger}" in table.text("tex") and "fingerprints" in table.text("csv")
    assert "fingerprints" not in accuracy_of(made_by(cmi=[A, A])).text("csv")


@pytest.mark.usefixtures("drawings")
def test_the_fingerprint_of_a_record_reaches_the_table(tmp_path: Path) -> None:
    for seed, fingerprint in enumerate((A, B)):
        folder = add_trial(tmp_path, f"{seed}".rjust(12, "0"), settings("cmi", seed))
        change(folder / "trial.json", fingerprint=fingerprint)
    rendered = render(Store(tmp_path))
    assert re.search(r"^cmi ‡ ", rendered.text, re.M)
    assert "cmi ‡" in rendered.page.read_text(encoding="utf-8")
    (csv,) = [path for path in rendered.tables if path.suffix == ".csv"]
    assert pd.read_csv(io.StringIO(csv.read_text()))["fingerprints"].item() == f"{A}, {B}"
