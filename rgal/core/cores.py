"""What this machine's processor grants: cores, threads that the user wants, bfloat16, exact sums of 8-bit products."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path


def granted_cores(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Count the cores that this process may use, which on a shared machine are fewer than it has.

    It is the smallest of: the cores that the scheduler lets it run on (taskset, cpuset), the processor time that its
    control groups grant (containers, systemd), and SLURM_CPUS_PER_TASK. A quota of one and a half cores counts as
    one: two busy threads would be stopped for a part of every period.

    Args:
        root: where the file systems `proc` and `sys` are mounted; tests give a folder.
        environment: environment variables.

    Returns:
        At least 1.
    """
    limits = [_schedulable_cores(), *map(int, _quotas(root))]
    if cores := _whole_number(environment.get("SLURM_CPUS_PER_TASK", "")):
        limits.append(cores)
    return max(1, min(limits))


def wanted_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Read OMP_NUM_THREADS: the threads that the user wants each process to have; None if it says nothing usable."""
    outermost = environment.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2": of nested parallel regions
    return _whole_number(outermost)


def computes_bf16(root: Path = Path("/")) -> bool:
    """Tell whether the processor has instructions for bfloat16. Without them torch is about ten times slower in it.

    Where the system does not list what its processor can do, as on macOS and Windows, the answer is no.

    Args:
        root: where the file system `proc` is mounted; tests give a folder.
    """
    return bool(_features(root) & {"avx512_bf16", "amx_bf16", "bf16"})


def sums_bytes_exactly(root: Path = Path("/"), machine: str = platform.machine()) -> bool:
    """Tell whether ONNX Runtime's kernels for 8-bit weights and activations are exact on this processor.

    On x86 processors without VNNI they add pairs of products in 16 bits, which overflow; with weights of 7 bits they
    cannot. Where the system does not list what its processor can do, the answer is yes.

    Args:
        root: where the file system `proc` is mounted; tests give a folder.
        machine: the kind of processor, as `platform.machine` names it.
    """
    features = _features(root)
    return machine.lower() not in ("x86_64", "amd64") or not features or any("vnni" in f for f in features)


def _features(root: Path) -> set[str]:
    """The instructions that the system lists for its processor; none where it lists none."""
    try:
        text = (root / "proc" / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return {
        word for name, _, words in lines if name.strip() in ("flags", "Features") for word in words.split()
    }


def runnable(precision: str, device: str) -> str:
    """Return the precision that trials run in: fp32 in place of bf16 on a CPU without instructions for it.

    Args:
        precision: "fp32" or "bf16", what is asked for.
        device: a device, or its type.
    """
    on_cpu = device.partition(":")[0] == "cpu"
    return "fp32" if precision == "bf16" and on_cpu and not computes_bf16() else precision


def instead_of(asked: str, taken: str) -> str:
    """Say that another precision runs than the one asked for; see `runnable`."""
    return f"this processor has no instructions for {asked}, which would be slower: {taken} instead"


def _whole_number(text: str) -> int | None:
    """The number above 0 that a text holds, or None."""
    text = text.strip()
    return int(text) or None if text.isascii() and text.isdigit() else None


def _schedulable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Read how many cores' worth of processor time each control group above this process grants, where it limits it.

    A group's limit holds for all groups inside it. In a container the path that /proc tells is often the host's, and
    does not exist here; then the limit stands at the top, which every walk upwards reaches.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    for hierarchy, controllers, path in _memberships(root / "proc" / "self" / "cgroup"):
        if hierarchy == "0":
            tops, read = [mounts, mounts / "unified"], _quota_of_version_2
        elif "cpu" in controllers.split(","):
            tops, read = [mounts / controllers, mounts / "cpu"], _quota_of_version_1
        else:
            continue
        for top in tops:
            inner = top / path.lstrip("/")
            for folder in (inner, *(parent for parent in inner.parents if parent.is_relative_to(top))):
                if (quota := read(folder)) is not None:
                    yield quota


def _memberships(file: Path) -> Iterator[tuple[str, str, str]]:
    """(number of the hierarchy, its controllers, path of the group) of this process; version 2 has the number 0."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if ".." not in path.split("/"):  # a group outside of this container's: nothing to be read there
            yield hierarchy, controllers, path


def _quota_of_version_2(folder: Path) -> float | None:
    """`cpu.max` holds "QUOTA PERIOD" in microseconds, QUOTA "max" without a limit."""
    return _ratio(_read(folder / "cpu.max").split())


def _quota_of_version_1(folder: Path) -> float | None:
    """Two files hold the same; the quota is -1 without a limit."""
    return _ratio([_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")])


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _ratio(numbers: list[str]) -> float | None:
    if len(numbers) != 2:
        return None
    quota, period = map(_whole_number, numbers)
    return quota / period if quota and period else None
