"""What tests of data share."""

from __future__ import annotations

import pytest

from tests.helpers.data_builders import no_shared_cache

_no_shared_cache = pytest.fixture(autouse=True)(no_shared_cache)
