"""What this machine's processor computes exactly, for tests of exported networks."""

from __future__ import annotations

from rgal.core.cores import sums_bytes_exactly

INEXACT = "8-bit kernels of ONNX Runtime overflow on x86 without VNNI"
EXACT = (
    "w8a8" if sums_bytes_exactly() else "w7a8"
)  # the widest that ONNX Runtime computes as the simulation does
