"""How many trials run at a time, and with how many threads each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rgal.core.cores import granted_cores, wanted_threads
from rgal.core.errors import UserError, nearest
from rgal.suite.running.devices import MOST_PER_DEVICE

ENGINES = ("local", "ray")
BIG_IMAGE = 24 * 24  # pixels from which a convolution is worth a second thread


@dataclass(frozen=True)
class HowToRun:
    """What the user says about running a plan on this machine.

    Attributes:
        slots: trials at a time. 0: one after the other in this process; None: what the cores are enough for.
        threads: threads of each trial; None: OMP_NUM_THREADS if it is set, else the cores shared out among the slots.
        trackers: what is told of every trial's numbers too; see `rgal.suite.tracking`.
        fresh: whether to run finished trials again.
        devices: numbers of the GPUs to use, `0,1,3`; None: all that are visible.
        per_device: trials that share a GPU; None: as many as its memory allows.
        engine: "local", or "ray": a cluster.
        address: where that cluster is; auto: the one that this machine is a part of.
    """

    slots: int | None = None
    threads: int | None = None
    trackers: Sequence[str] = ()
    fresh: bool = False
    devices: str | None = None
    per_device: int | None = None
    engine: str = "local"
    address: str = "auto"

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 0:
            raise UserError(f"--jobs {self.slots}: expected 0 or more")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads {self.threads}: expected 1 or more")
        if self.per_device is not None and self.per_device < 1:
            raise UserError(f"--per-device {self.per_device}: expected 1 or more")
        if self.engine not in ENGINES:
            raise UserError(f"--engine {self.engine}: {nearest(self.engine, ENGINES)}")
        if self.engine == "ray" and (self.slots == 0 or self.devices is not None):
            wrong = f"--devices {self.devices}" if self.devices is not None else "--jobs 0"
            raise UserError(f"{wrong}: on this machine alone, not with --engine ray")

    def check_sharing(self, device: str) -> None:
        """Raise UserError if trials are to share GPUs, and the device is none."""
        if self.per_device is not None and not device.startswith("cuda"):
            raise UserError(
                f"--per-device {self.per_device}: trials share GPUs, and the device is {device}; --jobs N"
            )


def share_cores(how: HowToRun, devices: Sequence[str], jobs: int) -> tuple[int, int]:
    """Share the granted cores out among jobs: (jobs at a time, threads of each), both at least 1.

    On a CPU, several small jobs with a thread each beat one with several threads. A job on a GPU keeps a core busy.

    Args:
        how: what the user says.
        devices: what the jobs are spread over.
        jobs: how many there are.

    Raises:
        UserError: jobs are to share a GPU where there is none.
    """
    cores, threads = granted_cores(), how.threads or wanted_threads()
    slots = how.slots
    how.check_sharing(devices[0])
    if devices[0].startswith("cuda"):
        most = len(devices) * (how.per_device or MOST_PER_DEVICE)
        if slots is None:
            slots = min(most if how.per_device else max(len(devices), min(most, cores)), jobs)
    elif slots is None:
        slots = min(cores // (threads or 1), jobs)
    slots = max(1, slots)
    return slots, threads or max(1, cores // slots)


def share_cores_of_teachers(how: HowToRun, slots: int, teachers: int, pixels: int) -> tuple[int, int]:
    """The same for the training of teachers. One thread for small images, however many there are to have.

    Args:
        how: what the user says.
        slots: trials at a time.
        teachers: how many are to be trained.
        pixels: of an image.
    """
    at_once = max(1, min(slots, teachers))
    threads = how.threads or wanted_threads() or max(1, granted_cores() // at_once)
    return at_once, threads if pixels >= BIG_IMAGE else 1
