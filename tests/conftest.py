"""Small worlds for tests: an image domain, a teacher that never saw data, a student, seeded streams."""

from __future__ import annotations

import copy
import functools
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch is imported: see run_suite.py. Tests are small, and one runs on each core: more threads only wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch
from torch import nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.precision import reproducible
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.data import digits, sources
from rgal.methods import registry
from rgal.methods.plugins import load_plugins
from rgal.suite import task
from tests.helpers import small, suites

# Bytecode is kept, whatever the environment says: without, each run rewrites the assertions of all tests (ten seconds a
# worker), and each process that a test starts compiles the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same few examples in every run: a failure can be repeated, and slow machines set no deadline.
hypothesis.settings.register_profile("rgal", derandomize=True, max_examples=30, deadline=None, database=None)
hypothesis.settings.load_profile("rgal")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--plugin", action="append", default=[], metavar="FILE.py",
        help="hold this plug-in's methods to the contracts, instead of ours",
    )  # fmt: skip
    parser.addoption(
        "--device", default="cpu", metavar="DEV",
        help="run the contracts on this device: pytest --device cuda tests/test_contract*.py",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Before tests are collected: contracts are about the methods that are there then."""
    small.DEVICE = torch.device(config.getoption("--device"))
    reproducible(small.DEVICE)
    try:
        load_plugins(config.getoption("--plugin"))
    except UserError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole commands, which take the longest, come first: at the end both cores have something to do.

    Those that start workers follow, side by side: the server that forks these takes seconds to start.
    """
    items.sort(
        key=lambda item: (item.path.parent.name != "tests", item.get_closest_marker("workers") is None)
    )


gc.disable()  # while modules are imported and thousands of tests are collected, nothing becomes garbage


def pytest_collection_finish() -> None:
    """The garbage collector need not walk through these again and again, nor so often through what tests make."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """Frozen modules cannot go at the end, and triton lists what they left of it."""
    gc.unfreeze()


@pytest.fixture
def domain() -> Domain:
    return small.COLOUR


@pytest.fixture
def problem() -> Problem:
    return small.problem()


@pytest.fixture
def student() -> nn.Module:
    return small.student()


@pytest.fixture
def streams() -> Streams:
    return Streams("cpu", "tests")


@pytest.fixture(scope="session", autouse=True)
def digits_are_parsed_once() -> Iterator[None]:
    """Hundreds of small runs read scikit-learn's file three times each."""
    parsed = functools.cache(digits.read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "read", lambda: copy.deepcopy(parsed()))
        yield


@pytest.fixture(scope="session", autouse=True)
def translations_to_onnx_are_parsed_once() -> Iterator[None]:
    """Torch parses its whole library of them in each export: twice the cost of all else in that of a small network."""
    export, module = (
        torch.onnx.export,
        "torch.onnx._internal.exporter._registration",
    )  # private: it may go away

    def prepared(*arguments: Any, **options: Any) -> Any:
        registration = importlib.import_module(module)
        registry = getattr(registration, "ONNXRegistry", None)
        parse = getattr(registry, "from_torchlib", None)
        if parse and not hasattr(parse, "cache_info"):
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(parse)))
        return export(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", prepared)
        yield


@pytest.fixture(scope="session", autouse=True)
def latencies_are_measured_in_a_moment() -> Iterator[None]:
    """Of exported models, which takes three seconds each; no test reads more of them than that they are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rgal.tasks.quantization.onnx_measure._SECONDS", 0.02)
        yield


@pytest.fixture(scope="session", autouse=True)
def reports_are_rendered_here() -> Iterator[None]:
    """However many groups they have: a process takes seconds to start, and tests run on every core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rgal.reporting.making.granted_cores", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def files_need_not_survive_a_loss_of_power() -> Iterator[None]:
    """Those of tests: what a run writes is written out to the disk hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the tables of a run: its plots cost twice as much as all else, and tests/reporting draws them."""
    monkeypatch.setattr("rgal.reporting.group.write_plots", lambda *_: [])


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what a run does and stores: its tables, plots and page cost more than the run."""
    suites.leave_out_the_report(monkeypatch)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not look at the images of a trial: drawing the grid of a small one costs as much as it."""
    monkeypatch.setattr("rgal.analysis.grids.write_grid", lambda *_, **__: None)


@pytest.fixture
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, or loads as a plug-in, is gone after it."""
    registry.methods()  # our own are there
    for module, name in ((registry, "_METHODS"), (sources, "_SOURCES"), (nets, "_ADDED"), (task, "_ADDED")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("rgal_plugin_"):
            del sys.modules[name]
