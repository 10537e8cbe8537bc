"""Stand-ins for libraries while modules of rgal are imported."""

from __future__ import annotations

import builtins
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rgal.analysis
from rgal.core.stand_ins import StandIn, stand_ins

SOURCE = """
from __future__ import annotations
import json
import wave.deep as deep
from wave import Base, decorate, nested
from wave.shapes import Shape

Either = Shape | None
Other = None | Shape
LIMIT = nested.constant
Listed = nested.Box[int]

class Made(Base):
    size = 3

    @decorate
    def half(self):
        return self.size / 2

    @decorate(deep=True)
    def twice(self):
        return self.size * 2
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A module of rgal that imports a library which is not there."""
    (tmp_path / "declares.py").write_text(SOURCE)
    monkeypatch.setattr(rgal.analysis, "__path__", [*rgal.analysis.__path__, str(tmp_path)])
    yield "rgal.analysis.declares"
    sys.modules.pop("rgal.analysis.declares", None)


def test_a_module_is_imported_without_its_library_and_keeps_what_it_declares(module: str) -> None:
    with stand_ins("wave"):
        imported = importlib.import_module(module)
        assert imported.json is json
        assert imported.Made().twice() == 6
        assert isinstance(imported.Made.half, StandIn) and issubclass(imported.Made, StandIn)
        assert imported.LIMIT is StandIn


def test_behind_the_block_the_module_is_forgotten_and_imports_are_ordinary(module: str) -> None:
    ordinary = builtins.__import__
    with stand_ins("wave"):
        importlib.import_module(module)
        assert hasattr(rgal.analysis, "declares")
    assert builtins.__import__ is ordinary
    assert module not in sys.modules and not hasattr(rgal.analysis, "declares")
    with pytest.raises(ImportError):
        importlib.import_module(module)


def test_an_error_in_the_block_leaves_imports_ordinary() -> None:
    ordinary = builtins.__import__
    with pytest.raises(ZeroDivisionError), stand_ins("wave"):
        raise ZeroDivisionError
    assert builtins.__import__ is ordinary


def test_a_library_that_is_loaded_and_one_that_is_not_named_stay_themselves(module: str) -> None:
    with stand_ins("json"), pytest.raises(ImportError, match="wave"):
        importlib.import_module(module)


def test_only_the_named_attributes_of_python_are_missing() -> None:
    assert StandIn.anything.at_all is StandIn
    assert not hasattr(StandIn, "__wrapped__")


@pytest.mark.slow
def test_a_process_that_listed_can_compute_afterwards() -> None:
    """Methods, tasks and networks are the real ones again, registries included."""
    code = """
from rgal import cli
for what in cli.LISTS:
    cli.listing(what)
import torch
from rgal import nets
from rgal.methods.registry import resolve
from rgal.suite.task import tasks
recipe = resolve("cmi+rgal").recipe
assert isinstance(nets.build("wrn16_1", 10), torch.nn.Module)
assert recipe.rounds.count == 200 and len(recipe.synthesis) == 5
print(sorted(tasks()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['dfq', 'kd', 'necil']\n", done.stderr
