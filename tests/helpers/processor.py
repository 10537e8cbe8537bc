"""What this machine's processor cannot compute, for tests that need it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

INEXACT = "8-bit kernels of ONNX Runtime overflow on x86 without VNNI"


def sums_integers_exactly() -> bool:
    """ONNX Runtime's 8-bit kernels add pairs of products in 16 bits on x86 processors without VNNI; those overflow."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True


exact_integers = pytest.mark.skipif(not sums_integers_exactly(), reason=INEXACT)
