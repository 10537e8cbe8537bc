"""Records of any JSON, cut off, foreign or newer: each has a status and a reason, and none stops a report."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rgal.reporting.report import render, summary
from rgal.suite.store.damaged import damaged_records
from rgal.suite.store.folders import Store, write_json
from rgal.suite.store.frames import (
    identified,
    load_diversity,
    load_layers,
    load_phases,
    load_records,
    make_frames,
)
from rgal.suite.store.records import ODD, SETTINGS, Record, printable, read_record
from rgal.suite.task import measures_of
from tests.helpers.store_builders import add_trial, change, evaluation, settings

HUGE = 10**400
TEXT = ("setting", "dataset", "teacher", "student", "case", "case_title", "init_pool_key")
WHOLE = ("order", "case_order")
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
    problems = damaged_records(records)
    assert [problem.folder for problem in problems] == [record.folder for record in records]
    assert {problem.kind for problem in problems} == {"broken"}
    assert all(problem.reason.startswith(f"{name}: ") for problem in problems)
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
    _, curves = make_frames(load_records(Store(tmp_path)))
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
    (problem,) = damaged_records(records)
    assert problem.reason == "metrics.jsonl: 6 of 10 lines are malformed"  # the last is only cut off


@pytest.mark.parametrize(
    "measured",
    [[], 3, "x", None, {"onnx_top1": []}, {"onnx_top1": "92"}, {"layers": HUGE}, {"onnx_note": [1]}],
)
def test_a_malformed_export_leaves_the_trial_as_it_is(measured: object, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12, settings(task="dfq"))
    write_json(folder / "export.json", {"schema": 1, "measured": measured})
    records = load_records(Store(tmp_path))
    (row,) = make_frames(records)[0].to_dict("records")
    assert row["status"] == "finished" and row["last"] == 92.0 and "onnx_top1" not in row
    (problem,) = damaged_records(records)
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
    assert [problem.reason for problem in damaged_records(records)] == [
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
    names = {measure.key for task in ("kd", "dfq", "necil") for measure in measures_of(task)} - {"last"}
    for number, value in enumerate((None, math.nan)):
        add_trial(tmp_path, f"{number:012x}", **dict.fromkeys((*names, "other"), value))
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


@pytest.mark.parametrize("task", ["necil", "another"])
def test_a_result_is_judged_by_the_measures_of_its_task(task: str, tmp_path: Path) -> None:
    """A task that is not installed has rules for accuracy and costs only."""
    folder = add_trial(tmp_path, "a" * 12, settings(task=task), aia=250.0)
    assert read_record(folder).status == ("broken" if task == "necil" else "finished")
    change(folder / "result.json", aia=50.0, last=250.0)
    assert read_record(folder).reason == "result.json: last: found 250.0, expected a percentage"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0123456789ab", "0123456789ab"), (..., ""), (None, ""), ([], ""), ("a\0", "a\ufffd")],
)
def test_a_record_says_which_code_made_it(value: Any, expected: str, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12)
    change(folder / "trial.json", fingerprint=value)
    record = read_record(folder)
    assert (record.status, record.fingerprint) == ("finished", expected)
    assert list(make_frames([record])[0]["fingerprint"]) == [expected]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("x" * 300)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = {
    "trial.json": ("schema", "key", "settings", "environment", "fingerprint", *SETTINGS),
    "result.json": ("schema", "status", "reason", "last", "images", "data_free", "image_note", "anything"),
    "export.json": ("measured",),
    "phases.json": ("phases",),
    "layers.json": ("layers",),
    "diversity.json": ("schema", "bins", "rounds", "embedding", "histograms", "after_warmup"),
}


@given(data=st.data())
@hypothesis_settings(max_examples=60, derandomize=True, deadline=None)
def test_no_content_of_a_record_stops_a_reader(data: st.DataObject) -> None:
    """One field of one file becomes anything; whatever it is, reading gives a status and one line."""
    name = data.draw(st.sampled_from(sorted(NAMES)))
    key, value = data.draw(st.sampled_from(NAMES[name])), data.draw(JSON)
    with tempfile.TemporaryDirectory() as root:
        folder = add_trial(Path(root), "a" * 12)
        content = json.loads((folder / name).read_text()) if (folder / name).exists() else {"schema": 1}
        (content["settings"] if name == "trial.json" and key in SETTINGS else content)[key] = value
        (folder / name).write_text(json.dumps(content))
        record = read_record(folder)
        judged_as_one_line(record)
        results = identified(make_frames([record])[0])
        load_layers(Store(Path(root)), results), load_phases(Store(Path(root)), results)
        assert len(load_diversity(Store(Path(root)), results).bins) == 0
        assert all("\n" not in damaged.reason for damaged in damaged_records([record]))


def judged_as_one_line(record: Record) -> None:
    assert record.status in ("finished", "failed", *ODD)
    assert bool(record.reason) == (record.status in ODD) or record.status in ("finished", "failed")
    assert record.reason.isprintable() or record.reason == ""
    if record.status not in ODD:
        assert all(0 <= record.result[name] <= 100 for name in ("last", "best") if record.result.get(name))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-03-29T01:30:00+0200", "2026-03-28T23:30:00Z"),
        ("2026-03-28T23:30:00Z", "2026-03-28T23:30:00Z"),
        ("2026-03-28T18:30:00-0500", "2026-03-28T23:30:00Z"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_times_of_all_zones_are_compared_as_times(text: str, utc: str, tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "k")
    change(folder / "trial.json", environment={"started": text})
    assert read_record(folder).environment["started"] == utc
