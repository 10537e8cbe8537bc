"""The table for one column of a paper: few columns, one package, bold by the verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting.results import ResultGroup
from rgal.reporting.tables.accuracy import accuracy_table
from tests.helpers.reporting_builders import trial, write_tables

TEX = shutil.which("pdflatex")


def results(seeds: int = 5, **means: float) -> pd.DataFrame:
    """`b` varies against the others, so that it ties with what is near."""
    rows = [
        trial(name, order, seed, mean + (-seed if name == "b" else seed) / 10, data_free=name != "joint")
        for order, (name, mean) in enumerate(means.items())
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def compact(frame: pd.DataFrame) -> str:
    return accuracy_table(ResultGroup(frame)).compact()


def bold(text: str) -> list[str]:
    return re.findall(r"\\textbf\{([a-z]+)\}", text)


def test_the_best_and_what_ties_with_it_are_bold() -> None:
    text = compact(results(joint=99.0, a=90.0, b=90.1, c=80.0))
    assert bold(text) == ["a", "b"] and r"\textbf{90.20 \ensuremath{\pm} 0.16}" in text
    assert "joint \\ensuremath{^\\dagger} & 99.20" in text and text.count("&") == 3 * 5


@pytest.mark.parametrize("frame", [results(a=90.0, b=90.1), results(2, a=90.0, c=80.0)])
def test_nothing_is_bold_where_no_method_is_worse(frame: pd.DataFrame) -> None:
    assert bold(compact(frame)) == []


def test_it_needs_booktabs_alone_and_no_class(tmp_path: Path) -> None:
    paths = write_tables(results(a=90.0, c=80.0), tmp_path)
    (path,) = (path for path in paths if path.name.endswith("_compact.tex"))
    text = path.read_text(encoding="utf-8")
    commands = set(re.findall(r"\\[a-z]+(?=rule)", text))
    assert (
        commands == {"\\top", "\\mid", "\\bottom"} and "documentclass" not in text and "adjustbox" not in text
    )
    assert text.count("{") == text.count("}")


def with_cases() -> pd.DataFrame:
    """Two bit widths, long names and wide intervals."""
    rows = [
        trial(
            name, 0, seed, mean + seed * wide, data_free=name != "real_finetune", case=case, case_order=order
        )
        for order, case in enumerate(("w3a3", "w2a2"))
        for name, mean, wide in (
            ("real_finetune", 90.0, 0.1),
            ("adaptive_one", 60.0, 3.0),
            ("gdfq", 50.0, -3.0),
        )
        for seed in range(5)
    ]
    return pd.DataFrame(rows).assign(task="dfq", case_title="Bits")


def test_cases_stand_above_their_rows() -> None:
    text = compact(with_cases())
    titles = re.findall(r"\\multicolumn\{(\d)\}\{l\}\{\\textit\{(\w+)\}\}", text)
    assert [title for _, title in titles] == ["W3A3", "W2A2"] and "Bits" not in text
    width = int(titles[0][0])
    assert all(line.count("&") == width - 1 for line in text.splitlines() if "&" in line)
    assert r"\scriptsize" in text and r"\footnotesize" in compact(results(2, a=90.0, c=80.0))


@pytest.mark.skipif(TEX is None, reason="no TeX on this machine")
@pytest.mark.parametrize("frame", [results(a=90.0, b=90.1, c=80.0), with_cases()])
def test_it_fits_a_column_of_a_paper(tmp_path: Path, frame: pd.DataFrame) -> None:
    (tmp_path / "table.tex").write_text(compact(frame), encoding="utf-8")
    lines = [
        r"\documentclass[twocolumn]{article}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        r"\input{table}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join([*lines, r"\end{document}"]))
    done = subprocess.run(
        [str(TEX), "-interaction=nonstopmode", "paper"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Overfull" not in done.stdout
