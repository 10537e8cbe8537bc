"""One process per job: isolation, retry when killed, a clean stop.

Workers are forked from a server that has torch loaded already (0.1 s a job instead of several). They ignore Ctrl-C and
hang-ups, which the terminal sends to everybody, and stop on SIGTERM from the runner, after the step they are in.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch

from rgal.core.ending import handling, stop_signals
from rgal.suite.running.drive import ProgressMessage
from rgal.suite.running.work import Outcome, WorkJob, perform, record_failure

ATTEMPTS = 3
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
    job: WorkJob
    process: Any
    pipe: Connection
    attempt: int


def _child(job: WorkJob, threads: int, pipe: Connection) -> None:
    """Do one job in this process, which exists for it alone."""
    import torch

    torch.set_num_threads(threads)
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

    outcome = perform(job, report, lambda: stopping)
    pipe.send(outcome)


def run_jobs(
    jobs: Iterable[WorkJob],
    slots: int,
    threads: int,
    on_report: Callable[[WorkJob, ProgressMessage], None],
    on_outcome: Callable[[WorkJob, Outcome], None],
) -> int:
    """Run each job in a process of its own.

    Args:
        jobs: what to run, in this order.
        slots: how many run at a time.
        threads: torch's threads in each.
        on_report, on_outcome: told of progress and of how each job ended.

    Returns:
        0 if all were run, else the signal that stopped them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, *(() if torch.cuda.is_available() else PRELOAD_ON_CPU)])
    waiting: list[tuple[WorkJob, int]] = [(job, 1) for job in jobs]
    running: list[_Worker] = []
    told = False
    with _stop_signals() as stopping:
        try:
            while running or (waiting and not stopping()):
                while waiting and len(running) < slots and not stopping():
                    job, attempt = waiting.pop(0)
                    running.append(_start(context, job, threads, attempt))
                if stopping() and not told:
                    told = True
                    for worker in running:
                        worker.process.terminate()
                for worker in _serve(running, on_report, on_outcome, waiting, bool(stopping())):
                    running.remove(worker)
        finally:
            for worker in running:
                worker.process.terminate()
        return stopping()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], int]]:
    """Stop signals only set what the yielded function tells: the first that arrived, or 0."""
    arrived = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = arrived or number

    with handling(on_signal, stop_signals()):
        yield lambda: arrived


def _start(context: Any, job: WorkJob, threads: int, attempt: int) -> _Worker:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(job, threads, theirs), daemon=False)
    process.start()
    theirs.close()
    return _Worker(job, process, ours, attempt)


def _serve(
    running: list[_Worker],
    on_report: Callable[[WorkJob, ProgressMessage], None],
    on_outcome: Callable[[WorkJob, Outcome], None],
    waiting: list[tuple[WorkJob, int]],
    stopping: bool,
) -> list[_Worker]:
    """Handle what the workers sent within half a second; the workers that ended."""
    ended = []
    ready = wait([worker.pipe for worker in running], timeout=0.5) if running else []
    for worker in running:
        if worker.pipe not in ready:
            continue
        try:
            message = worker.pipe.recv()
        except EOFError:
            worker.process.join()
            ended.append(worker)
            _died(worker, on_outcome, waiting, stopping)
            continue
        if isinstance(message, ProgressMessage):
            on_report(worker.job, message)
        else:
            worker.process.join()
            ended.append(worker)
            on_outcome(worker.job, message)
    return ended


def _died(
    worker: _Worker,
    on_outcome: Callable[[WorkJob, Outcome], None],
    waiting: list[tuple[WorkJob, int]],
    stopping: bool,
) -> None:
    """A worker ended without a word: killed. Its job goes on from its last checkpoint, a few times."""
    code = worker.process.exitcode
    if stopping:
        on_outcome(worker.job, Outcome("interrupted"))
    elif worker.attempt < ATTEMPTS:
        time.sleep(0.2)
        waiting.insert(0, (worker.job, worker.attempt + 1))
    else:
        outcome = Outcome("failed", f"its process ended {ATTEMPTS} times, last {_cause(code)}", "trial")
        record_failure(worker.job, outcome)  # which the process had no time for
        on_outcome(worker.job, outcome)


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


def run_inline(
    jobs: Iterable[WorkJob],
    on_report: Callable[[WorkJob, ProgressMessage], None],
    on_outcome: Callable[[WorkJob, Outcome], None],
    threads: int | None = None,
) -> int:
    """Run the jobs in this process, one after the other: for debuggers and tests. Ctrl-C stops cleanly here too.

    Args:
        jobs: what to run.
        on_report, on_outcome: told of progress and of how each job ended.
        threads: torch's threads meanwhile; None leaves them as they are.

    Returns:
        0 if all were run, else the signal that stopped them.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with _stop_signals() as stopping:
            for job in jobs:
                report = partial(on_report, job)
                on_outcome(job, perform(job, report, lambda: bool(stopping())))
                if stopping():
                    break
        return stopping()
    finally:
        if threads is not None:
            torch.set_num_threads(before)
