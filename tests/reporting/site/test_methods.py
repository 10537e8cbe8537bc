"""The page of each method has its parts, and they are those of its code, its suites and its records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rgal import benchmarks
from rgal.methods.parameters import text_of
from rgal.methods.registry import methods
from rgal.reporting.site.measured import NOT_YET, measured, measured_text
from rgal.reporting.site.published_numbers import NONE, published_text
from rgal.reporting.site.schedules import suites
from rgal.reporting.site.sources import source_of
from rgal.reporting.site.terms import origin_of
from rgal.reporting.verdict import verdict_lines
from tests.helpers.site import pages

PARTS = [
    "What it optimises", "Parameters", "Terms", "Schedules", "What it got here", "Published numbers", "Deviations",
]  # fmt: skip
SUITES = Path(benchmarks.__file__).parent


@pytest.mark.parametrize("name", methods())
def test_the_page_of_a_method_has_its_parts(name: str) -> None:
    page, method = pages()[f"methods/{name}.md"], methods()[name]
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    assert parts[1::2] == PARTS and all(
        len(text.split()) > 3 or text.strip() == "None." for text in parts[2::2]
    )
    assert method.reference in parts[0]
    for parameter in method.parameters.values():
        assert f"| `{parameter.name}={text_of(parameter.default)}` |" in parts[4]
    recipe = method.recipe()
    for term in (*recipe.synthesis, *recipe.transfer):
        assert f"| `{term.name}` |" in parts[6]
    for budget in ("smoke", "small", "paper"):
        assert f"### {budget}" in parts[8]


def test_every_term_says_what_it_is() -> None:
    terms = [
        term
        for method in methods().values()
        for recipe in [method.recipe()]
        for term in (*recipe.synthesis, *recipe.transfer)
    ]
    assert len(terms) > 100 and not [
        term.name for term in terms if not getattr(origin_of(term.build), "__doc__", "")
    ]


def test_schedules_are_those_of_the_suites() -> None:
    """PASS on CIFAR-100: by epochs, and the file of its release that the suite names; CMI's own on CIFAR-10."""
    paper = pages()["methods/pass.md"].partition("### paper")[2].partition("###")[0]
    (line,) = [line for line in paper.splitlines() if "`necil_cifar100`" in line]
    (note,) = re.findall(r"\[(\d+)\] \|$", line)
    assert "| 101 epochs |" in line and f"\n{note}. PASS main.py" in paper
    paper = pages()["methods/cmi.md"].partition("### paper")[2].partition("###")[0]
    (line,) = [line for line in paper.splitlines() if "`kd_cifar10`" in line]
    assert "| 200 | 0 | 200 | 400 | 256 | 128 |" in line


def test_the_source_of_a_budget_is_its_comment() -> None:
    kd, dfq, necil = (SUITES / f"{name}.yaml" for name in ("kd", "dfq_cifar10", "necil_cifar100"))
    assert source_of(kd, "small", "cmi") == "two views: as many seconds as 150 steps of rgal"
    assert source_of(dfq, "paper").endswith("Qimera run_cifar10_4bit.sh, IntraQ cifar10_resnet20.hocon")
    assert source_of(necil, "paper", "joint").startswith("unknown: ABD's oracle")
    assert source_of(necil, "paper", "nothing") == ""
    extending = SUITES / "ablation.yaml"
    assert source_of(extending, "small", "cmi") == source_of(kd, "small", "cmi")


def test_results_are_those_of_the_records() -> None:
    """The digits at five seeds: mean, deviation and verdict as the study's own page has them."""
    page = next(one.page for one in measured() if one.page.stem == "digits_distillation").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| deepinversion ") and "±" in line][:1]
    text = measured_text("deepinversion", "../")
    assert row.split("|")[2].strip() in text and "results/digits_distillation.md" in text
    group = next(one.group for one in measured() if one.page.stem == "digits_distillation")
    assert verdict_lines(group)[0] in text
    assert measured_text("dafl", "../") == NOT_YET


def test_published_numbers_have_their_source() -> None:
    text = published_text("cmi")
    assert "| cifar10 | wrn40_2 → wrn16_1 |  | `cmi` | 90.01 | 94.87 | [" in text
    assert re.search(r"^\d+\. README of github\.com/zju-vipa/CMI", text, flags=re.MULTILINE)
    cited = {int(number) for number in re.findall(r"\| \[(\d+)\] \|", text)}
    assert cited == set(map(int, re.findall(r"^(\d+)\. ", text, flags=re.MULTILINE)))
    assert published_text("naive") == NONE


def test_suites_are_all_on_their_page() -> None:
    page = pages()["reference/suites.md"]
    assert len(suites()) > 20 and not [path for path in suites() if f"\n## {path.stem}\n" not in page]
