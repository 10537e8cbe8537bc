"""Cores that are granted: affinity, quotas of control groups of both versions, SLURM; threads that are wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rgal.core.cores import computes_bf16, granted_cores, sums_bytes_exactly, wanted_threads

AFFINITY = 64


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(AFFINITY)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with /proc/self/cgroup and files below /sys/fs/cgroup."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


VERSION_1 = "5:memory:/a\n4:cpu,cpuacct:/docker/abc\n0::/\n"
QUOTAS = {
    "no limit": ("0::/\n", {"cpu.max": "max 100000"}, AFFINITY),
    "two cores": ("0::/\n", {"cpu.max": "200000 100000"}, 2),
    "one and a half": ("0::/\n", {"cpu.max": "150000 100000"}, 1),
    "half a core": ("0::/\n", {"cpu.max": "50000 100000"}, 1),
    "more than there are": ("0::/\n", {"cpu.max": "99900000 100000"}, AFFINITY),
    "of the group": ("0::/user/job\n", {"user/job/cpu.max": "300000 100000"}, 3),
    "of a group above": (
        "0::/user/job\n",
        {"user/job/cpu.max": "800000 100000", "user/cpu.max": "500000 100000"},
        5,
    ),
    "path of the host": ("0::/docker/abc\n", {"cpu.max": "400000 100000"}, 4),
    "path above the container": ("0::/../other\n", {"cpu.max": "400000 100000"}, AFFINITY),
    "version 1": (
        VERSION_1,
        {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "600000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
        6,
    ),
    "version 1 in a container": (
        VERSION_1, {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}, 7,
    ),
    "version 1 without a limit": (
        VERSION_1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, AFFINITY,
    ),
    "both versions": (
        VERSION_1,
        {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000", "unified/cpu.max": "max 100000"},
        7,
    ),
    "damaged": ("nonsense\n0::/\n", {"cpu.max": "many"}, AFFINITY),
    "period of nothing": ("0::/\n", {"cpu.max": "100000 0"}, AFFINITY),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_of_the_control_group(name: str, tmp_path: Path) -> None:
    groups, files, expected = QUOTAS[name]
    assert granted_cores(machine(tmp_path, groups, files), {}) == expected


def test_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert granted_cores(tmp_path, {}) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert granted_cores(tmp_path, {}) == 128
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert granted_cores(tmp_path, {}) == 1


@pytest.mark.parametrize(
    ("text", "expected"), [("4", 4), ("999", AFFINITY), ("", AFFINITY), ("0", AFFINITY), ("many", AFFINITY)]
)
def test_slurm(text: str, expected: int, tmp_path: Path) -> None:
    assert granted_cores(tmp_path, {"SLURM_CPUS_PER_TASK": text}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", 4), (" 2 ", 2), ("4,2", 4), ("", None), ("0", None), ("-1", None), ("x", None)],
)
def test_threads_of_openmp(text: str, expected: int | None) -> None:
    assert wanted_threads({"OMP_NUM_THREADS": text}) == expected


def test_nothing_is_said() -> None:
    assert wanted_threads({}) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16x", False),
        ("model name\t: a bf16 avx512_bf16 machine", False),
    ],
)
def test_the_processor_is_asked_for_bf16(tmp_path: Path, line: str, expected: bool) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert computes_bf16(tmp_path) is expected


def test_a_system_that_does_not_list_what_its_processor_can_do_has_no_bf16(tmp_path: Path) -> None:
    assert not computes_bf16(tmp_path)


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("flags\t\t: fpu avx2", "x86_64", False),
        ("flags\t\t: fpu avx2", "AMD64", False),
        ("flags\t\t: fpu avx2 avx_vnni", "x86_64", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", "x86_64", True),
        ("Features\t: fp asimd", "aarch64", True),
    ],
)
def test_sums_of_bytes_overflow_on_x86_without_vnni(
    tmp_path: Path, flags: str, machine: str, expected: bool
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert sums_bytes_exactly(tmp_path, machine) is expected
    assert sums_bytes_exactly(tmp_path / "nothing", machine)
