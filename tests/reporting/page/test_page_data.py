"""What the script reads: charts by method and seed, and trials, whose weight is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.page import trials as trials_module
from rgal.reporting.page.charts import Frames, charts_of_group, numbers_of_json
from rgal.reporting.page.joined import joined
from rgal.reporting.results import groups
from rgal.suite.store.diversity import Diversity, diversity_frames
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import identified, load_records, make_frames
from tests.helpers.diversity_builders import some_diversity, some_trials
from tests.helpers.store_builders import add_trial, grid_png, settings

NONE = pd.DataFrame()


def frames(curves: pd.DataFrame = NONE, diversity: Diversity | None = None) -> Frames:
    return Frames(curves, NONE, NONE, diversity or diversity_frames([]))


def test_a_curve_has_three_axes_and_every_seed_behind_its_points(
    results: pd.DataFrame, curves: pd.DataFrame
) -> None:
    (named,) = charts_of_group(
        results,
        frames(curves.assign(student_steps=10 * curves["round"], seed=[int(k[-1]) for k in curves["key"]])),
    )
    chart = named.chart
    assert named.plots == ("time", "images")
    assert [view["k"] for view in chart["views"]] == ["seconds", "images", "student_steps"]
    cmi = next(one for one in chart["series"] if one["m"] == "cmi")
    rows = curves[curves["key"].str.startswith("cmi-") & (curves["round"] == 1)]
    assert cmi["x"]["student_steps"][0] == 10 and cmi["y"][0] == pytest.approx(rows["top1"].mean(), rel=1e-4)
    assert cmi["t"][0] == ", ".join(
        f"seed {k[-1]}: {v:.4g}" for k, v in sorted(zip(rows["key"], rows["top1"], strict=True))
    )
    assert {label for label, _ in chart["levels"]} == {"teacher", "scratch †"}


def test_each_method_has_its_own_map_and_histograms_are_split_by_kind() -> None:
    charts = [named.chart for named in charts_of_group(some_trials(), frames(diversity=some_diversity()))]
    maps = [chart for chart in charts if chart["kind"] == "map"]
    assert [chart["only"] for chart in maps] == ["plain", "rgal", "deepinversion"]
    assert all(one["m"] == chart["only"] for chart in maps for one in chart["series"])
    distances = next(chart for chart in charts if chart["title"] == "Distances of the kept images")
    assert [view["k"] for view in distances["views"]] == ["same", "different"]
    assert {one["v"] for one in distances["series"]} == {"same", "different"}


def test_a_group_without_finished_trials_has_no_chart(results: pd.DataFrame, curves: pd.DataFrame) -> None:
    assert list(charts_of_group(results.assign(status="failed"), frames(curves))) == []


def test_numbers_are_short_and_json_can_hold_them() -> None:
    assert numbers_of_json([1.0, 1 / 3, float("nan"), float("inf"), None, 123456.7]) == [
        1,
        0.33333,
        None,
        None,
        None,
        123460,
    ]


def described(root: Path, **given: frozenset[str]) -> dict[str, object]:
    records = load_records(Store(root))
    rows = identified(make_frames(records)[0])
    parts = {
        f"group-{stem}": trials_module.described(
            records, part, frozenset(map(int, part.index)), given.get("on_page", frozenset())
        )
        for stem, part in groups(rows).items()
    }
    return joined(parts)


def test_settings_are_flat_and_written_once(tmp_path: Path) -> None:
    for seed in range(3):
        add_trial(
            tmp_path,
            f"{seed:012x}",
            settings(seed=seed, schedule={"rounds": 5 + seed // 2}, plugins=["a.py"]),
        )
    own = described(tmp_path)["settings"]
    assert own["schedule.rounds"] == {"v": ["5", "6"], "i": [0, 0, 1]}  # type: ignore[index]
    assert own["plugins"] == {"v": ['["a.py"]']}  # type: ignore[index]


def test_what_is_no_number_is_no_curve(tmp_path: Path) -> None:
    folder = add_trial(tmp_path, "a" * 12, points=0)
    lines = [
        {"kind": "synthesis", "round": 1, "bn": 2.5, "odd": "text", "flag": True, "images": 3},
        {"kind": "synthesis", "round": 2, "bn": None, "adv": -1.0},
        [1], {"kind": 3, "round": 1}, {"kind": "student", "round": "x"},
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (curves,) = described(tmp_path)["curves"].values()  # type: ignore[attr-defined]
    assert curves == {"synthesis": {"bn": [2.5, None], "adv": [None, -1], "x": [1, 2]}}


def test_curves_and_pictures_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        folder = add_trial(tmp_path, f"{seed:012x}", settings(seed=seed), 50)
        (folder / "samples.png").write_bytes(grid_png(60 + seed))
    every = described(tmp_path, on_page=frozenset({"0" * 12}))
    assert len(every["curves"]) == 6 and len(every["pictures"]) == 5  # type: ignore[arg-type]
    monkeypatch.setattr(trials_module, "MOST_NUMBERS", 30)
    monkeypatch.setattr(trials_module, "MOST_PICTURES", 300)
    few = described(tmp_path)
    (first, *rest) = few["curves"].values()  # type: ignore[attr-defined]
    assert (
        len(rest) == 2 and len(first["evaluation"]["x"]) == 6
    )  # 12 numbers each, until there are more than 30
    assert first["evaluation"]["x"][0] == 1 and first["evaluation"]["x"][-1] == 50
    assert 1 <= len(few["pictures"]) < 6  # type: ignore[arg-type]


def test_groups_are_joined_as_if_they_were_described_together(tmp_path: Path) -> None:
    """A column of the first group has a text of its own, one of the second is missing there."""
    for number, more in enumerate([{"schedule": {"rounds": 5}}, {"schedule": {"rounds": 5}}, {"odd": "x"}]):
        budget = "small" if number < 2 else "large"
        add_trial(tmp_path, f"{number:012x}", settings(seed=number, budget=budget, **more))
    data = described(tmp_path)
    count = len(data["folder"])  # type: ignore[arg-type]
    assert count == 3 and data["group"] == [0, 1, 1] and len(data["groups"]) == 2  # type: ignore[arg-type]
    for name in ("settings", "environment"):
        for column in data[name].values():  # type: ignore[attr-defined]
            assert len(column.get("i", [0] * count)) == count
    texts = {
        name: [column["v"][place] for place in column.get("i", [0] * count)]
        for name, column in data["settings"].items()  # type: ignore[attr-defined]
    }
    assert texts["odd"] == ["x", "", ""] and texts["schedule.rounds"] == ["", "5", "5"]
    assert texts["seed"] == [str(seed) for seed in data["seed"]]  # type: ignore[attr-defined]
