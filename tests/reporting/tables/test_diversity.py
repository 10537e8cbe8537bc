"""What is reported of the kept images: records as frames and the table, against hand-computed values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rgal import cli
from rgal.analysis import diversity as measured
from rgal.reporting.tables.write import group_tables
from rgal.suite.store import diversity as diversity_data
from rgal.suite.store.diversity import diversity_frames, summary_columns
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_diversity, load_records, make_frames
from tests.helpers.diversity_builders import record, some_trials
from tests.helpers.increment_builders import stored_trial
from tests.helpers.reporting_builders import by_method, case_trial, diversity_of, trial
from tests.helpers.suites import SUITE

results = pytest.fixture(some_trials)


# Records -----------------------------------------------------------------------------------------------------------


def test_frames_hold_what_records_say() -> None:
    frames = diversity_frames([("a", record(0.5, None))])
    assert frames.rounds[["key", "round", "images"]].values.tolist() == [["a", 1, 8], ["a", 2, 8]]
    assert list(frames.rounds["same"]) == [pytest.approx(0.4), pytest.approx(0.6)]
    assert frames.rounds["different"].isna().all() and frames.rounds["student_same"].isna().all()
    bins = frames.bins[frames.bins["kind"] == "negatives"]
    assert bins[["low", "high", "count"]].values.tolist() == [
        [0, 0.5, 0],
        [0.5, 1, 0],
        [1, 1.5, 1],
        [1.5, 2, 3],
    ]
    assert set(bins["band_low"]) == {0.5} and set(bins["band_high"]) == {1.0} and len(frames.bins) == 12
    assert list(frames.points["label"]) == [0, 1, 0, 11] and list(frames.points["y"]) == [0, 1, 0, 3]


def test_writer_and_reader_agree() -> None:
    assert measured.SCHEMA == diversity_data.SCHEMA


def test_a_trial_gets_what_is_known_of_its_images() -> None:
    columns = summary_columns(record(0.5, None))
    assert columns["diversity_same"] == 0.5 and columns["diversity_last_same"] == pytest.approx(0.6)
    assert columns["diversity_student_different"] == 0.9 and "diversity_different" not in columns
    assert summary_columns({"schema": 1, "skipped": "no memory"}) == {}


@pytest.mark.parametrize(
    "content",
    [None, 3, "x", [], [1], {}, {"schema": 2}, record(schema=2), record(schema="1"), record(schema=None)],
)
def test_other_files_say_nothing(content: Any) -> None:
    frames = diversity_frames([("a", content)])
    assert frames.rounds.empty and frames.bins.empty and frames.points.empty
    assert summary_columns(content) == {}


BAD = [None, 3, "x", [], [None], [[1]], {}, {"a": 1}, math.nan, 10**400, True]


@pytest.mark.parametrize(
    "part", ["bins", "band", "rounds", "after_warmup", "last", "histograms", "embedding"]
)
@pytest.mark.parametrize("value", BAD)
def test_a_malformed_part_leaves_the_others(part: str, value: Any) -> None:
    frames, whole = (diversity_frames([("a", r)]) for r in (record(**{part: value}), record()))
    lost = {"rounds": ["rounds"], "bins": ["bins"], "histograms": ["bins"], "embedding": ["points"]}
    for name in ("rounds", "bins", "points"):
        frame, wanted = getattr(frames, name), getattr(whole, name)
        if part == "band" and name == "bins":
            assert len(frame) == len(wanted) and frame["band_high"].isna().all()
        elif name in lost.get(part, ()):
            assert frame.empty and list(frame.columns) == list(wanted.columns)
        else:
            pd.testing.assert_frame_equal(frame, wanted)
    gone = {"after_warmup": 4 + 2, "last": 2}.get(part, 0)
    assert len(summary_columns(record(**{part: value}))) == 8 - gone


@pytest.mark.parametrize("value", [None, "0.5", [0.5], {}, True, math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_number_is_unknown(value: Any) -> None:
    content = record()
    content["after_warmup"]["same"] = content["rounds"][0]["same"] = value
    assert "diversity_same" not in summary_columns(content)
    assert diversity_frames([("a", content)]).rounds["same"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", [0.0, 1.0]), ("x", [0.0, 1.0, None, 2.0]), ("y", [0, 1, "2", 3]), ("y", [math.nan] * 4),
     ("label", [0, 1, 2, -1]), ("label", [0, 1, 2, 0.5]), ("synthetic", [1, 1, 0, 0]), ("x", [])],
)  # fmt: skip
def test_half_a_map_is_none(name: str, value: Any) -> None:
    content = record()
    content["embedding"][name] = value
    assert diversity_frames([("a", content)]).points.empty


@pytest.mark.parametrize(
    "counts", [[1, 2, 3], [1, 2, 3, -1], [1, 2, 3, 0.5], [1, 2, 3, None], [1, 2, 3, True], 4]
)
def test_other_counts_are_none(counts: Any) -> None:
    content = record()
    content["histograms"]["same"] = counts
    assert set(diversity_frames([("a", content)]).bins["kind"]) == {"different", "negatives"}


@pytest.mark.parametrize(
    "change", [{"count": 0}, {"count": 10**9}, {"low": 2.0}, {"high": None}, {"count": 4.0}]
)
def test_bins_without_a_width_are_none(change: dict[str, Any]) -> None:
    assert diversity_frames([("a", record(bins=record()["bins"] | change))]).bins.empty


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", json.dumps(record())])
def test_only_finished_trials_are_loaded(tmp_path: Path, text: str) -> None:
    for method, status in (("plain", "finished"), ("cmi", "failed")):
        folder = stored_trial(
            tmp_path, trial(method, 0, 0, 80.0, case="", case_order=0, case_title="", status=status), None
        )
        (folder / "diversity.json").write_text(text)
    frame, _ = make_frames(load_records(Store(tmp_path)))
    loaded = load_diversity(Store(tmp_path), frame)
    whole = text.startswith('{"')
    assert set(loaded.rounds["key"]) == set(loaded.points["key"]) == ({"plain_0"} if whole else set())
    assert ("diversity_same" in frame.columns) == whole
    assert load_diversity(Store(tmp_path), frame.assign(key="gone")).rounds.empty


# The table ---------------------------------------------------------------------------------------------------------


def test_table_by_hand(results: pd.DataFrame) -> None:
    table = diversity_of(results)
    assert list(table.numbers["method"]) == ["plain", "rgal", "deepinversion"]
    rows = by_method(table)
    plain, rgal, deep = rows.loc["plain"], rows.loc["rgal"], rows.loc["deepinversion"]
    assert plain["same_mean"] == pytest.approx(0.55) and plain["same_std"] == pytest.approx(math.sqrt(0.005))
    assert rgal["same_mean"] == pytest.approx(0.8) and rgal["different_mean"] == pytest.approx(0.95)
    assert rgal["last_same_mean"] == pytest.approx(0.9) and rgal["student_same_mean"] == pytest.approx(0.3)
    assert plain["in_band_percent"] == pytest.approx(25) and plain["fallback_percent"] == pytest.approx(10)
    assert list(table.numbers["measured"]) == [2, 2, 1]
    # seed 1 is what both have
    assert (rgal["host"], rgal["shared_seeds"]) == ("plain", 1)
    assert rgal["same_difference"] == pytest.approx(0.15) and rgal["different_difference"] == pytest.approx(
        -0.1
    )
    assert plain["host"] == "" and math.isnan(plain["same_difference"])
    assert math.isnan(deep["different_mean"]) and math.isnan(deep["same_std"])


def test_table_as_text(results: pd.DataFrame) -> None:
    text = diversity_of(results).text("md")
    assert "| plain         | 0.550 ± 0.071 |" in text and "+0.150" in text and "−0.100" in text
    assert "rgal minus plain" in text and "scratch" not in text and "nan" not in text
    assert "0.5 to 1.0" in text
    tex = diversity_of(results).text("tex")
    assert r"0.550\ensuremath{" not in tex.replace(r"0.550 \ensuremath{", "") and r"\bottomrule" in tex
    csv = diversity_of(results).text("csv").splitlines()
    assert csv[0].startswith("method,data_free,same_mean,same_std") and len(csv) == 4


def test_the_limits_in_the_notes_are_those_of_the_sampler() -> None:
    assert (measured.BAND.low, measured.BAND.high) == (0.5, 1.0)


def test_the_order_of_trials_changes_nothing(results: pd.DataFrame) -> None:
    shuffled = results.sample(frac=1, random_state=1)
    for fmt in ("md", "csv", "tex"):
        a, b = (diversity_of(frame).text(fmt) for frame in (results, shuffled))
        assert a == b


def test_hosts_are_those_of_the_same_case() -> None:
    rows = [
        case_trial("w8a8", "gdfq", 0, 0, 90.0) | {"diversity_same": 0.5},
        case_trial("w8a8", "gdfq+rgal", 1, 0, 91.0) | {"diversity_same": 0.6},
        case_trial("w4a4", "gdfq+rgal", 1, 0, 85.0) | {"diversity_same": 0.9},
    ]
    table = diversity_of(pd.DataFrame(rows)).numbers
    assert list(table["case"]) == ["w8a8", "w8a8", "w4a4"]
    assert (
        table["same_difference"].round(6).tolist()[1:2] == [0.1]
        and table["same_difference"].isna().sum() == 2
    )


def test_hosts_are_those_that_measured_their_images() -> None:
    """Parameters of the plug-in are none of the host's; a method whose host is missing is compared with nothing."""
    expected = {
        "plain": 0.5,
        "rgal[follows=code]": 0.7,
        "fast[k=10]+rgal[spread=0.01]": 0.9,
        "cmi": 0.6,
        "cmi+rgal": 0.65,
    }
    rows = [
        trial(name, i, 0, 80.0) | {"diversity_same": same} for i, (name, same) in enumerate(expected.items())
    ]
    table = by_method(diversity_of(pd.DataFrame(rows)))
    assert table["host"].to_dict() == dict.fromkeys(expected, "") | {
        "rgal[follows=code]": "plain",
        "cmi+rgal": "cmi",
    }
    printed = table["same_difference"].dropna().round(6).to_dict()
    assert printed == {"rgal[follows=code]": 0.2, "cmi+rgal": 0.05}


def test_no_table_without_numbers(results: pd.DataFrame) -> None:
    bare = results.drop(columns=[name for name in results.columns if str(name).startswith("diversity_")])
    assert [table.suffix for table in group_tables(results)] == ["", "_plugin", "_diversity"]
    assert [table.suffix for table in group_tables(bare)] == ["", "_plugin"]
    assert not diversity_of(bare).rows and not diversity_of(results.iloc[:0]).rows


# A suite -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("drawings")
def test_a_suite_measures_its_data_free_trials(tmp_path: Path) -> None:
    """From the command line to the files: what is measured, and that references on real data have none."""
    (tmp_path / "suite.yaml").write_text(SUITE.replace("rounds: 1", "rounds: 2"))
    command = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    assert cli.main([*command, "--methods", "plain", "rgal", "scratch"]) == 0
    measured = {
        path.parent.name.split("-")[4]: path for path in (tmp_path / "r" / "trials").glob("*/diversity.json")
    }
    assert set(measured) == {"plain", "rgal"}
    content = json.loads(measured["rgal"].read_text())
    assert [entry["round"] for entry in content["rounds"]] == [1, 2] and "skipped" not in content
    (table,) = (tmp_path / "r" / "tables").glob("*_diversity.md")
    assert "| rgal" in table.read_text() and "scratch" not in table.read_text()
    assert list((tmp_path / "r" / "plots").glob("*_distances.png"))
