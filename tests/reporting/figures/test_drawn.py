"""Plots are drawn again when anything that they show, or are drawn by, has changed; else never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from rgal.reporting.figures import drawn
from rgal.reporting.figures import write as plots
from rgal.reporting.figures.drawn import NAME, fingerprint, read_drawn, sources
from rgal.reporting.figures.write import Frames, write_plots
from tests.helpers.reporting_builders import some_curves, some_results, trial


@pytest.fixture(autouse=True)
def two_empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the two of a group: when it is drawn does not depend on what is in them."""
    monkeypatch.setattr(plots, "_figures", lambda _: [(name, Figure()) for name in ("time", "images")])


def two_groups() -> tuple[pd.DataFrame, pd.DataFrame]:
    """cmi in two budgets, and its curves."""
    rows = [trial("cmi", 0, 0, 90.0), trial("cmi", 0, 0, 80.0, budget="large", key="large-0")]
    results = pd.DataFrame(rows)
    return results, some_curves(results)


def test_what_is_unchanged_is_not_drawn_again(tmp_path: Path, drawings: list[str]) -> None:
    results, curves = two_groups()
    first = write_plots(results, curves, tmp_path)
    assert drawings == ["png", "svg"] * 4 and len(first) == 8
    contents = {path: path.read_bytes() for path in first}
    assert write_plots(results, curves, tmp_path) == first and len(drawings) == 8
    assert {path: path.read_bytes() for path in first} == contents


def test_a_change_draws_its_group_only(tmp_path: Path, drawings: list[str]) -> None:
    results, curves = two_groups()
    write_plots(results, curves, tmp_path)
    write_plots(results, curves.assign(top1=curves["top1"].where(curves["key"] != "large-0", 1.0)), tmp_path)
    assert len(drawings) == 12
    changed = results.assign(last=[90.0, 81.0])
    write_plots(changed, curves, tmp_path)
    assert len(drawings) == 16
    # another method takes a colour of its own in all plots of the task
    more = pd.concat([changed, pd.DataFrame([trial("abd", -1, 0, 70.0)])], ignore_index=True)
    write_plots(more, curves, tmp_path)
    assert len(drawings) == 24


def test_a_touched_or_missing_file_is_drawn_again(tmp_path: Path, drawings: list[str]) -> None:
    results, curves = two_groups()
    paths = write_plots(results, curves, tmp_path)
    paths[0].unlink()
    write_plots(results, curves, tmp_path)
    assert len(drawings) == 12 and paths[0].exists()
    paths[-1].write_bytes(b"by hand")
    write_plots(results, curves, tmp_path)
    assert len(drawings) == 16 and paths[-1].read_bytes() != b"by hand"


def test_other_code_draws_everything(
    tmp_path: Path, drawings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, curves = two_groups()
    write_plots(results, curves, tmp_path)
    monkeypatch.setattr(drawn, "_code", lambda: "newer")
    write_plots(results, curves, tmp_path)
    assert len(drawings) == 16


def test_the_code_that_decides_is_all_that_reporting_has() -> None:
    assert {"results.py", "statistics.py", "export.py", "style.py", "drawing.py"} <= {
        path.name for path in sources()
    }


def test_an_odd_memory_draws_everything(tmp_path: Path, drawings: list[str]) -> None:
    results, curves = two_groups()
    write_plots(results, curves, tmp_path)
    for text in ("", "{", "[]", "3", "[" * 100_000, "null", '{"x": 1}'):
        drawings.clear()
        (tmp_path / NAME).write_text(text)
        write_plots(results, curves, tmp_path)
        assert len(drawings) == 8 and len(read_drawn(tmp_path)) == 2, text[:10]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {"inputs": "i"},
        {"inputs": "i", "files": []},
        {"inputs": "i", "files": {}},
        {"inputs": "i", "files": {"gone.png": None}},
        {"inputs": "i", "files": {"": None}},
        {"inputs": "i", "files": {"a.png": 3}},
        {"inputs": "i", "files": {"../a.png": "HASH"}},
        {"inputs": "other", "files": {"a.png": "HASH"}},
    ],
)
def test_entries_that_vouch_for_nothing(entry: Any, tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "a.png"):
        path.write_bytes(b"drawing")
    digest = str(drawn._file_hash(folder / "a.png"))

    def untouched(entry: Any) -> list[Path]:
        (folder / NAME).write_text(json.dumps({"stem": entry}).replace("HASH", digest))
        groups = read_drawn(folder)
        return groups["stem"].untouched(folder, "i") if groups else []

    assert untouched(entry) == []
    assert untouched({"inputs": "i", "files": {"a.png": "HASH"}}) == [folder / "a.png"]


def test_only_rows_of_the_group_count() -> None:
    results = some_results()
    curves = some_curves(results)
    group = results[results["method"] == "cmi"]

    def of(group: pd.DataFrame, curves: pd.DataFrame, styles: dict[str, str] | None = None) -> str:
        frames = Frames(curves, *[pd.DataFrame()] * 5).of(group)
        return fingerprint([group, *frames], styles or {})

    digest = of(group, curves)
    others = curves["key"].str.startswith("deepinversion")
    assert of(group, curves[~others]) == digest
    assert of(group, curves.assign(top1=curves["top1"].where(others, 1.0))) != digest
    assert of(group, curves, {"cmi": "red"}) != digest
    assert of(group, pd.DataFrame()) != digest
    assert of(pd.DataFrame({"method": ["cmi"]}), curves) != digest
