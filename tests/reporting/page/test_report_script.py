"""How the page sorts: the script's functions in node, against an obvious Python version."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rgal.reporting import page

TEMPLATES = Path(page.__file__).parent / "templates"
SCRIPT = TEMPLATES / "tables.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine")

NUMBERS = {
    "92.00 ± 2.00": 92.0,
    "92.00 ± 0.50": 92.0,
    "1,234": 1234.0,
    "1,234,567.5 MB": 1234567.5,
    "−0.50": -0.5,
    "−1,000.25 ± 3.00": -1000.25,
    "+1.20 [+0.40, +2.00]": 1.2,
    "-3": -3.0,
    "0": 0.0,
    "0.000": 0.0,
    ".5": 0.5,
    "1e-3": 0.001,
    "3 of 4": 3.0,
    "  21 of 21 ": 21.0,
    "99.60 †": 99.6,
    "1,23": 1.0,
    "baseline": 0.0,
    "": None,
    "   ": None,
    "—": None,
    "n/a": None,
    "−": None,
    "± 2": None,
}


def in_node(expression: str, data: Any) -> Any:
    """The value of a JavaScript expression over `data` and what the script exports."""
    code = f"const s = require({json.dumps(str(SCRIPT))}); const data = {json.dumps(data)};"
    done = subprocess.run(
        [str(NODE), "-e", f"{code} process.stdout.write(JSON.stringify({expression}))"],
        capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    return json.loads(done.stdout)


def naive_number(text: str) -> float | None:
    """Letter by letter: the longest start that Python reads as a number, thousands separators removed."""
    if text == "baseline":
        return 0.0
    text = re.sub(r"(?<=\d),(?=\d\d\d)", "", text.strip()).replace("−", "-")
    for end in range(len(text), 0, -1):
        try:
            return float(text[:end])
        except ValueError:
            continue
    return None


def naive_sort(texts: list[str], descending: bool) -> list[str]:
    """Selection sort: again and again the first of the best that is left; blanks in the end."""
    rest, done = [text for text in texts if naive_number(text) is not None], []
    while rest:
        values = [naive_number(text) or 0.0 for text in rest]
        done.append(rest.pop(values.index(max(values) if descending else min(values))))
    return done + [text for text in texts if naive_number(text) is None]


def test_the_number_of_a_cell() -> None:
    assert in_node("data.map(s.numberOf)", list(NUMBERS)) == list(NUMBERS.values())
    assert [naive_number(text) for text in NUMBERS] == list(NUMBERS.values())


@pytest.mark.parametrize("descending", [False, True])
def test_numbers_sort_with_blanks_last(descending: bool) -> None:
    texts = list(NUMBERS) * 2
    random.Random(1).shuffle(texts)
    direction = -1 if descending else 1
    ordered = in_node(f"data.sort((a, b) => s.compareTexts(a, b, true, {direction}))", texts)
    assert ordered == naive_sort(texts, descending)


def test_words_sort_as_people_do() -> None:
    words = ["w10a10", "cmi+rgal", "", "W2A2", "abd", "CMI", "  ", "w8a8", "Zeroq"]
    expected = ["abd", "CMI", "cmi+rgal", "W2A2", "w8a8", "w10a10", "Zeroq"]
    assert in_node("data.sort((a, b) => s.compareTexts(a, b, false, 1))", words) == [*expected, "", "  "]
    assert in_node("data.sort((a, b) => s.compareTexts(a, b, false, -1))", words) == [
        *expected[::-1],
        "",
        "  ",
    ]


def test_clicks_go_round() -> None:
    steps = "[0, 1, 2, 3].reduce((seen) => [...seen, s.nextOrder(seen.at(-1), data)], ['none'])"
    assert in_node(steps, True) == ["none", "descending", "ascending", "none", "descending"]
    assert in_node(steps, False) == ["none", "ascending", "descending", "none", "ascending"]


def test_the_script_cannot_end_its_element() -> None:
    for name in ("tables.js", "report.css"):
        text = SCRIPT.with_name(name).read_text(encoding="utf-8")
        assert not re.search(r"</(script|style)|<!--", text, re.IGNORECASE) and "http" not in text


def of_page(name: str, expression: str, data: Any) -> Any:
    """The value of an expression over what a later part of the script exports; the parts before it are globals."""
    before = "Object.assign(globalThis, { words: new Intl.Collator('en', { numeric: true, sensitivity: 'base' }) });"
    code = (
        f"{before} const s = require({json.dumps(str(TEMPLATES / name))}); const data = {json.dumps(data)};"
    )
    done = subprocess.run(
        [str(NODE), "-e", f"{code} process.stdout.write(JSON.stringify({expression}))"],
        capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_seed_is_found_and_not_one_that_starts_alike() -> None:
    texts = ["kd-cmi-s3-30ab seed=3 cmi", "kd-cmi-s30-1111 seed=30 cmi", "kd-rgal-s3-9999 seed=3 rgal k=2"]
    found = "data.map((query) => texts.map((text) => s.matches(text, query)))".replace(
        "texts", json.dumps(texts)
    )
    queries = ["seed 3", "CMI seed=3", "k=2", "", "nothing"]
    yes, no = True, False
    assert of_page("trials.js", found, queries) == [
        [yes, no, yes], [yes, no, no], [no, no, yes], [yes, yes, yes], [no, no, no],
    ]  # fmt: skip


def test_trials_without_a_value_come_last_in_both_directions() -> None:
    values = [3, None, 1, 2, None]
    both = "[1, -1].map((direction) => s.sortedBy([0, 1, 2, 3, 4], (at) => data[at], direction))"
    assert of_page("trials.js", both, values) == [[2, 3, 0, 1, 4], [0, 3, 2, 1, 4]]


def test_settings_that_differ_are_told_apart() -> None:
    table = {
        "lr": {"v": ["1", "2"], "i": [0, 1, 0]},
        "task": {"v": ["kd"]},
        "k": {"v": ["5", "6"], "i": [0, 0, 1]},
    }
    expression = "[[0, 1], [0, 1, 2], [1]].map((places) => s.compared(data, places).different)"
    assert of_page("trials.js", expression, table) == [["lr"], ["lr", "k"], []]


def test_the_csv_of_the_list_quotes_what_it_must() -> None:
    assert of_page("trials.js", "s.csvOf(data)", [["a,b", 'c"d'], [1, None]]) == '"a,b","c""d"\n1,\n'


def test_a_method_that_is_off_is_in_no_figure() -> None:
    chart = {
        "kind": "lines", "y": "y", "views": [{"k": "seconds", "label": "s"}, {"k": "images", "label": "i"}],
        "series": [
            {"m": "cmi", "x": {"seconds": [1, 2], "images": [3, 4]}, "y": [5, 6], "e": [1, None]},
            {"m": "<b>", "x": {"seconds": [1, 2]}, "y": [5, 6], "e": [1, 1]},
            {"m": "", "n": "float", "v": "images", "x": [1], "y": [2]},
        ],
        "levels": [["teacher", 9]],
    }  # fmt: skip
    look = {"colour": "#0072B2", "symbol": "star", "dash": "solid"}
    looks = {"looks": {"cmi": look, "<b>": look}, "classes": []}
    drawn = (
        "[['seconds', []], ['seconds', ['cmi']], ['images', []], ['images', ['cmi', '<b>']]].map(([view, off]) => "
        "s.plotOf(data[0], view, new Set(off), data[1], s.themeOf(false)).data.map((t) => [t.name || 'band', t.x]))"
    )
    assert of_page("charts.js", drawn, [chart, looks]) == [
        [["band", [1, 2, 2, 1]], ["cmi", [1, 2]], ["&lt;b&gt;", [1, 2]]],
        [["band", [1, 2, 2, 1]], ["&lt;b&gt;", [1, 2]]],
        [["cmi", [3, 4]], ["float", [1]]],
        [["float", [1]]],
    ]


def test_rgal_is_told_from_its_host_where_no_symbol_is_drawn() -> None:
    """Both have one colour."""
    looks = {
        name: {"colour": "#0072B2", "symbol": symbol, "dash": "solid"}
        for name, symbol in (("cmi", "circle"), ("cmi+rgal", "star"))
    }
    series = [{"m": name, "x": {"v": [1, 2]}, "y": [5, 6]} for name in looks]
    for kind, seen in (("bars", "t.marker.pattern.shape"), ("steps", "t.line.width")):
        chart = {"kind": kind, "y": "y", "views": [{"k": "v"}], "series": series}
        drawn = f"s.plotOf(data[0], 'v', new Set(), data[1], s.themeOf(false)).data.map((t) => {seen})"
        host, rgal = of_page("charts.js", drawn, [chart, {"looks": looks, "classes": []}])
        assert host != rgal
