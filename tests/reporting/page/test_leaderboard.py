"""Who won: ranks, ties, references and hosts, from results whose verdict is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.page.leaderboard import boards
from rgal.reporting.page.model import Board, sheet
from rgal.reporting.results import ResultGroup
from rgal.reporting.tables.accuracy import accuracy_table
from rgal.suite.store.records import Record
from tests.helpers.reporting_builders import trial

SEEDS = (-0.4, -0.2, 0.0, 0.2, 0.4)


def results(**means: float) -> pd.DataFrame:
    """Five seeds of each method; `b` varies the other way round, so that it ties with what is near."""
    rows = [
        trial(name, order, seed, mean + (-shift if name == "b" else shift), data_free=name != "joint")
        for order, (name, mean) in enumerate(means.items())
        for seed, shift in enumerate(SEEDS)
    ]
    return pd.DataFrame(rows)


def board(frame: pd.DataFrame, records: dict[str, Record] | None = None) -> Board:
    (only,) = boards(ResultGroup(frame), "g", records or {})
    return only


def test_methods_come_by_their_means_and_ties_share_a_place() -> None:
    made = board(results(c=80.0, a=90.0, b=89.9, joint=99.0))
    assert [(row.rank, row.method, row.word) for row in made.rows] == [
        ("1–2", "a", "best mean"),
        ("1–2", "b", "ties with the best"),
        ("3", "c", "worse"),
    ]
    assert made.rows[0].mean == "90.00 ± 0.32" and made.rows[0].difference == ""
    assert made.rows[2].difference.startswith("−10.00 [") and made.verdict.startswith(
        "Best data-free top-1: a"
    )
    assert [(row.method, row.rank, row.word) for row in made.references] == [("joint", "", "on real data")]


def test_two_seeds_rank_nothing() -> None:
    frame = results(a=90.0, b=80.0)
    made = board(frame[frame["seed"] < 2])
    assert [(row.rank, row.word) for row in made.rows] == [("", "not compared")] * 2
    assert made.verdict.startswith("No ranking: n = 2") and all(row.bar.interval is None for row in made.rows)


def test_rgal_stands_beside_its_host() -> None:
    frame = results(**{"cmi": 90.0, "cmi+rgal": 92.0})
    made = board(frame)
    assert made.hosted and [row.method for row in made.rows] == ["cmi+rgal", "cmi"]
    assert made.rows[0].beside == "+2.00 [+2.00, +2.00] to cmi: better" and made.rows[1].beside == ""
    assert not board(results(a=90.0, b=80.0)).hosted


def test_a_bar_holds_the_seeds_and_a_failure_does_not_flatten_the_others() -> None:
    made = board(results(a=95.0, b=94.0, c=10.0))
    best, _, failed = (row.bar for row in made.rows)
    assert best.interval is not None and best.interval[0] < best.mean < best.interval[1]
    assert len(best.seeds) == 5 and best.seeds == sorted(best.seeds) and best.mean > 50
    assert failed.outside == "left" and failed.mean == 0 and float(made.axis[0]) > 80


def test_the_weights_of_the_first_seed_are_linked(tmp_path: Path) -> None:
    frame = results(a=90.0, b=80.0)
    folder = tmp_path / "trials" / "kd-a #1"
    folder.mkdir(parents=True)
    (folder / "student.safetensors").write_bytes(b"")
    made = board(frame, {"a-0": Record(folder, "a-0", "finished")})
    assert made.rows[0].weights is not None and made.rows[1].weights is None
    assert made.rows[0].weights.href == "trials/kd-a%20%231/student.safetensors"


@pytest.mark.parametrize("strongest", ["a", "b"])
def test_the_strongest_baseline_has_no_blank_cell(strongest: str) -> None:
    frame = results(a=90.0, b=80.0 if strongest == "a" else 95.0, rgal=85.0)
    shown = sheet(accuracy_table(ResultGroup(frame)))
    column = [heading.title for heading in shown.headings].index("vs best baseline (points)")
    cells = {row[0].text: row[column].text for row in shown.rows}
    assert cells[strongest] == "baseline" and list(cells.values()).count("baseline") == 1
    assert all(cells.values())
