"""Examples in docstrings are run, as `pytest --doctest-modules rgal` would run them."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import rgal

FEWEST = 69  # docstrings with examples; raise it when you add some


def modules_with_examples() -> list[str]:
    """Names of rgal's modules in which `>>>` occurs. Each is found once: the folders behind links are rgal's too."""
    names = ["rgal", *(info.name for info in pkgutil.walk_packages(rgal.__path__, "rgal."))]
    specs = [spec for name in names if (spec := importlib.util.find_spec(name)) and spec.origin]
    return [spec.name for spec in specs if ">>> " in Path(str(spec.origin)).read_text(encoding="utf-8")]


MODULES = modules_with_examples()


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted and not outcome.failed


def test_public_functions_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(bool(test.examples) for test in tests) >= FEWEST
