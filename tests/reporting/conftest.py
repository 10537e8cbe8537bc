"""What tests of reporting share: results and curves of distillation. Those of other tasks take the place in a file."""

from __future__ import annotations

import pytest

from tests.helpers.reporting_builders import some_curves, some_results

results = pytest.fixture(some_results)
curves = pytest.fixture(some_curves)
