"""Methods down, settings across."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.tables.overview import overview_table, overviews, settings_of
from rgal.reporting.tables.write import all_tables
from tests.helpers.reporting_builders import write_tables


def row(setting: str, method: str, last: float, **more: object) -> dict[str, object]:
    return {
        "task": "kd", "dataset": "cifar10", "budget": "small", "setting": f"cifar10 {setting}", "method": method,
        "last": last, "status": "finished", "order": 0, "seed": 0, "data_free": True, "key": f"{setting}{method}{last}",
        **more,
    }  # fmt: skip


@pytest.fixture
def results() -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("a -> b", "scratch", 90.0, data_free=False),
            row("a -> b", "cmi", 80.0),
            row("a -> b", "cmi", 84.0, seed=1),
            row("a -> c", "cmi", 70.0),
            row("a -> c", "rgal", math.nan, status="failed", order=1),
            row("a -> c", "dafl", 20.0, order=2, budget="paper"),
        ]
    )


def test_only_where_there_are_several_settings(results: pd.DataFrame) -> None:
    assert list(overviews(results)) == ["overview_kd_cifar10_small"]
    assert overviews(results.iloc[:3]) == overviews(results.iloc[:0]) == overviews(pd.DataFrame()) == {}
    (rows,) = overviews(results).values()
    assert len(rows) == 5 and list(settings_of(rows)) == ["a -> b", "a -> c"]


def test_numbers(results: pd.DataFrame) -> None:
    (rows,) = overviews(results).values()
    table = overview_table(rows).numbers.set_index("method")
    assert list(table.index) == ["scratch", "cmi", "rgal"]
    assert table.loc["cmi", "at_a_b_mean_percent"] == 82 and table.loc["cmi", "at_a_b_finished"] == 2
    assert table.loc["cmi", "at_a_b_std_points"] == pytest.approx(math.sqrt(8))
    assert table.loc["cmi", "at_a_c_mean_percent"] == 70
    assert math.isnan(table.loc["scratch", "at_a_c_mean_percent"])
    assert math.isnan(table.loc["rgal", "at_a_c_mean_percent"]) and table.loc["rgal", "at_a_c_finished"] == 0


def test_print(results: pd.DataFrame, tmp_path: Path) -> None:
    (rows,) = overviews(results).values()
    text = overview_table(rows).text("md")
    assert "a → b" in text and "82.00 ± 2.83" in text and "| scratch † | 90.00" in " ".join(text.split())
    assert "over 1 to 2 finished trials" in text and "real data" in text
    written = {path.name for path in write_tables(results, tmp_path)}
    assert {f"overview_kd_cifar10_small.{end}" for end in ("md", "csv", "tex")} <= written
    assert list(all_tables(results))[-1] == "overview_kd_cifar10_small"


def test_settings_with_one_slug_stay_apart(results: pd.DataFrame) -> None:
    results = pd.DataFrame([row("a -> b", "cmi", 1.0), row("a b", "cmi", 2.0)])
    table = overview_table(results).numbers
    means = [name for name in table.columns if name.endswith("_mean_percent")]
    assert len(means) == 2 and sorted(table.loc[0, means]) == [1.0, 2.0]
