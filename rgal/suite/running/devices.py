"""Devices: which there are, which are used, and how many trials share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from rgal.core.errors import UserError
from rgal.suite.running.drive import Memory
from rgal.suite.running.jobs import TrialJob, WorkJob

MOST_PER_DEVICE = (
    5  # trials that share a GPU unless the user says how many: what more would gain was not measured
)
USABLE = 0.9  # share of a GPU's memory that is planned with


def choose_device(text: str) -> str:
    """auto | cpu | cuda | cuda:n -> a device that exists. UserError otherwise."""
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not _is_number(index)) or (kind == "cpu" and index):
        raise UserError(f"device '{text}': expected auto, cpu, cuda or cuda:n")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= count:
        raise UserError(f"device '{text}': this machine has {count} CUDA devices; try --device cpu")
    return text


def chosen_devices(device: str, numbers: str | None) -> tuple[str, ...]:
    """List the devices that trials are spread over: `cuda` stands for all GPUs that are visible.

    Args:
        device: that of the plan.
        numbers: which GPUs, as the user says: `0,1,3`; None: those of `device`.

    Raises:
        UserError: the numbers are none, or there are no such GPUs.
    """
    if numbers is None:
        return all_devices(device)
    if device != "cuda":
        raise UserError(
            f"--devices {numbers}: numbers of GPUs, and the device is {device}; give --device cuda"
        )
    wanted = [text.strip() for text in numbers.split(",")]
    count = torch.cuda.device_count()
    for text in wanted:
        if not _is_number(text) or int(text) >= count:
            raise UserError(
                f"--devices {numbers}: '{text[:20]}': expected numbers from 0 to {count - 1}, as in 0,1"
            )
    return tuple(dict.fromkeys(f"cuda:{int(text)}" for text in wanted))


def all_devices(device: str) -> tuple[str, ...]:
    """List the devices that a name stands for."""
    if device != "cuda":
        return (device,)
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 5


@dataclass
class _Device:
    name: str
    running: list[str] = field(default_factory=list)  # kinds of the jobs
    most: int = MOST_PER_DEVICE
    total: int = 0  # bytes; 0: not known yet


class Places:
    """Give devices to jobs.

    A CPU takes as many as run at a time. A GPU takes `per_device` jobs; where the user says nothing it takes one, until
    it is known from those that run what memory a job needs, and then as many as fit.

    Args:
        devices: their names.
        at_once: how many jobs run at a time, on all of them.
        per_device: how many share a GPU; None: as many as its memory allows.
    """

    def __init__(self, devices: Sequence[str], at_once: int, per_device: int | None = None) -> None:
        self.at_once, self.per_device = at_once, per_device
        self._devices = {name: _Device(name, most=per_device or MOST_PER_DEVICE) for name in devices}
        self._needs: dict[str, int] = {}  # bytes, by kind of job

    def take(self, job: WorkJob) -> str | None:
        """Return the device that a job is to run on, the one with the fewest; None: there is no room now."""
        if sum(len(device.running) for device in self._devices.values()) >= self.at_once:
            return None
        open_ = [device for device in self._devices.values() if self._has_room(device, job)]
        if not open_:
            return None
        device = min(open_, key=lambda one: len(one.running))
        device.running.append(kind_of(job))
        return device.name

    def give(self, job: WorkJob, device: str) -> bool:
        """Take a job off its device. Return whether others shared the device with it."""
        running = self._devices[device].running
        running.remove(kind_of(job))
        return bool(running)

    def learn(self, job: WorkJob, memory: Memory) -> None:
        """Note what memory a running job has needed so far, and how much its device has."""
        device, kind = self._devices[job.trial.device], kind_of(job)
        device.total = memory.total
        self._needs[kind] = max(memory.needed, self._needs.get(kind, 0))

    def crowded(self, device: str) -> None:
        """Note that the memory of a device was not enough for those that shared it: one fewer from now on."""
        self._devices[device].most = max(1, len(self._devices[device].running))

    def _has_room(self, device: _Device, job: WorkJob) -> bool:
        if not device.name.startswith("cuda"):
            return True
        if not device.running:
            return True
        if len(device.running) >= device.most:
            return False
        if self.per_device is not None:
            return True
        if not device.total or any(kind not in self._needs for kind in device.running):
            return False
        needs = sum(self._needs[kind] for kind in device.running) + self._expected(kind_of(job))
        return needs <= USABLE * device.total

    def _expected(self, kind: str) -> int:
        """What a job of a kind will need: what others of the kind did, or else the most that any did."""
        return self._needs.get(kind, max(self._needs.values()))


def kind_of(job: WorkJob) -> str:
    """Tell jobs apart that need different memory: trials by their networks and method."""
    trial = job.trial
    method = trial.method if isinstance(job, TrialJob) else ""
    return f"{type(job).__name__} {trial.teacher} {trial.student} {method}"
