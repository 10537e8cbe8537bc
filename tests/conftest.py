"""Small worlds for tests: an image domain, a teacher that never saw data, a student, seeded streams."""

from __future__ import annotations

import os

import pytest

# Before torch is imported: see run_suite.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import torch
from torch import nn

from rgal.core.errors import UserError
from rgal.core.precision import reproducible
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.methods.plugins import load_plugins
from tests.helpers import small

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


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what a run does: drawing its plots is two thirds of a smoke run, and tests/reporting draws them."""
    monkeypatch.setattr("rgal.reporting.report.write_plots", lambda *_: [])
