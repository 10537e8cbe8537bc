"""What this machine's processor cannot compute, for tests that need it."""

from __future__ import annotations

import pytest

from rgal.core.cores import sums_bytes_exactly

INEXACT = "8-bit kernels of ONNX Runtime overflow on x86 without VNNI"
exact_integers = pytest.mark.skipif(not sums_bytes_exactly(), reason=INEXACT)
