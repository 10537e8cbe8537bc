"""Figures of the kept images and the numbers they are drawn from, against hand-computed values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from rgal.reporting.figures.diversity import (
    MOST_MAPS,
    PANEL,
    diversity_figures,
    embedding_maps,
    histogram_data,
    point_data,
    round_data,
)
from rgal.reporting.figures.panels import TITLE, Panel
from rgal.reporting.figures.style import figure_bytes
from rgal.reporting.figures.write import write_plots
from rgal.suite.store.diversity import Diversity, diversity_frames
from tests.helpers.diversity_builders import record, some_diversity, some_trials
from tests.helpers.reporting_builders import some_curves, trial

FIGURES = ["distances", "distance_rounds", "negatives", "embedding"]

results = pytest.fixture(some_trials)
diversity = pytest.fixture(some_diversity)


def test_histograms_are_densities_over_all_seeds(diversity: Diversity, results: pd.DataFrame) -> None:
    other = record(histograms={"same": [0, 0, 0, 4], "different": [0, 0, 0, 0], "negatives": [1, 0, 0, 0]})
    frames = diversity_frames([("plain-0", record()), ("plain-1", other), ("cmi-0", record())])
    data = histogram_data(frames, results)
    assert set(data["method"]) == {"plain"}  # a failed trial is in no figure
    same = data[data["kind"] == "same"]
    assert list(same["density"]) == [pytest.approx(v / 8 / 0.5) for v in (3, 1, 0, 4)]
    for _, bins in histogram_data(diversity, results).groupby(["method", "kind"]):
        assert (bins["density"] * (bins["high"] - bins["low"])).sum() == pytest.approx(1)
    empty = record(histograms={"same": [0] * 4})
    assert histogram_data(diversity_frames([("plain-0", empty)]), results).empty


def test_rounds_are_means_over_seeds(diversity: Diversity, results: pd.DataFrame) -> None:
    data = round_data(diversity, results)
    plain = data[(data["method"] == "plain") & (data["quantity"] == "same")]
    assert list(plain["x"]) == [1, 2] and list(plain["mean"]) == [
        pytest.approx(0.45),
        pytest.approx(0.65),
    ]
    assert list(plain["std"]) == [pytest.approx(math.sqrt(0.005))] * 2 and list(plain["n"]) == [2, 2]
    deep = data[data["method"] == "deepinversion"]
    assert set(deep["quantity"]) == {"same"} and deep["std"].isna().all()


def test_maps_are_of_the_first_finished_seed(diversity: Diversity, results: pd.DataFrame) -> None:
    data = point_data(diversity, results)
    assert data.groupby("method").size().to_dict() == {"deepinversion": 4, "plain": 4, "rgal": 4}


def titles_of(figure: Figure | None) -> list[str]:
    """What the panels of a figure are called."""
    assert figure is not None
    return [text.get_text() for text in figure.axes[0].texts if text.get_label() == TITLE]


def drawn(diversity: Diversity, results: pd.DataFrame) -> dict[str, Figure | None]:
    return {name: draw() for name, draw in diversity_figures(diversity, results).items()}


def test_figures_show_every_method_once(diversity: Diversity, results: pd.DataFrame) -> None:
    figures = drawn(diversity, results)
    assert list(figures) == FIGURES
    titles = {name: titles_of(figure) for name, figure in figures.items()}
    assert titles["distances"] == titles["embedding"] == ["plain", "rgal", "deepinversion"]
    assert titles["negatives"][0] == "plain: 10.0\u00a0%\u00a0fallback"
    (legend,) = figures["distance_rounds"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["plain", "rgal", "deepinversion"]


def test_many_methods_and_classes() -> None:
    """More methods than maps, more classes than colours, names longer than a panel: what is left out is said."""
    names = [f"method{i}[parameter=value,another_parameter=another value]+rgal" for i in range(MOST_MAPS + 2)]
    rows = pd.DataFrame([trial(name, i, 0, 80.0) for i, name in enumerate(names)])
    crowd = record(embedding=record()["embedding"] | {"label": [3, 4, 5, 6]})
    labels = [record(embedding=record()["embedding"] | {"label": [i, i + 10, i, i + 20]}) for i in range(9)]
    frames = diversity_frames(zip(rows["key"], [*labels, crowd], strict=True))
    figures = drawn(frames, rows)
    maps = figures["embedding"]
    assert maps is not None and len(titles_of(maps)) == MOST_MAPS
    assert "not shown: " in maps.get_suptitle().replace("\n", " ")
    assert "other class" in [text.get_text() for text in maps.legends[0].get_texts()]
    assert len(titles_of(figures["distances"])) == len(names)
    for figure in figures.values():
        assert len(figure_bytes(figure, "svg")) > 1000


def test_rgal_and_its_host_have_a_map_however_many_methods_there_are() -> None:
    names = [*(f"m{i}" for i in range(MOST_MAPS)), "cmi", "cmi+rgal"]
    rows = pd.DataFrame([trial(name, i, 0, 90.0 - i) for i, name in enumerate(names)])
    frames = diversity_frames((key, record()) for key in rows["key"])
    assert titles_of(embedding_maps(frames, rows)) == [
        *(f"m{i}" for i in range(MOST_MAPS - 2)),
        "cmi",
        "cmi+rgal",
    ]


def test_one_peak_does_not_flatten_the_other_histograms(results: pd.DataFrame) -> None:
    spike = record(histograms={"same": [400, 0, 0, 0], "different": [0, 400, 0, 0], "negatives": None})
    flat = record(histograms=dict.fromkeys(("same", "different"), [1, 1, 1, 1]))
    of_key = {key: spike if key == "deepinversion-0" else flat for key in results["key"]}
    figure = diversity_figures(diversity_frames(of_key.items()), results)["distances"]()
    assert figure is not None
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("peak 2") == 1 and "1.5" in texts  # thrice the median peak of 0.5; the spike reaches 2
    (filled, *_) = (one for one in figure.axes[0].collections if isinstance(one, PolyCollection))
    heights = [np.ptp(path.vertices[:, 1]) for path in filled.get_paths()]  # of plain, rgal, deepinversion
    assert max(heights) == pytest.approx(PANEL.size[1]) and sorted(heights)[0] < 0.4 * PANEL.size[1]


def test_one_panel_and_no_panel(results: pd.DataFrame) -> None:
    alone = results[results["method"] == "plain"]
    for figure in drawn(some_diversity(), alone).values():
        assert figure is not None and len(figure_bytes(figure, "svg")) > 1000
    assert drawn(diversity_frames([]), results) == dict.fromkeys(FIGURES)
    assert drawn(some_diversity(), results.iloc[:0]) == dict.fromkeys(FIGURES)


def test_texts_stay_inside_the_figure_and_apart(diversity: Diversity, results: pd.DataFrame) -> None:
    for name, figure in drawn(diversity, results).items():
        assert figure is not None
        figure_bytes(figure, "png")
        renderer = figure.canvas.get_renderer()
        texts = [text for axes in figure.axes for text in axes.texts]
        boxes = [text.get_window_extent(renderer) for text in texts]
        if not texts:
            boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
        boxes += [figure.legends[0].get_window_extent(renderer)]
        for i, box in enumerate(boxes):
            assert box.x0 >= -1 and box.y0 >= -1, name
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, name
            assert not any(box.overlaps(other) for other in boxes[i + 1 :]), name


def test_points_land_in_their_panel() -> None:
    """A naive twin: one point at a time; what is beyond the limits lies on the edge."""
    panel = Panel(1.0, 2.0, (4.0, 2.0), (0.0, 2.0), (-1.0, 1.0))
    points = [(0.0, -1.0), (1.0, 0.0), (2.0, 1.0), (3.0, 0.5), (-1.0, -9.0)]
    placed = panel.place(np.array(points))
    for (x, y), at in zip(points, placed, strict=True):
        inside = min(max(x, 0.0), 2.0), min(max(y, -1.0), 1.0)
        assert at == pytest.approx((1.0 + 4.0 * inside[0] / 2.0, 2.0 + 2.0 * (inside[1] + 1.0) / 2.0))


@pytest.mark.usefixtures("svg_alone")
def test_the_same_bytes_each_time(diversity: Diversity, results: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = Diversity(
        *(
            frame.sample(frac=1, random_state=2).reset_index(drop=True)
            for frame in (diversity.rounds, diversity.bins)
        ),
        diversity.points,
    )
    curves = some_curves(results)
    first = write_plots(results, curves, tmp_path / "a", diversity=diversity)
    mixed = results.sample(frac=1, random_state=3)
    second = write_plots(mixed, curves, tmp_path / "b", diversity=shuffled)
    names = [path.name for path in first]
    assert names == [path.name for path in second]
    assert {name.rpartition("_")[2] for name in names} >= {
        "distances.png",
        "rounds.svg",
        "negatives.png",
        "embedding.svg",
    }
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
