"""The reference has every public name, every module of the public rooms, every column and every option."""

from __future__ import annotations

import argparse

import rgal
from rgal import cli
from rgal.core.modules import modules_in
from rgal.reporting.site.markdown import ROOMS, file_of, sentence
from rgal.reporting.site.reference import public_names
from rgal.suite.task import measures_of, tasks
from tests.helpers.documents import ROOT
from tests.helpers.site import pages


def test_every_public_name_is_in_the_reference() -> None:
    shown = pages()["reference/python.md"].splitlines()
    assert set(rgal.__all__) <= {name.partition(".")[2] for name in public_names()}
    assert len(public_names()) > 12 and not [name for name in public_names() if f"::: {name}" not in shown]


def test_every_module_of_a_public_room_is_in_the_reference() -> None:
    for room in ROOMS:
        shown = pages()[f"reference/parts/{room}.md"].splitlines()
        missing = [one.__name__ for one in modules_in(f"rgal.{room}") if f"::: {one.__name__}" not in shown]
        assert not missing, missing


def test_every_column_is_in_the_reference() -> None:
    page = pages()["reference/columns.md"]
    assert not [
        m.title for task in tasks() for m in measures_of(task) if m.heading and f"| {m.title} |" not in page
    ]


def test_every_option_is_in_the_reference() -> None:
    page = pages()["reference/names.md"]
    shown = [action for action in cli.parser()._actions if action.help != argparse.SUPPRESS]
    options = [name for action in shown for name in action.option_strings]
    assert len(options) > 30 and not [name for name in options if name not in page]


def test_a_sentence_ends_at_its_stop_and_at_no_abbreviation() -> None:
    text = "Distil as Hinton et al. (2015), by `f`.\nThen more.\n\nArgs: x."
    assert sentence(text) == "Distil as Hinton et al. (2015), by `f`"
    assert sentence("Weigh by 0.5. And more.") == "Weigh by 0.5"
    assert (ROOT / file_of("rgal.tasks.distillation")).is_file() and (ROOT / file_of("rgal.tasks")).is_file()
