"""Records of any JSON, cut off, foreign or newer: each has a status and a reason, and none stops a report."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rgal.reporting.report import render, summary
from rgal.suite.store.damaged import find_problems
from rgal.suite.store.folders import Store, write_json
from rgal.suite.store.frames import (
    identified,
    load_frames,
    load_layers,
    load_phases,
    load_records,
    make_frames,
)
from rgal.suite.store.records import PERCENTAGES, SETTINGS, TEXT, WHOLE, printable, read_record
from tests.helpers.store_builders import add_trial, change, evaluation, settings

HUGE = 10**400
NO_TEXT: list[Any] = [[], {}, 3, 1.5, True, "x" * 201, ["cmi"], HUGE]
NO_WHOLE: list[Any] = [[], {}, "0", 1.5, True, HUGE, math.nan]
NO_NUMBER: list[Any] = [[], {}, "NaN", "92", True, HUGE, 1e308, math.inf, -math.inf]
NO_JSON = [
    "",
    "{",
    '{"schema": 1, "settings": {"task": "k',
    "\0",
    "[" * 100_000,
    '{"a": 1' + "0" * 5000 + "}",
]
DEEP = {"a": {"b": [{"c": [1, [2, [3]]]}]}}


# Fields of trial.json and result.json that make a record odd.
BAD_SETTINGS: list[dict[str, Any]] = [
    *({name: value} for value in NO_TEXT for name in ("task", "budget", "method", *TEXT)),
    *({name: None} for name in ("task", "budget", "method", "seed")),
    *({name: value} for value in NO_WHOLE for name in ("seed", *WHOLE)),
]
BAD_SCHEMAS: list[dict[str, Any]] = [{"schema": value} for value in (0, "1", 1.0, True, [1], None, HUGE)]
BAD_TRIALS: list[dict[str, Any]] = [
    *({"settings": settings(**change)} for change in BAD_SETTINGS),
    *({"settings": value} for value in ([], ..., "text")),
    *({"key": value} for value in ("another", ["list"], None)),
    *BAD_SCHEMAS,
]
BAD_RESULTS: list[dict[str, Any]] = [
    *({name: value} for value in NO_NUMBER for name in ("last", "images", "student_seconds")),
    *({"teacher_top1": value} for value in (-0.1, 100.1)),
    *({"data_free": value} for value in ([], "true", 1, None)),
    *({"image_note": value} for value in ([], 1, {"a": 1})),
    *({"status": value} for value in (None, [], "done", 1, {})),
    *BAD_SCHEMAS,
]
ODD_RECORDS: list[tuple[str, str, dict[str, Any]]] = [
    *(("broken", "trial.json", fields) for fields in BAD_TRIALS),
    *(("broken", "result.json", fields) for fields in BAD_RESULTS),
    *(("newer", name, {"schema": 2}) for name in ("trial.json", "result.json")),
    ("foreign", "trial.json", {"settings": ..., "schema": ...}),
]


def spoilt(root: Path) -> dict[str, str]:
    """A store with one good trial and every kind of odd record: key -> expected status."""
    add_trial(root, "0" * 12)
    expected = {}
    for number, (status, name, fields) in enumerate(ODD_RECORDS, start=1):
        key = f"{number:012x}"
        change(add_trial(root, key) / name, **fields)
        expected[key] = status
    return expected


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, str]]:
    root = tmp_path_factory.mktemp("spoilt")
    return Store(root), spoilt(root)


def test_every_odd_record_has_its_status_and_a_reason(store: tuple[Store, dict[str, str]]) -> None:
    records = {record.key: record for record in load_records(store[0])}
    assert {key: record.status for key, record in records.items() if key != "0" * 12} == store[1]
    assert records["0" * 12].status == "finished"
    for key in store[1]:
        reason = records[key].reason
        assert reason.startswith(("trial.json: ", "result.json: ", "trial.json holds")), reason
        assert len(reason) < 150 and "\n" not in reason


def test_a_report_of_odd_records_has_the_good_one(store: tuple[Store, dict[str, str]]) -> None:
    rendered = render(store[0])
    (table,) = [path for path in rendered.tables if path.suffix == ".md"]
    (line,) = [line for line in table.read_text().splitlines() if line.startswith("| cmi ")]
    assert [cell.strip() for cell in line.split("|")[2:4]] == ["92.00", "1"]
    assert len(rendered.left_out) == len(store[1])
    page = rendered.page.read_text(encoding="utf-8")
    assert all(key in page for key in store[1])
    assert page.count(">newer<") == 2 and page.count(">foreign<") == 1
    assert str(rendered.page) in summary(rendered).splitlines()[-1]


@pytest.mark.parametrize("name", ["trial.json", "result.json", "export.json", "phases.json", "layers.json"])
def test_text_that_is_no_json(name: str, tmp_path: Path) -> None:
    for number, text in enumerate(NO_JSON):
        (add_trial(tmp_path, f"{number:012x}") / name).write_text(text)
    records = load_records(Store(tmp_path))
    expected = "broken" if name in ("trial.json", "result.json") else "finished"
    assert {record.status for record in records} == {expected}
    found = find_problems(records)
    assert [problem.folder for problem in found] == [record.folder for record in records]
    assert {problem.kind for problem in found} == {"broken"}
    assert all(problem.reason.startswith(f"{name}: ") for problem in found)
    results = identified(make_frames(records)[0])
    assert load_layers(Store(tmp_path), results).empty and load_phases(Store(tmp_path), results).empty


@pytest.mark.parametrize("value", [[], [1], 3, "text", None, True, {}, DEEP, {"trials": []}])
def test_json_of_something_else_is_foreign(value: object, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12)
    (folder / "trial.json").write_text(json.dumps(value))
    record = read_record(folder)
    assert record.status == "foreign" and record.reason and not record.settings


def test_folders_that_are_not_as_we_make_them(tmp_path: Path) -> None:
    trials = tmp_path / "trials"
    (trials / "empty").mkdir(parents=True)
    (trials / "folder-as-file-1" / "trial.json").mkdir(parents=True)
    (trials / "a-file").write_text("not a folder")
    (trials / os.fsdecode(b"\xff-bytes")).mkdir()
    (trials / "loop").symlink_to(trials / "loop")
    records = {record.folder.name: record for record in load_records(Store(tmp_path))}
    assert [records[name].status for name in ("empty", "folder-as-file-1")] == ["foreign", "broken"]
    assert "Is a directory" in records["folder-as-file-1"].reason
    assert len(records) == 3  # the file and the loop are no folders
    rendered = render(Store(tmp_path))
    assert rendered.text == "" and rendered.tables == [] and len(rendered.left_out) == 3
    assert "\ufffd-bytes" in rendered.page.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [[], {}, "x", True, HUGE, None, math.inf, -1, 101])
@pytest.mark.parametrize("name", ["top1", "round", "images", "synthesis_seconds", "kind"])
def test_malformed_evaluations_stay_out_of_curves(name: str, value: Any, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(evaluation(4, 50.0) | {name: value}) + "\n")
    _, curves = load_frames(Store(tmp_path))
    good = (
        name in ("round", "synthesis_seconds", "images") and value in (-1, 101) and value is not True
    ) or (name == "images" and value is None)
    assert len(curves) == 3 + good
    assert curves["top1"].between(0, 100).all()


def test_lines_of_metrics_that_are_no_events(tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12)
    lines = [
        "nonsense",
        "3",
        "null",
        "[1]",
        "[" * 100_000,
        '"\\ud800"',
        '{"kind": ["evaluation"]}',
        '{"cut": ',
    ]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n".join(lines))
    records = load_records(Store(tmp_path))
    assert len(make_frames(records)[1]) == 3
    (problem,) = find_problems(records)
    assert problem.reason == "metrics.jsonl: 6 of 10 lines are malformed"  # the last is only cut off


@pytest.mark.parametrize(
    "measured",
    [[], 3, "x", None, {"onnx_top1": []}, {"onnx_top1": "92"}, {"layers": HUGE}, {"onnx_note": [1]}],
)
def test_a_malformed_export_leaves_the_trial_as_it_is(measured: object, tmp_path: Path) -> None:
    write_json(add_trial(tmp_path, "a" * 12) / "export.json", {"schema": 1, "measured": measured})
    records = load_records(Store(tmp_path))
    (row,) = make_frames(records)[0].to_dict("records")
    assert row["status"] == "finished" and row["last"] == 92.0 and "onnx_top1" not in row
    (problem,) = find_problems(records)
    assert problem.reason.startswith("export.json: ")


def test_malformed_layers_and_phases_are_told(tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12)
    good = {"index": 0, "layer": "conv", "kind": "weight", "low": -1.0, "high": math.inf, "key": "stolen"}
    bad: list[Any] = [3, [], {}, {**good, "index": "0"}, {**good, "kind": []}, {**good, "layer": None}]
    write_json(folder / "layers.json", {"layers": [good, *bad]})
    phases = [{"phase": 0, "classes": 2, "tasks": [[1, 2]]}, {"phase": HUGE}, {"phase": True, "tasks": {}}]
    write_json(folder / "phases.json", {"phases": phases})
    records = load_records(Store(tmp_path))
    results = make_frames(records)[0]
    (layer,) = load_layers(Store(tmp_path), results).to_dict("records")
    assert layer["key"] == "a" * 12 and layer["low"] == -1.0 and pd.isna(layer["high"])
    assert list(load_phases(Store(tmp_path), results)["top1"]) == [50.0]
    assert [problem.reason for problem in find_problems(records)] == [
        "layers.json: 6 of 7 entries are malformed",
        "phases.json: 2 of 3 entries are malformed",
    ]


def test_a_result_cannot_speak_for_the_settings(tmp_path: Path) -> None:
    add_trial(
        tmp_path, "a" * 12, method="other", task=["x"], seed="y", key="z", started=3, extra=[1], more={"a": 1}
    )
    (row,) = make_frames(load_records(Store(tmp_path)))[0].to_dict("records")
    assert (row["method"], row["task"], row["seed"], row["key"]) == ("cmi", "kd", 0, "a" * 12)
    assert row["started"].startswith("2026") and not {"extra", "more"} & set(row)


def test_names_become_printable(tmp_path: Path) -> None:
    add_trial(tmp_path, "a" * 12, settings(dataset="a\ud800b\0c\u202ed\ne", setting="\u2028x"))
    (record,) = load_records(Store(tmp_path))
    assert record.settings["dataset"] == "a\ufffdb\ufffdc\ufffdd e" and record.settings["setting"] == " x"
    assert printable("wrn40_2 → Ünïcödé ±") == "wrn40_2 → Ünïcödé ±"


def test_unknown_numbers_are_allowed(tmp_path: Path) -> None:
    """null and NaN are how a trial says that it did not measure something."""
    for number, value in enumerate((None, math.nan)):
        add_trial(
            tmp_path, f"{number:012x}", **dict.fromkeys((*PERCENTAGES[1:], "memory_mb", "other"), value)
        )
    assert {record.status for record in load_records(Store(tmp_path))} == {"finished"}


def test_an_environment_of_anything(tmp_path: Path) -> None:
    for number, value in enumerate(
        ([], "x", None, {"gpu": [], "threads": HUGE, "torch": {}, "started": 3}, ...)
    ):
        change(add_trial(tmp_path, f"{number:012x}") / "trial.json", environment=value)
    records = load_records(Store(tmp_path))
    assert {record.status for record in records} == {"finished"}
    assert [dict(record.environment) for record in records] == [{}, {}, {}, {"started": "3"}, {}]
    assert set(records[0].settings) == set(SETTINGS)
