"""The figure of a number in methods' brackets: which methods share a line, and what the line's points are."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from rgal.methods.names import variants
from rgal.reporting.figures.parameters import parameter_data, parameter_figures
from rgal.reporting.figures.style import figure_bytes
from tests.helpers.reporting_builders import trial

SPREADS = (0, 1, 10)


def swept() -> pd.DataFrame:
    """Two seeds of the host and of RGAL at three weights: accuracy 80 + weight + seed, distance 0.4 + weight / 100."""
    rows = [trial("plain", 0, seed, 79.0) for seed in (0, 1)]
    for place, value in enumerate(SPREADS):
        name = f"rgal[gather=0,spread={value}]"
        rows += [
            trial(name, 1 + place, seed, 80.0 + value + seed, diversity_same=0.4 + value / 100)
            for seed in (0, 1)
        ]
    return pd.DataFrame(rows)


def figures(results: pd.DataFrame) -> dict[str, Figure]:
    drawn = ((name, draw()) for name, draw in parameter_figures(results))
    return {name: figure for name, figure in drawn if figure is not None}


def test_points_are_means_over_seeds_in_the_order_of_the_values() -> None:
    data = parameter_data(swept().iloc[::-1], "spread")
    assert set(data["method"]) == {"rgal[gather=0]"} and set(data["n"]) == {2}
    accuracy, same = data[data["measure"] == "top1"], data[data["measure"] == "same"]
    assert list(accuracy["x"]) == [0, 1, 10] and list(accuracy["mean"]) == [80.5, 81.5, 90.5]
    assert list(accuracy["std"]) == [pytest.approx(0.5**0.5)] * 3
    assert list(same["mean"]) == [pytest.approx(0.4 + value / 100) for value in SPREADS]
    assert len(data) == 6  # nobody measured the distance of different labels: it has no panel


def test_a_figure_has_a_panel_for_each_known_measure_and_the_host_as_a_level() -> None:
    figure = figures(swept())["parameter_spread"]
    accuracy, same = figure.axes
    assert [line.get_ydata()[0] for line in accuracy.lines if len(set(line.get_ydata())) == 1] == [79.0]
    assert not [line for line in same.lines if len(set(line.get_ydata())) == 1]  # of the host it is unknown
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rgal[gather=0]", "plain"]
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["0", "1", "10"]
    assert figure_bytes(figure, "svg")


def test_the_default_of_which_no_name_tells_the_value_is_a_level() -> None:
    rows = pd.concat([swept(), pd.DataFrame([trial("rgal[gather=0]", 9, 0, 85.0)])], ignore_index=True)
    figure = figures(rows)["parameter_spread"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "rgal[gather=0]", "plain", "rgal[gather=0], its default",
    ]  # fmt: skip
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1]
    assert levels == [79.0, 85.0]


def test_two_values_are_no_line_and_unfinished_trials_are_no_value() -> None:
    results = swept()
    assert not figures(results[results["method"] != "rgal[gather=0,spread=10]"])
    failed = results["method"] == "rgal[gather=0,spread=1]"
    assert not figures(results.assign(status=results["status"].mask(failed, "failed")))


def test_every_parameter_has_its_own_lines() -> None:
    names = [
        "fast[k=1]+rgal[spread=0.1]",
        "fast[k=2]+rgal[spread=0.1]",
        "fast[k=2]+rgal[spread=1]",
        "???",
        "rgal[band=focal]",
    ]
    assert variants([*names, "fast[k=2.0]+rgal[spread=1]"]) == {
        "k": {
            "fast+rgal[spread=0.1]": {1.0: names[0], 2.0: names[1]},
            "fast+rgal[spread=1]": {2.0: names[2]},
        },
        "spread": {
            "fast[k=1]+rgal": {0.1: names[0]},
            "fast[k=2]+rgal": {0.1: names[1], 1.0: names[2]},
            "fast[k=2.0]+rgal": {1.0: "fast[k=2.0]+rgal[spread=1]"},
        },
    }
