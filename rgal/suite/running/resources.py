"""How many trials run at a time, and with how many threads each."""

from __future__ import annotations

from dataclasses import dataclass

from rgal.core.cores import granted_cores, wanted_threads
from rgal.core.errors import UserError

BIG_IMAGE = 24 * 24  # pixels from which a convolution is worth a second thread


@dataclass(frozen=True)
class HowToRun:
    """What the user says about running a plan on this machine.

    Attributes:
        slots: trials at a time. 0: one after the other in this process; None: what the cores are enough for.
        threads: threads of each trial; None: OMP_NUM_THREADS if it is set, else the cores shared out among the slots.
        tensorboard: whether to write event files too.
        fresh: whether to run finished trials again.
    """

    slots: int | None = None
    threads: int | None = None
    tensorboard: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 0:
            raise UserError(f"--jobs {self.slots}: expected 0 or more")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads {self.threads}: expected 1 or more")


def share_cores(how: HowToRun, device: str, jobs: int) -> tuple[int, int]:
    """Share the granted cores out among jobs: (jobs at a time, threads of each), both at least 1.

    On a CPU, several small jobs with a thread each beat one with several threads; a GPU runs one job at a time.
    """
    cores, threads = granted_cores(), how.threads or wanted_threads()
    slots = how.slots
    if slots is None:
        slots = 1 if device.startswith("cuda") else min(cores // (threads or 1), jobs)
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
