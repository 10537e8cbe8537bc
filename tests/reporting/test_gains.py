"""Whether RGAL helps: pairs of all runs against scipy's paired t test, one correction for all, and the words."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from rgal.core.errors import UserError
from rgal.reporting import studies as module
from rgal.reporting.gains import gains, gains_table, gains_verdict
from rgal.reporting.studies import keep, main, page_of, studies
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records, make_frames
from tests.helpers.store_builders import add_trial, settings

HOST = [90.0, 91.0, 92.5, 90.5, 91.5, 92.0]
BETTER = [2.0, 2.1, 1.9, 2.2, 1.8, 2.0]  # what RGAL adds, seed by seed
NOISE = [0.5, -0.4, 0.3, -0.6, 0.4, -0.1]


def results(root: Path, added: list[float], seeds: int, same: float = 0.0) -> pd.DataFrame:
    """One row a trial of `plain` and of `rgal`, which adds so many points."""
    for seed in range(seeds):
        for method, top1 in (("plain", HOST[seed]), ("rgal", HOST[seed] + added[seed])):
            add_trial(root, f"{method}{seed}", settings(method, seed), last=top1)
    return make_frames(load_records(Store(root)))[0]


def test_every_pair_is_a_paired_t_test_and_all_runs_share_one_correction(tmp_path: Path) -> None:
    runs = {"a": results(tmp_path / "a", BETTER, 6), "b": results(tmp_path / "b", NOISE, 6)}
    rows = gains(runs)
    assert [(row.source, row.host, row.method) for row in rows] == [
        ("a", "plain", "rgal"),
        ("b", "plain", "rgal"),
    ]
    raw = [stats.ttest_1samp(added, 0).pvalue for added in (BETTER, NOISE)]
    assert rows[0].difference.p == pytest.approx(2 * raw[0])
    assert rows[1].difference.p == pytest.approx(max(raw[1], 2 * raw[0]))
    assert rows[0].difference.mean == pytest.approx(2.0) and rows[0].difference.seeds == 6
    low, high = stats.ttest_1samp(NOISE, 0).confidence_interval(0.95)
    assert (rows[1].difference.low, rows[1].difference.high) == pytest.approx((low, high))
    assert math.isnan(rows[0].same)


def test_the_table_is_bold_only_where_the_verdict_says_so(tmp_path: Path) -> None:
    rows = gains({"a": results(tmp_path / "a", BETTER, 6), "b": results(tmp_path / "b", NOISE, 6)})
    first, second = gains_table(rows).splitlines()[2:]
    assert (
        "](a.md)" in first and "top-1" in first and "**+2.00 [+1.85, +2.15]**" in first and "**" not in second
    )
    said = gains_verdict(rows)
    assert "Of 2 pairs with at least 5 shared seeds, RGAL helps its host in 1 (rgal at " in said
    assert "harms it in 0; the other 1 cannot be told from no difference" in said


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_say_nothing(tmp_path: Path, seeds: int) -> None:
    rows = gains({"a": results(tmp_path, BETTER, seeds)})
    assert gains_verdict(rows).endswith("nothing can be said yet.") and "**" not in gains_table(rows)
    assert ("[" in gains_table(rows).splitlines()[2].split("|")[6]) == (seeds >= 3)


def test_harm_is_said_as_plainly(tmp_path: Path) -> None:
    rows = gains({"a": results(tmp_path, [-added for added in BETTER], 6)})
    assert "helps its host in 0 and harms it in 1 (rgal at " in gains_verdict(rows)


def test_a_page_of_other_studies_has_no_records_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    pages = tmp_path / "docs" / "results"
    pages.mkdir(parents=True)
    (pages / "studies.yaml").write_text(
        "made_up: {title: A, question: B, command: C}\nhelps: {title: 'Helps?', question: 'Where?', of: [made_up]}"
    )
    results(tmp_path / "run", BETTER, 6)
    keep(tmp_path / "run", studies()["made_up"])
    page = page_of(studies()["helps"])
    assert page.startswith("# Helps?\n\nWhere?\n\n**Of 1 pairs") and "](made_up.md)" in page
    assert "12 trials" in page
    assert main(["keep", "helps", str(tmp_path / "run")]) == 2
    assert "has no records of its own" in capsys.readouterr().err
    with pytest.raises(UserError, match="no finished trial"):
        keep(tmp_path / "empty", studies()["made_up"])
