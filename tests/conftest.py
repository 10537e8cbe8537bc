"""Small worlds for tests: an image domain, a teacher that never saw data, a student, seeded streams."""

from __future__ import annotations

import pytest
from torch import nn

from rgal.problem import Domain, Problem
from rgal.seeding import Streams
from tests import small


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


@pytest.fixture(params=["symmetric", "asymmetric"])
def symmetric(request: pytest.FixtureRequest) -> bool:
    """Of grids."""
    return request.param == "symmetric"
