"""Tables against hand-computed numbers, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rgal.reporting.published import load_reference
from rgal.reporting.tables.column import count, significant
from rgal.reporting.tables.latex import latex_texts
from rgal.reporting.tables.table import markdown_text
from tests.helpers.reporting_builders import (
    CMI_README,
    REFERENCE,
    accuracy_of,
    by_method,
    compile_latex,
    needs_tex,
    trial,
)


def test_mean_std_drop_and_costs_are_the_hand_computed_ones(results: pd.DataFrame) -> None:
    row = by_method(accuracy_of(results)).loc["cmi"]
    assert row["top1_mean_percent"] == pytest.approx(92.0)
    assert row["top1_std_points"] == pytest.approx(2.0)  # sqrt((4 + 0 + 4) / 2)
    assert row["drop_points"] == pytest.approx(3.0)
    assert (row["finished"], row["planned"]) == (3, 3)
    assert row["images"] == pytest.approx(51200 + 1 / 3)
    assert row["synthesis_seconds"] == pytest.approx(1234.4 + 1 / 3)
    shown = accuracy_of(results).cells().set_index("Method").loc["cmi"]
    # the strongest baseline itself is compared with nothing
    assert list(shown) == ["92.00 ± 2.00", "3", "", "3.00", "51,200", "80,000", "40,000", "1,235", "12.3"]


def test_only_finished_trials_count(results: pd.DataFrame) -> None:
    table = accuracy_of(results)
    assert by_method(table).loc["deepinversion", "top1_mean_percent"] == 80.0
    shown = table.cells().set_index("Method")
    assert shown.loc["deepinversion", "n"] == "1 of 2"
    assert list(shown.loc["dafl"]) == ["", "0 of 2", "", "", "", "", "", "", ""]
    notes = " ".join(table.notes)
    assert "dafl: 2 of 2 trials without a result (failed: out of memory)." in notes
    assert "deepinversion: 1 of 2 trials without a result (interrupted)." in notes


def test_a_finished_trial_without_an_accuracy_is_not_a_result() -> None:
    table = accuracy_of(pd.DataFrame([trial("cmi", 0, 0, math.nan), trial("cmi", 0, 1, 90.0)]))
    assert table.cells().loc[0, "n"] == "1 of 2"
    assert "(no accuracy)" in " ".join(table.notes)


def test_one_trial_has_a_mean_and_no_spread(results: pd.DataFrame) -> None:
    table = accuracy_of(results)
    assert math.isnan(by_method(table).loc["cmi+rgal", "top1_std_points"])
    assert table.cells().set_index("Method").loc["cmi+rgal", "Top-1 (%)"] == "93.46"


def test_references_on_real_data_come_first_with_a_dagger_then_suite_order(results: pd.DataFrame) -> None:
    names = ["scratch †", "dafl", "deepinversion", "cmi", "cmi+rgal"]
    assert list(accuracy_of(results).cells()["Method"]) == names
    assert "† Trained on real data: a reference, not data-free." in accuracy_of(results).notes
    data_free = results[results["data_free"]]
    assert "†" not in accuracy_of(data_free).text("md")


def test_the_caption_says_which_accuracy_and_names_the_teacher(results: pd.DataFrame) -> None:
    table = accuracy_of(results)
    assert table.caption == "cifar10 wrn40_2 → wrn16_1, budget small"
    assert "last evaluation, not the best" in table.notes[0]
    assert "Teacher: 95.00 % top-1." in table.notes
    results.loc[0, "teacher_top1"] = 94.0
    assert "Teacher: 94.00 to 95.00 % top-1." in accuracy_of(results).notes


def test_image_notes_are_printed_once_for_all_methods_that_share_them(results: pd.DataFrame) -> None:
    results.loc[results["method"].isin(["cmi", "cmi+rgal"]), "image_note"] = "drawn anew, none kept"
    notes = accuracy_of(results).notes
    assert "Images of cmi, cmi+rgal: drawn anew, none kept." in notes


@pytest.mark.parametrize("missing", ["images", "teacher_top1", "order", "image_note", "reason", "data_free"])
def test_a_missing_column_is_left_blank(results: pd.DataFrame, missing: str) -> None:
    table = accuracy_of(results.drop(columns=missing), load_reference(REFERENCE))
    for fmt in ("md", "csv", "tex"):
        assert not re.search(r"\b(nan|none|null)\b", table.text(fmt), re.IGNORECASE)
    if missing == "images":
        assert set(table.cells()["Images"]) == {""}


def test_all_failed_still_names_the_methods(results: pd.DataFrame) -> None:
    text = accuracy_of(results[results["status"] == "failed"]).text("md")
    assert "No finished trials." in text
    assert "0 of 2" in text


def test_several_settings_are_refused_instead_of_averaged(results: pd.DataFrame) -> None:
    results.loc[0, "budget"] = "paper"
    with pytest.raises(ValueError, match="one budget"):
        accuracy_of(results)


def test_csv_holds_one_quantity_a_column(results: pd.DataFrame) -> None:
    table = pd.read_csv(io.StringIO(accuracy_of(results, load_reference(REFERENCE)).text("csv")))
    row = table.set_index("method").loc["cmi"]
    assert (row["top1_mean_percent"], row["top1_std_points"], row["finished"]) == (92.0, 2.0, 3)
    assert row["published_percent"] == 90.01
    assert row["published_source"].startswith(CMI_README)
    assert "±" not in accuracy_of(results).text("csv")


def test_a_student_better_than_its_teacher_has_a_negative_drop() -> None:
    table = accuracy_of(pd.DataFrame([trial("cmi", 0, 0, 95.5)]))
    assert table.cells().loc[0, "Drop (points)"] == "−0.50"
    assert r"\ensuremath{-}0.50" in table.text("tex")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (1.2345, "1.23"), (9.996, "10.0"), (12.345, "12.3"), (99.96, "100"),
     (12345.6, "12,346"), (math.nan, "")],
)  # fmt: skip
def test_seconds_have_three_digits_or_are_whole(value: float, text: str) -> None:
    assert significant(value) == text


def test_counts_have_separators() -> None:
    assert [count(1234567.4), count(0.0), count(math.nan)] == ["1,234,567", "0", ""]


def test_latex_special_characters() -> None:
    assert latex_texts(["a_b 5% & #1 {x}"])[0] == r"a\_b 5\% \& \#1 \{x\}"
    assert latex_texts(["wrn16_2 -> wrn10_1 † ±"])[0] == (
        r"wrn16\_2 \ensuremath{\rightarrow} wrn10\_1 \ensuremath{^\dagger} \ensuremath{\pm}"
    )
    assert latex_texts(["rgal[follows=code]"])[0] == "rgal{[}follows=code{]}"
    assert latex_texts(["\\~^<é\x1b∀\n$"])[0] == (r"\textbackslash \textasciitilde \textasciicircum <é?? \$")


def test_markdown_special_characters() -> None:
    assert markdown_text("wrn16_2 -> wrn10_1") == "wrn16_2 → wrn10_1"
    assert markdown_text("__init__ a|b *c* <d>\n`e`") == r"\_\_init\_\_ a\|b \*c\* \<d> \`e\`"
    assert markdown_text("rgal[follows=code]") == "rgal[follows=code]"
    assert markdown_text("[a](b)") == r"[a\](b)"


def nasty(results: pd.DataFrame) -> pd.DataFrame:
    reason = "RuntimeError: 100% of {x}_y & #1 \\ ~ ^ $ <a> | “é” ∀ \x1b[31m\n[2]"
    return pd.concat(
        [
            results.assign(reason=np.where(results["status"] == "failed", reason, "")),
            pd.DataFrame([trial("[first]|x_y[a=1%]", 0, 0, 50.0)]),
        ]
    )


def test_every_row_of_a_markdown_table_has_the_same_cells(results: pd.DataFrame) -> None:
    text = accuracy_of(nasty(results), load_reference(REFERENCE)).text("md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {13}
    assert ":" not in rows[1].split("|")[2][:-1]  # numbers are aligned to the right
    assert rows[1].split("|")[2].endswith(":")


def test_latex_has_booktabs_rules_shared_headings_and_equal_rows(results: pd.DataFrame) -> None:
    text = accuracy_of(results, load_reference(REFERENCE)).text("tex")
    for part in (r"\toprule", r"\bottomrule", r"\cmidrule(lr){7-8}", r"\multicolumn{2}{c}{Steps}"):
        assert part in text
    body = text.split(r"\midrule")
    assert len(body) == 3  # below the head, and between references and data-free methods
    assert "scratch" in body[1] and "dafl" in body[2]
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {11}


@needs_tex
def test_latex_compiles_as_it_is(results: pd.DataFrame, tmp_path: Path) -> None:
    frames = {
        "nasty": nasty(results),
        "empty": pd.DataFrame(),
        "failed": results[results["method"] == "dafl"],
    }
    for name, frame in frames.items():
        text = accuracy_of(frame, load_reference(REFERENCE)).text("tex")
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        compile_latex(tmp_path / f"{name}.tex")
