"""The page: what is on it, that every text is escaped, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest

from rgal.reporting import group
from rgal.reporting.page import model as html
from rgal.reporting.page.model import Cell, Heading, Report, Section, Sheet, TaskPart, render_html, sheet
from rgal.reporting.report import render
from rgal.reporting.results import MethodTrials
from rgal.reporting.tables.column import Column
from rgal.reporting.tables.table import Table
from rgal.reporting.tables.write import group_tables
from rgal.suite.store.folders import Store
from tests.helpers.html_reader import Page
from tests.helpers.reporting_builders import draw_svg_alone, some_results
from tests.helpers.store_builders import ENVIRONMENT, add_trial, change, grid_png, settings

NASTY = """<script>alert("1")</script>'&amp;<b onclick=x>"""
LATER = {**ENVIRONMENT, "started": "2026-11-26T08:00:00+0000", "threads": 2, "gpu": "H100"}
STEM = "kd_digits-wrn16_1-wrn10_1_small"


def some_store(root: Path) -> Path:
    """cmi with two seeds, one of them replaced by a later run; rgal failed; plain is not done; quantization at two
    widths; one folder of somebody else."""
    add_trial(root, "a" * 12, settings("cmi", 0), last=90.0)
    add_trial(root, "b" * 12, settings("cmi", 1), last=94.0)
    again = add_trial(root, "c" * 12, settings("cmi", 1), last=96.0)
    change(again / "trial.json", environment=LATER)
    add_trial(root, "d" * 12, settings("rgal", 0, order=1), status="failed", reason=f"OSError: {NASTY}")
    (add_trial(root, "e" * 12, settings("plain", 0, order=2)) / "result.json").unlink()
    for number, case in enumerate(("w8a8", "w4a4")):
        quantized = {"task": "dfq", "setting": "digits resnet8", "case_title": "Bits", "case_order": number}
        folder = add_trial(
            root, f"{number:012x}", settings("zeroq", 0, case=case, **quantized), last=80.0 - number
        )
        (folder / "samples.png").write_bytes(grid_png())
    (root / "trials" / NASTY.replace("/", "")).mkdir()
    return root


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = some_store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        draw_svg_alone(patch)
        return render(Store(root)).page


@pytest.fixture(scope="module")
def page(rendered: Path) -> Page:
    return Page(rendered.read_text(encoding="utf-8"))


def test_tags_are_balanced_and_ids_are_unique(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 10
    for reference in page.values("aria-labelledby"):
        assert reference in ids
    anchors = [link[1:] for link in page.values("href") if link.startswith("#")]
    assert set(anchors) <= set(ids) and {"main", "trials", "overview", "failures", "left-out"} <= set(anchors)
    assert len(page.all("h1")) == 1 and len(page.all("main")) == 1 and page.all("html") == [{"lang": "en"}]


def test_nothing_comes_from_elsewhere(page: Page, rendered: Path) -> None:
    assert page.all("link") == [] and not any("src" in script for script in page.all("script"))
    assert all(source.startswith("data:image/") for source in page.values("src"))
    for link in page.values("href"):
        assert link.startswith("#") or (rendered.parent / unquote(link)).is_file(), link
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data: file: 'self'; style-src 'sha256-")
    assert not any(
        name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes
    )


def test_tables_are_those_of_the_group(page: Page) -> None:
    rows = page.tables[f"group-{STEM}-table-1"]
    assert rows[0][:4] == ["Method", "Top-1 (%)", "n", "Drop (points)"]
    assert rows[1][:4] == ["cmi", "93.00 ± 4.24", "2", "5.00"]  # of 90 and 96: the later run of seed 1
    assert page.tables["group-dfq_digits-resnet8_small-table-1"][1][:3] == ["W8A8", "zeroq", "80.00"]
    assert "Top-1: test accuracy at the last evaluation" in page.text


def column(trials: dict[str, Any], name: str) -> list[str]:
    """The texts of a column as the script reads them."""
    own = trials[name]
    return [own["v"][place] for place in own.get("i", [0] * len(trials["folder"]))]


def test_every_trial_is_listed(page: Page, rendered: Path) -> None:
    trials = json.loads(page.data)["trials"]
    assert sorted(trials["folder"]) == sorted(
        path.name for path in rendered.parent.glob("trials/*-s*-*") if (path / "trial.json").exists()
    )
    at = {folder[-12:]: place for place, folder in enumerate(trials["folder"])}
    status, files = column(trials, "status"), column(trials, "files")
    assert [status[at[letter * 12]] for letter in "bde"] == ["finished", "failed", "interrupted"]
    assert trials["replaced"] == [at["b" * 12]]
    assert (trials["score"][at["c" * 12]], trials["score"][at["d" * 12]]) == (96, None)
    assert trials["scores"] == "Top-1 (%)"
    assert trials["seconds"][at["a" * 12]] == 20 and trials["seconds"][at["e" * 12]] is None
    assert files[at["e" * 12]] == "trial.json metrics.jsonl"
    assert column(trials["settings"] | {"folder": trials["folder"]}, "case")[at["0" * 11 + "1"]] == "w4a4"
    first = trials["curves"][trials["folder"][at["a" * 12]]]
    assert first == {"evaluation": {"top1": [88, 89, 90], "x": [1, 2, 3]}}
    assert "OSError" in column(trials, "reason")[at["d" * 12]]


def test_what_was_run_on_what(page: Page) -> None:
    head, *rows = page.tables["environments"]
    assert {"Threads", "GPU"} <= set(head) and head[-1] == "Trials"
    columns = [head.index(name) for name in ("Threads", "GPU", "Trials")]
    assert [[row[column] for column in columns] for row in rows] == [["1", "", "6"], ["2", "H100", "1"]]
    assert "7 (1 failed, 5 finished, 1 interrupted)" in page.text
    assert "2026-11-25T21:11:34Z to 2026-11-26T08:00:00Z" in page.text
    assert (
        "2.0 minutes of synthesis and training" in page.text
    )  # six results with 20 s each, the failed one too


def test_failures_and_what_is_left_out_have_a_reason(page: Page) -> None:
    (failure,) = page.tables["failures-table"][1:]
    assert failure[0].startswith("kd-rgal-s0-") and failure[1] == f"OSError: {NASTY}"
    (odd,) = page.tables["left-out-table"][1:]
    assert odd == [NASTY.replace("/", ""), "foreign", "no trial.json", ""]


def test_figures_are_data_and_grids_have_a_size_and_a_text(page: Page) -> None:
    (image,) = page.all("img")  # the first width's grid
    assert int(image["width"]) > 0 and int(image["height"]) > 0 and image["loading"] == "lazy"
    assert image["alt"] == "Synthesised images of zeroq, W8A8, seed 0: digits resnet8, budget small"
    charts = json.loads(page.data)["charts"]
    drawn = [tag for tag in page.all("figure") if tag["class"].startswith("chart")]
    assert [int(tag["data-chart"]) for tag in drawn] == list(range(len(charts)))
    assert [chart["title"] for chart in charts] == [
        "W8A8, Top-1 as training goes on",
        "W4A4, Top-1 as training goes on",
        "Top-1 in every case",
        "Top-1 as training goes on",
    ]
    of_papers = [link for link in page.values("href") if link.startswith("plots/")]
    assert f"plots/{STEM}_time.svg" in of_papers and f"plots/{STEM}_images.png" in of_papers


def test_headers_sort_and_containers_take_the_focus(page: Page) -> None:
    sorting = [tag for tag in page.all("th") if "aria-sort" in tag]
    assert sorting and all(tag["aria-sort"] == "none" and tag["scope"] == "col" for tag in sorting)
    assert len(page.all("button")) == len(sorting) and {b["type"] for b in page.all("button")} == {"button"}
    regions = [tag for tag in page.all("div") if tag.get("role") == "region"]
    assert len(regions) == len(page.all("table")) and all(tag["tabindex"] == "0" for tag in regions)


def test_who_won_comes_before_all_else(page: Page, rendered: Path) -> None:
    text = rendered.read_text(encoding="utf-8")
    assert 0 < text.index('class="board"') < text.index("<h2>")
    boards = re.findall(r'id="group-[^"]*-board-\d+"><strong>(.*?)</strong> (.*?)</p>', text)
    assert [head for head, _ in boards] == [
        "digits resnet8, budget small, W8A8.",
        "digits resnet8, budget small, W4A4.",
        "digits wrn16_1 → wrn10_1, budget small.",
    ]
    assert all(said == "One data-free method: nothing to rank." for _, said in boards)


@pytest.mark.usefixtures("svg_alone")
def test_the_same_store_gives_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    """Elsewhere, from files in another order, over an older page."""
    copy = tmp_path / "moved"
    for folder in sorted((rendered.parent / "trials").iterdir(), reverse=True):
        shutil.copytree(folder, copy / "trials" / folder.name)
    (copy / "report.html").write_text("an older page")
    assert render(Store(copy)).page.read_bytes() == rendered.read_bytes()


def test_every_setting_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a trial has a text of its own, so that one that is not shown is missed."""
    monkeypatch.setattr(group, "write_plots", lambda *_: [])
    fields = ("method", "setting", "budget", "dataset", "case", "case_title", "task")
    nasty = {field: f"{field}: {NASTY}" for field in fields}
    folder = add_trial(tmp_path, "a" * 12, settings(**nasty))
    change(folder / "trial.json", environment=dict.fromkeys(ENVIRONMENT, NASTY))
    change(folder / "result.json", image_note=NASTY, protocol=NASTY)
    (folder / "samples.png").write_bytes(grid_png())
    source = render(Store(tmp_path)).page.read_text(encoding="utf-8")
    shown = Page(source)
    for text in nasty.values():
        assert text in shown.text or text.upper() in shown.text
    assert len(shown.all("script")) == 3 and not shown.all("b") and NASTY not in source


def test_a_store_without_any_trial_of_ours(tmp_path: Path) -> None:
    (tmp_path / "trials" / "notes").mkdir(parents=True)
    shown = Page(render(Store(tmp_path)).page.read_text(encoding="utf-8"))
    assert "Results: no trial that can be read" in shown.text and len(shown.tables["left-out-table"]) == 2


@pytest.mark.usefixtures("drawings")
def test_equal_slugs_keep_their_own_plots_and_grids(tmp_path: Path) -> None:
    for number, setting in enumerate(("a -> b", "a b", "a b small time")):
        folder = add_trial(tmp_path, f"{number:012x}", settings(setting=setting), last=50.0 + number)
        (folder / "samples.png").write_bytes(grid_png(width=60 + number))
    result = render(Store(tmp_path))
    assert len(set(result.samples)) == 3 and len(set(result.plots)) == 12
    shown = Page(result.page.read_text(encoding="utf-8"))
    assert len(shown.all("figure")) == 3 + 3  # a chart and a grid each
    grids = {
        image["alt"].rpartition(": ")[2]: image["width"]
        for image in shown.all("img")
        if "images of" in image["alt"]
    }
    assert grids == {
        "a → b, budget small": "60",
        "a b, budget small": "61",
        "a b small time, budget small": "62",
    }


@pytest.mark.parametrize("content", [b"", b"no picture", grid_png()[:60], b"<svg></svg>"])
def test_a_broken_grid_is_left_out(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "write_plots", lambda *_: [])
    (add_trial(tmp_path, "a" * 12) / "samples.png").write_bytes(content)
    shown = Page(render(Store(tmp_path)).page.read_text(encoding="utf-8"))
    assert shown.all("img") == []
    assert shown.tables["left-out-table"][1][1:3] == ["broken", "samples.png: no PNG, or cut off"]


def test_a_plot_that_nobody_here_knows_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_trial(tmp_path, "a" * 12)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"></svg>'

    def one(*arguments: object) -> list[Path]:
        path = Path(str(arguments[2])) / f"{STEM}_loss_of_terms.svg"
        path.parent.mkdir()
        path.write_text(drawing)
        path.with_suffix(".png").write_bytes(grid_png())
        return [path.with_suffix(".png"), path]

    monkeypatch.setattr(group, "write_plots", one)
    (image,) = Page(render(Store(tmp_path)).page.read_text(encoding="utf-8")).all("img")
    assert image["alt"].startswith("loss of terms: ") and (image["width"], image["height"]) == ("96", "48")


def test_a_sheet_has_the_printed_cells_and_those_in_bold() -> None:
    (table, *_) = group_tables(some_results())
    shown = sheet(table)
    heads = next(line for line in table.text("md").splitlines() if line.startswith("|"))
    printed = [title.strip() for title in heads.split("|")[1:-1]]
    assert shown.verdict == table.verdict == ["No ranking: n = 1."]
    assert [heading.title for heading in shown.headings] == printed
    assert [heading.title for heading in shown.headings if heading.name] == ["Method"]
    assert {heading.kind for heading in shown.headings[1:]} == {"number"}
    assert shown.notes == table.notes and len(shown.rows) == len(table.numbers)
    trials = [MethodTrials("", name, pd.DataFrame()) for name in "ab"]
    columns = [
        Column("Name", ("name",), lambda row: (row.method,), text=True),
        Column(
            "Value", ("value",), lambda row: (float(row.method == "b") + 1,), bold=lambda value: value > 1
        ),
    ]
    rows = sheet(Table("", trials, columns)).rows
    assert rows == [[Cell("a"), Cell("1.0")], [Cell("b"), Cell("2.0", bold=True)]]


def test_the_template_escapes_every_field_of_the_model() -> None:
    sheets = Sheet(
        NASTY,
        [Heading(NASTY), Heading(NASTY, "number", name=True)],
        [[Cell(NASTY, True), Cell(NASTY, tone="bad")]],
        [NASTY],
    )
    links = [html.Link(NASTY, NASTY)]
    figure = html.Figure(NASTY, NASTY, html.Picture(NASTY, 1, 1), links)
    linked = Sheet("", [Heading("")], [[Cell(links=links)]], links=links)
    bar = html.Bar(1.0, (0.0, 2.0), [1.0], "left")
    row = html.Standing(*[NASTY] * 10, bar, links[0])  # type: ignore[arg-type]
    board = html.Board("b", NASTY, NASTY, NASTY, [row], [row], (NASTY, NASTY), True)
    drawing = html.Drawing(0, NASTY, links, NASTY)
    section = Section("g", NASTY, [board], [sheets, linked], [drawing], [figure], [figure])
    parts, data = [TaskPart("t", NASTY, [section])], {"a": NASTY}
    source = render_html(Report(NASTY, [(NASTY, NASTY)], sheets, parts, sheets, sheets, 1, data))
    shown = Page(source)
    assert len(shown.all("script")) == 3 and not shown.all("b")
    assert [text for text in shown.bold if text == NASTY] == [NASTY] * 5 and json.loads(shown.data) == data
    assert NASTY in shown.values("alt") and NASTY in shown.values("src") and NASTY in shown.values("href")
    body = re.sub(r"<(style|script)\b.*?</\1>", "", source, flags=re.S)
    assert "alert" in body and not re.search(r"<[^>]*alert\(\"", body)
