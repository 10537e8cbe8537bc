"""Where a plan runs: on this machine or on a cluster. A site knows devices, cores and an engine; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

from rgal.core.errors import UserError
from rgal.suite.running.devices import Places, choose_device, chosen_devices
from rgal.suite.running.engines import InThisProcess, Processes
from rgal.suite.running.resources import HowToRun, share_cores, share_cores_of_teachers
from rgal.suite.running.runner import Plan
from rgal.suite.running.scheduler import Engine
from rgal.suite.store.folders import Store


class Site(Protocol):
    """What is asked of a place where jobs run."""

    def choose_device(self, text: str) -> str:
        """auto | cpu | cuda | cuda:n -> a device that exists there. UserError otherwise."""
        ...

    def prepare(self, plan: Plan, store: Store) -> None:
        """Check that a plan can run there. UserError otherwise."""
        ...

    def share(self, jobs: int) -> tuple[int, int]:
        """Return how many of so many jobs run at a time, and with how many threads each."""
        ...

    def share_of_teachers(self, slots: int, teachers: int, pixels: int) -> tuple[int, int]:
        """Return the same for the training of teachers on images of so many pixels; slots: trials at a time."""
        ...

    def places(self, at_once: int) -> Places: ...

    def engine(self) -> Engine: ...


class ThisMachine:
    """This machine, its cores and its GPUs."""

    def __init__(self, how: HowToRun) -> None:
        self.how = how
        self.devices: tuple[str, ...] = ("cpu",)

    def choose_device(self, text: str) -> str:
        return choose_device(text)

    def prepare(self, plan: Plan, store: Store) -> None:
        self.devices = chosen_devices(plan.device, self.how.devices)

    def share(self, jobs: int) -> tuple[int, int]:
        return share_cores(self.how, self.devices, jobs)

    def share_of_teachers(self, slots: int, teachers: int, pixels: int) -> tuple[int, int]:
        return share_cores_of_teachers(self.how, slots, teachers, pixels)

    def places(self, at_once: int) -> Places:
        return Places(self.devices, at_once, self.how.per_device)

    def engine(self) -> Engine:
        return InThisProcess(self.how.threads) if self.how.slots == 0 else Processes()


@contextmanager
def opened_site(how: HowToRun) -> Iterator[Site]:
    """Provide the site that the user chose; a cluster is connected to during the block.

    Raises:
        UserError: there is no such engine, it is not installed, or no cluster answers.
    """
    if how.engine == "local":
        yield ThisMachine(how)
        return
    if find_spec("ray") is None:
        raise UserError("--engine ray: not installed: ray; pip install 'rgal[ray]'")
    from rgal.suite.running.ray_cluster import connected

    with connected(how) as cluster:
        yield cluster
