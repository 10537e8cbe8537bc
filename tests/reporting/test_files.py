"""Written tables and plots: the same input gives the same bytes, under safe names."""

from __future__ import annotations

import functools
import itertools
import os
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from rgal.core.files import slug, write_atomically
from rgal.reporting import making
from rgal.reporting.figures.write import write_plots
from rgal.reporting.published import load_reference
from rgal.reporting.report import render
from rgal.reporting.results import groups
from rgal.suite.store.folders import Store
from tests.helpers.reporting_builders import REFERENCE, accuracy_of, some_curves, some_results, write_tables
from tests.helpers.store_builders import add_trial, settings


@pytest.fixture(scope="module")
def plotted(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The plots of `results` and `curves`; drawing them is most of what these tests cost."""
    results = some_results()
    return write_plots(results, some_curves(results), tmp_path_factory.mktemp("plots"))


@pytest.mark.parametrize(
    "empty", [pd.DataFrame(), pd.DataFrame(columns=["method", "status", "last", "setting"])]
)
def test_empty_frames_say_so(empty: pd.DataFrame, tmp_path: Path) -> None:
    table = accuracy_of(empty, load_reference(REFERENCE))
    assert "No finished trials." in table.text("md")
    assert "No finished trials." in table.text("tex")
    assert table.text("csv").startswith("method,data_free,top1_mean_percent")
    assert write_tables(empty, tmp_path) == []
    assert write_plots(empty, pd.DataFrame(), tmp_path) == []


def test_the_order_of_rows_changes_nothing(
    results: pd.DataFrame, curves: pd.DataFrame, plotted: list[Path], tmp_path: Path
) -> None:
    reference = load_reference(REFERENCE)
    shuffled = results.sample(frac=1, random_state=3)
    first = write_tables(results, tmp_path / "a", reference) + plotted
    mixed = curves.sample(frac=1, random_state=4)
    second = write_tables(shuffled, tmp_path / "b", reference) + write_plots(shuffled, mixed, tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    tables = [".md", ".csv", ".tex", ".tex", ".md", ".csv", ".tex"]  # the first one's compact form too
    assert [path.suffix for path in first] == [*tables, *[".png", ".svg"] * 2]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_process_for_each_core_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each renders a group; of one group alone it draws the figures, and the rest is rendered here. Nor do another
    hash seed and a matplotlibrc of the user's own show."""
    methods = ("cmi", "cmi+rgal")
    for number, method in itertools.product(range(2), methods):
        key, its = f"{number}{len(method):02}" * 4, settings(method, budget=f"b{number}")
        for folder in ("many", "one", "shared")[: 3 if number == 0 else 1]:
            add_trial(tmp_path / folder, key, its, last=90.0 + len(method))
    alone = render(Store(tmp_path / "one"))
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nsavefig.facecolor: red\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REFERENCE.parents[1]))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setattr(making, "granted_cores", lambda: 2)
    monkeypatch.setattr(making, "LARGE", 1)
    one_of_them = functools.partial(ProcessPoolExecutor, 1)  # each takes seconds to start
    monkeypatch.setattr(making, "ProcessPoolExecutor", lambda _, context, **how: one_of_them(context, **how))
    several, shared = render(Store(tmp_path / "many")), render(Store(tmp_path / "shared"))
    for kind in ("tables", "plots"):
        expected = {path.name: path.read_bytes() for path in getattr(alone, kind)}
        found = {path.name: path.read_bytes() for path in getattr(several, kind)}
        assert expected and expected.items() <= found.items() and len(found) == 2 * len(expected)
        assert {path.name: path.read_bytes() for path in getattr(shared, kind)} == expected
    assert shared.page.read_bytes() == alone.page.read_bytes()


def test_no_module_imports_pyplot() -> None:
    """It keeps figures alive and reads the user's style; grids of images and figures are made without."""
    root = REFERENCE.parents[1]
    files = [path for name in ("rgal", "tasks", "baselines") for path in (root / name).rglob("*.py")]
    importing = re.compile(r"^\s*(?:import|from)\b.*\bpyplot\b", flags=re.MULTILINE)
    assert len(files) > 200 and importing.search("    from matplotlib import pyplot as plt")
    assert not [path for path in files if importing.search(path.read_text(encoding="utf-8"))]


def test_names_become_safe_file_names(results: pd.DataFrame, tmp_path: Path) -> None:
    assert slug("digits wrn16_2 -> wrn10_1") == "digits-wrn16_2-wrn10_1"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("→") == "unnamed"
    paths = write_tables(results.assign(setting="../x"), tmp_path)
    assert [path.parent for path in paths] == [tmp_path] * 7
    formats = ("md", "csv", "tex")
    ends = [*(f".{fmt}" for fmt in formats), "_compact.tex", *(f"_plugin.{fmt}" for fmt in formats)]
    names = [path.name for path in write_tables(results, tmp_path)]
    assert names == [f"kd_cifar10-wrn40_2-wrn16_1_small{end}" for end in ends]


def test_equal_slugs_do_not_overwrite_each_other() -> None:
    frame = pd.DataFrame({"task": "kd", "setting": ["a -> b", "a b", "c"], "budget": "small"})
    by_stem = groups(frame)
    assert sorted(rows["setting"].item() for rows in by_stem.values()) == ["a -> b", "a b", "c"]
    assert "kd_c_small" in by_stem


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    path = write_atomically(folder / "table.md", b"old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
