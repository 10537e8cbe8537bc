"""The table of class-incremental learning and its published numbers, against hand-computed ones."""

from __future__ import annotations

import functools
import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from rgal.reporting.published import NO_REFERENCE, Reference, load_reference
from rgal.reporting.tables.write import group_tables
from tests.helpers.increment_builders import STEM, increment_trial, some_increments
from tests.helpers.reporting_builders import REFERENCE, accuracy_of, by_method, some_results, write_tables

results = pytest.fixture(some_increments)
FETRIL = "README of github.com/GregoirePetit/FeTrIL"
ABD = "README of github.com/GT-RIPL/AlwaysBeDreaming-DFCIL"
MEASURED = (
    "aia", "aia_without_base", "forgetting", "initial_forgetting", "bwt", "task_mean", "old_top1", "new_top1",
    "memory_mb", "base_top1", "protocol", "images", "synthesis_steps", "student_steps", "synthesis_seconds",
    "student_seconds",
)  # fmt: skip


@functools.cache
def published() -> Reference:
    return load_reference(REFERENCE / "necil.yaml")


def shown(results: pd.DataFrame, reference: bool = False) -> pd.DataFrame:
    table = accuracy_of(results, published() if reference else NO_REFERENCE)
    return table.cells().set_index("Method")


def notes(results: pd.DataFrame, reference: bool = False) -> list[str]:
    lines = accuracy_of(results, published() if reference else NO_REFERENCE).notes
    return [str(note) for note in lines]


def test_means_and_spreads_are_the_hand_computed_ones(results: pd.DataFrame) -> None:
    row = by_method(accuracy_of(results)).loc["abd"]
    assert (row["aia_mean_percent"], row["aia_std_points"]) == (62.0, 2.0)  # sqrt((4 + 0 + 4) / 2)
    assert (row["last_mean_percent"], row["last_std_points"]) == (52.0, 2.0)
    assert (row["forgetting_mean_points"], row["forgetting_std_points"]) == (9.0, 1.0)
    assert (row["finished"], row["planned"]) == (3, 3)
    assert row["images"] == pytest.approx(51200 + 1 / 3)
    assert shown(results).loc["abd"].to_dict() == {
        "AIA (%)": "62.00 ± 2.00",
        "Last (%)": "52.00 ± 2.00",
        "Forgetting (points)": "9.00 ± 1.00",
        "Old (%)": "42.00",
        "New (%)": "67.00",
        "n": "3",
        "AIA vs best baseline (points)": "",  # it is that baseline
        "Images": "51,200",
        "Synthesis steps": "80,000",
        "Learning steps": "40,000",
        "Synthesis (s)": "1,234",
        "Learning (s)": "12.3",
        "Kept (MB)": "0.250",
    }


def test_one_trial_has_rounded_means_and_no_spread(results: pd.DataFrame) -> None:
    row = shown(results).loc["abd+rgal"]
    assert list(row)[:6] == ["66.46", "56.46", "8.00", "46.46", "71.46", "1"]
    gained = shown(pd.DataFrame([increment_trial("abd", 0, 0, 60.0, forgetting=-0.5)]))
    assert gained.loc["abd", "Forgetting (points)"] == "−0.50"


def test_only_finished_trials_count_and_the_others_are_told(results: pd.DataFrame) -> None:
    table = shown(results)
    assert list(table.loc["fetril", ["AIA (%)", "n", "Images", "Synthesis (s)"]]) == [
        "58.00",
        "1 of 2",
        "0",
        "0",
    ]
    assert list(table.loc["pass"]) == ["", "", "", "", "", "0 of 2", *[""] * 7]
    text = " ".join(notes(results))
    assert "pass: 2 of 2 trials without a result (failed: out of memory)." in text
    assert "fetril: 1 of 2 trials without a result (interrupted)." in text


def test_the_upper_bound_comes_first_with_a_dagger(results: pd.DataFrame) -> None:
    assert list(shown(results).index) == ["joint †", "pass", "fetril", "abd", "abd+rgal"]
    assert "† Trained on the real images of earlier classes too: a reference, not exemplar-free." in notes(
        results
    )
    assert "†" not in accuracy_of(results[results["data_free"]]).text("md")


def test_the_notes_say_what_the_columns_and_the_protocol_are(results: pd.DataFrame) -> None:
    table = accuracy_of(results)
    assert table.caption == "cifar100 50+5x10 resnet18, budget small"
    first, meaning, kept = notes(results)[:3]
    assert first == "Protocol 50+5x10: 50 classes in the base phase, then 5 phases of 10."
    for part in ("AIA: average incremental accuracy", "the base included", "Last: top-1", "Forgetting: "):
        assert part in meaning
    assert "sample standard deviation over the n finished trials" in meaning and kept.startswith("Kept: ")
    assert not notes(results.assign(protocol="natural"))[0].startswith("Protocol")
    assert not any(note.startswith("Kept: ") for note in notes(results.assign(memory_mb=math.nan)))


def test_csv_carries_what_is_not_printed(results: pd.DataFrame) -> None:
    text = accuracy_of(results, published()).text("csv")
    assert "±" not in text and "†" not in text
    table = pd.read_csv(io.StringIO(text)).set_index("method")
    more = ["aia_without_base_percent", "initial_forgetting_points", "bwt_points", "task_mean_percent"]
    assert list(table.loc["abd", [*more, "base_top1_percent"]]) == [60.0, 10.0, -10.0, 51.0, 80.0]
    assert table.loc["abd+rgal", "aia_mean_percent"] == 66.456 and not table.loc["joint", "data_free"]
    assert table.loc["abd", "published_percent"] == 63.8 and math.isnan(
        table.loc["joint", "published_percent"]
    )
    assert table.loc["abd", "published_source"].startswith(FETRIL)


def test_markdown_and_latex_hold_equal_rows(results: pd.DataFrame) -> None:
    table = accuracy_of(results, published())
    rows = [line for line in table.text("md").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5 and {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {16}
    text = table.text("tex")
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in lines} == {14}
    assert r"62.00 \ensuremath{\pm} 2.00" in text and r"\multicolumn{2}{c}{Last phase (\%)}" in text
    assert r"max width=\linewidth" in text  # so many columns would run off the sheet
    body = text.split(r"\midrule")
    assert len(body) == 3 and "joint" in body[1] and "pass" in body[2]


@pytest.mark.parametrize("missing", [*MEASURED, "order", "reason", "data_free", "image_note", "dataset"])
def test_a_missing_column_is_left_blank(results: pd.DataFrame, missing: str) -> None:
    table = accuracy_of(results.drop(columns=missing), published())
    for fmt in ("md", "csv", "tex"):
        text = table.text(fmt)
        assert not re.search(r"\b(nan|none|null)\b", text, re.IGNORECASE)
    assert ("Kept (MB)" in table.cells()) == (missing != "memory_mb")


def test_the_table_of_results_has_what_the_task_measures(results: pd.DataFrame) -> None:
    table, plugin = group_tables(results)
    assert plugin.suffix == "_plugin" and list(plugin.numbers["method"]) == ["abd+rgal"]
    assert "aia_mean_percent" in table.numbers and table.suffix == ""
    for frame in (
        results.drop(columns="aia"),
        results.assign(aia="unknown"),
        results.assign(status="failed"),
    ):
        (table,) = [table for table in group_tables(frame) if not table.suffix]
        assert table.numbers["aia_mean_percent"].isna().all() and set(table.cells()["AIA (%)"]) == {""}
    for frame in (some_results(), pd.DataFrame()):
        assert "top1_mean_percent" in group_tables(frame)[0].numbers


def test_files_are_the_same_whatever_the_order_of_the_rows(results: pd.DataFrame, tmp_path: Path) -> None:
    paths = write_tables(results, tmp_path / "a", published())
    ends = [f"{suffix}.{fmt}" for suffix in ("", "_plugin") for fmt in ("md", "csv", "tex")]
    assert [path.name for path in paths] == [f"{STEM}{end}" for end in (*ends[:3], "_compact.tex", *ends[3:])]
    shuffled = results.sample(frac=1, random_state=3)
    for one, other in zip(paths, write_tables(shuffled, tmp_path / "b", published()), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_several_settings_are_refused_and_cases_are_kept_apart(results: pd.DataFrame) -> None:
    cased = results.assign(case=["a" if seed == 0 else "b" for seed in results["seed"]], case_title="Order")
    table = accuracy_of(cased).cells().set_index(["Order", "Method"])
    assert table.loc[("A", "abd"), "AIA (%)"] == "60.00"
    assert table.loc[("B", "abd"), "AIA (%)"] == "63.00 ± 1.41"
    results.loc[0, "setting"] = "other"
    with pytest.raises(ValueError, match="one setting"):
        accuracy_of(results)


def test_published_numbers_belong_to_metric_protocol_and_method(results: pd.DataFrame) -> None:
    assert shown(results, reference=True)["Published (%)"].to_dict() == {
        "joint †": "",
        "pass": "63.50",  # without a finished trial of its own
        "fetril": "66.30",
        "abd": "63.80",
        "abd+rgal": "",  # a variant is not the published method
    }
    assert "Published last (%)" not in shown(results, reference=True)
    note = notes(results, reference=True)[-1]
    assert note.startswith("Published: not measured here. As the authors print it, with their own networks")
    assert f"{FETRIL} (Petit et al., WACV 2023) (marked there as quoted from the SSRE paper)" in note
    other = results.assign(protocol=results["protocol"].where(results["protocol"].isna(), "50+25x2"))
    for frame in (other, results.assign(dataset="digits"), results.assign(task="kd")):
        assert "Published (%)" not in shown(frame, reference=True)
        assert not any(note.startswith("Published") for note in notes(frame, reference=True))


def test_equal_splits_have_a_published_last_accuracy(results: pd.DataFrame) -> None:
    equal = results.assign(protocol="10+9x10", setting="cifar100 10+9x10 resnet32", student="resnet32")
    table = shown(equal, reference=True)
    assert list(table["Published last (%)"]) == ["69.90", "", "", "33.70", ""]
    assert "Published (%)" not in table and ABD in notes(equal, reference=True)[-1]
    raw = by_method(accuracy_of(equal, published()))
    assert raw.loc["abd", "published_last_percent"] == 33.7 and math.isnan(
        raw.loc["abd", "published_percent"]
    )
    assert raw.loc["abd", "published_last_source"].startswith(ABD)


@pytest.mark.parametrize(
    ("dataset", "metric", "protocol", "method", "value"),
    [
        ("cifar100", "aia", "50+10x5", "abd", 62.5),
        ("cifar100", "last", "10+9x10", "abd", 33.7),
        ("cifar100", "last", "20+4x20", "joint", 69.9),
        ("cifar100", "last", "5+19x5", "finetune", 4.4),
        ("cifar100", "last", "20+4x20", "lwf", None),  # ABD's row has cross-entropy over all classes
        ("cifar100", "last", "10+9x10", "deepinversion", None),  # ABD's row is another method
        ("cifar100", "aia", "40+60x1", "fetril", 59.8),
        ("cifar100", "aia", "40+60x1", "fetril[classifier=fc]", 50.8),
        ("cifar100", "aia", "40+20x3", "ssre", 61.7),
        ("tiny_imagenet", "aia", "100+100x1", "fetril", 50.2),
        ("tiny_imagenet", "aia", "100+10x10", "il2a", 44.7),
        ("imagenet_subset", "aia", "50+5x10", "pass", 64.4),
        ("imagenet_subset", "aia", "50+10x5", "ssre", 67.7),
        ("imagenet_subset", "aia", "50+5x10", "ssre", None),  # an empty cell
        ("cifar100", "aia", "50+10x5", "lwf", None),  # LwF.MC is another method
        ("cifar100", "aia", "50+10x5", "abd+rgal", None),
        ("cifar100", "last", "50+10x5", "abd", None),
    ],
)
def test_the_reference_file_holds_what_the_readmes_print(
    dataset: str, metric: str, protocol: str, method: str, value: float | None
) -> None:
    network = "resnet32" if metric == "last" else "resnet18"
    cell = published().published("necil", dataset, metric, protocol, method, "", network)
    assert (cell[0] if cell else None) == value


def test_every_row_of_the_reference_file_is_reachable_or_kept_for_readers() -> None:
    reference = published()
    printed = {key[4] for key in reference.values}
    mapped = {row for rows in reference.rows.values() for row in rows}
    assert mapped <= printed and "lwf_mc" in printed - mapped
    assert len(reference.values) == 231 and all(key[2] in ("aia", "last") for key in reference.values)
    tables: list[dict[str, Any]] = yaml.safe_load((REFERENCE / "necil.yaml").read_text(encoding="utf-8"))[
        "tables"
    ]
    for table in tables:
        for pair in table["pairs"]:
            base, phases, step = map(int, re.fullmatch(r"\w+/(\d+)\+(\d+)x(\d+)", pair).groups())  # type: ignore[union-attr]
            assert base + phases * step == (200 if table["dataset"] == "tiny_imagenet" else 100)
