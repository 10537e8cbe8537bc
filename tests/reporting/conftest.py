"""What tests of reporting share: results and curves of distillation, and drawings that cost little.

Tests of other tasks' results put those in the place of these, in their file.
"""

from __future__ import annotations

import pandas as pd
import pytest

from tests.helpers.reporting_builders import count_drawings, draw_svg_alone, some_curves, some_results

# Frames of ten rows: each look at a column of Arrow's strings costs more than all strings of Python would.
pd.options.mode.string_storage = "python"

results = pytest.fixture(some_results)
curves = pytest.fixture(some_curves)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats of the files that would be drawn; a file holds a number that tells which it is."""
    return count_drawings(monkeypatch)


svg_alone = pytest.fixture(draw_svg_alone)
