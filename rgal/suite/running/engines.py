"""Engines that run jobs on this machine: a process a job, or all in this process.

Workers are forked from a server that has torch loaded already (0.1 s a job instead of several). They ignore Ctrl-C and
hang-ups, which the terminal sends to everybody, and stop on SIGTERM from the runner, after the step they are in.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch

from rgal.core.ending import stop_signals
from rgal.suite.running.drive import ProgressMessage
from rgal.suite.running.jobs import Outcome
from rgal.suite.running.scheduler import Assignment, Died, Report
from rgal.suite.running.work import perform

# Loaded once by the server and shared by all workers: what trials import, and is slow to import.
PRELOAD = (
    "torch",
    "rgal.suite.running.work",
    "rgal.analysis.grids",
    "kornia.geometry.transform",
)
# Torch imports its compiler at the first optimiser step: two seconds a trial. It asks for devices when it does, and
# whoever asked CUDA must not fork.
PRELOAD_ON_CPU = ("torch._dynamo",)


@dataclass
class _Worker:
    assignment: Assignment
    process: Any
    pipe: Connection


def _child(assignment: Assignment, pipe: Connection) -> None:
    """Do one job in this process, which exists for it alone."""
    import torch

    torch.set_num_threads(assignment.threads)
    stopping = False

    def on_terminate(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in stop_signals():  # the terminal sends these to everybody; the runner alone decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)

    def report(message: ProgressMessage) -> None:
        try:
            pipe.send(message)
        except (BrokenPipeError, ConnectionError):
            os._exit(1)  # the runner was killed: leave the trial as its last checkpoint has it

    outcome = perform(assignment.job, assignment.claim, report, lambda: stopping)
    pipe.send(outcome)


class Processes:
    """One process a job: isolation, and a clean stop."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [*PRELOAD, *(() if torch.cuda.is_available() else PRELOAD_ON_CPU)]
        )
        self._workers: list[_Worker] = []

    def start(self, assignment: Assignment) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(assignment, theirs), daemon=False)
        process.start()
        theirs.close()
        self._workers.append(_Worker(assignment, process, ours))

    def wait(
        self, seconds: float, report: Report, stopping: Callable[[], int]
    ) -> list[tuple[Assignment, Outcome | Died]]:
        ready = wait([worker.pipe for worker in self._workers], timeout=seconds) if self._workers else []
        ended: list[tuple[Assignment, Outcome | Died]] = []
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            how: Outcome | Died
            try:
                message = worker.pipe.recv()
                if isinstance(message, ProgressMessage):
                    report(worker.assignment.job, message)
                    continue
                worker.process.join()
                how = message
            except EOFError:
                worker.process.join()
                how = Died(_cause(worker.process.exitcode))
            self._workers.remove(worker)
            ended.append((worker.assignment, how))
        return ended

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()

    close = stop


def _cause(code: int | None) -> str:
    """Say what an exit code of a process that ended without a word tells.

    >>> _cause(-11), _cause(3)
    ('by SIGSEGV: a crash of native code', 'with exit code 3')
    """
    if code is None or code >= 0:
        return f"with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    hints = {"SIGKILL": ": out of memory?", "SIGTERM": "", "SIGHUP": ""}
    return f"by {name}{hints.get(name, ': a crash of native code')}"


class InThisProcess:
    """One job after the other in this process: for debuggers and tests. Ctrl-C stops cleanly here too.

    Args:
        threads: torch's threads meanwhile; None leaves them as they are.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._next: list[Assignment] = []

    def start(self, assignment: Assignment) -> None:
        self._next.append(assignment)

    def wait(
        self, seconds: float, report: Report, stopping: Callable[[], int]
    ) -> list[tuple[Assignment, Outcome | Died]]:
        ended: list[tuple[Assignment, Outcome | Died]] = []
        with _threads(self._threads):
            while self._next:
                one = self._next.pop(0)
                outcome = perform(one.job, one.claim, partial(report, one.job), lambda: bool(stopping()))
                ended.append((one, outcome))
        return ended

    def stop(self) -> None:
        """Nothing runs while nobody waits."""

    def close(self) -> None:
        for assignment in self._next:
            assignment.claim.release()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
