"""Decides who works on what: the one place that does, whatever engine runs the jobs and however many runners there are.

A runner goes through its jobs in order. It claims what is free and there is a place for, leaves alone what other
runners work on, and looks again from time to time: what they finished is done, what a dead one left is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

from rgal.core.ending import handling, stop_signals
from rgal.suite.running.devices import Places
from rgal.suite.running.drive import ProgressMessage
from rgal.suite.running.jobs import Outcome, WorkJob, done_by_another, on_device
from rgal.suite.running.work import record_failure
from rgal.suite.store.claims import LOOK_SECONDS, Claim, ClaimLost, Claims, Seen

ATTEMPTS = 3


@dataclass(frozen=True)
class Assignment:
    """A job, with the claim and the place it was given.

    Attributes:
        threads: torch's threads.
        attempt: 1, or more if those before died.
    """

    job: WorkJob
    claim: Claim
    threads: int
    attempt: int = 1

    @property
    def device(self) -> str:
        return self.job.trial.device


@dataclass(frozen=True)
class Died:
    """The process of a job ended without a word. cause: `by SIGKILL: out of memory?`"""

    cause: str


Report = Callable[[WorkJob, ProgressMessage], None]


class Engine(Protocol):
    """Where jobs run. An engine decides nothing: it starts what it is given and tells how that ended."""

    def start(self, assignment: Assignment) -> None: ...

    def wait(
        self, seconds: float, report: Report, stopping: Callable[[], int]
    ) -> Sequence[tuple[Assignment, Outcome | Died]]:
        """Handle what jobs send, for about so long. Return those that ended.

        Args:
            seconds: how long at most, if nothing ends.
            report: told of progress.
            stopping: the signal that stops this runner, or 0.
        """
        ...

    def stop(self) -> None:
        """Ask all jobs to stop after the step that they are in, with their state on disk."""
        ...

    def close(self) -> None:
        """Leave nothing running."""
        ...


@dataclass(frozen=True)
class Listener:
    """Who is told. report: of progress; outcome: how each job ended; say: a line for people."""

    report: Report
    outcome: Callable[[WorkJob, Outcome], None]
    say: Callable[[str], None]


@dataclass(frozen=True)
class _Waiting:
    job: WorkJob
    attempt: int = 1


class Scheduler:
    """Run jobs, each once among all runners of a results directory.

    Args:
        claims: of the results directory.
        engine: where jobs run.
        places: how many run at a time, and on which devices.
        threads: torch's threads in each.
        listener: who is told.
    """

    def __init__(
        self, claims: Claims, engine: Engine, places: Places, threads: int, listener: Listener
    ) -> None:
        self.claims, self.engine, self.places, self.threads = claims, engine, places, threads
        self.listener = listener
        self._ready: list[_Waiting] = []
        self._elsewhere: list[_Waiting] = []
        self._running = 0
        self._next_look = 0.0
        self._said = False

    def run(self, jobs: Sequence[WorkJob]) -> int:
        """Return when all jobs are done, by whichever runner: 0, or the signal that stopped this one before."""
        self._ready = [_Waiting(job) for job in jobs]
        told = False
        with stop_signals_heard() as stopping:
            try:
                while self._running or ((self._ready or self._elsewhere) and not stopping()):
                    if not stopping():
                        self._assign()
                    elif not told:
                        told = True
                        self.engine.stop()
                    if not self._running and not self._ready and self._elsewhere:
                        time.sleep(LOOK_SECONDS)
                    ended = self.engine.wait(LOOK_SECONDS, self._report, stopping)
                    for assignment, how in ended:
                        self._handle(assignment, how, bool(stopping()))
            finally:
                self.engine.close()
            return stopping()

    def _report(self, job: WorkJob, message: ProgressMessage) -> None:
        if message.memory:
            self.places.learn(job, message.memory)
        self.listener.report(job, message)

    def _assign(self) -> None:
        """Start what is free, as long as there is a place."""
        standing = self.claims.look()
        if time.monotonic() >= self._next_look:
            self._look_elsewhere(standing)
            self._next_look = time.monotonic() + LOOK_SECONDS
        while self._ready:
            device = self.places.take(self._ready[0].job)
            if device is None:
                return
            waiting = self._ready.pop(0)
            if not self._start(replace(waiting, job=on_device(waiting.job, device)), standing):
                self.places.give(waiting.job, device)
        if self._elsewhere and not self._running and not self._said:
            self._said = True
            owners = {str(seen.owner) for name, seen in standing.items() if name in self._claims_elsewhere()}
            count = len(self._elsewhere)
            self.listener.say(
                f"waiting for {count} job{'s' if count > 1 else ''} of other runners"
                f"{' (' + ', '.join(sorted(owners)[:3]) + ')' if owners else ''}; what a dead one leaves is taken over"
            )

    def _claims_elsewhere(self) -> set[str]:
        return {waiting.job.claim for waiting in self._elsewhere}

    def _look_elsewhere(self, standing: dict[str, Seen]) -> None:
        """Sort what other runners work on: it is done, or free again, or still theirs."""
        free, theirs = [], []
        for waiting in self._elsewhere:
            if outcome := done_by_another(waiting.job):
                self.listener.outcome(waiting.job, outcome)
            elif self.claims.is_free(waiting.job.claim, standing.get(waiting.job.claim, Seen())):
                free.append(waiting)
            else:
                theirs.append(waiting)
        self._ready, self._elsewhere = [*free, *self._ready], theirs

    def _start(self, waiting: _Waiting, standing: dict[str, Seen]) -> bool:
        """Claim a job and start it. Return False if it is another runner's, or done."""
        job = waiting.job
        seen = standing.get(job.claim, Seen())
        claim = None
        if self.claims.is_free(job.claim, seen):
            try:
                claim = self.claims.acquire(job.claim, seen, job.title)
            except OSError as error:
                reason = f"cannot write to {job.root}: {error.strerror or error}"
                self.listener.outcome(job, Outcome("failed", reason, "user"))
                return False
        if outcome := done_by_another(job):
            if claim:
                claim.release()
            self.listener.outcome(job, outcome)
        elif claim is None:
            self._elsewhere.append(waiting)
        else:
            self._running += 1
            self.engine.start(Assignment(job, claim, self.threads, waiting.attempt))
            return True
        return False

    def _handle(self, assignment: Assignment, how: Outcome | Died, stopping: bool) -> None:
        """Take note of how a job ended, or put it back."""
        self._running -= 1
        job, again = assignment.job, _Waiting(assignment.job, assignment.attempt + 1)
        may_try_again = not stopping and assignment.attempt < ATTEMPTS
        shared = self.places.give(job, assignment.device)
        if isinstance(how, Died):
            assignment.claim.release()  # it may have died before it made the claim its own
            if may_try_again:
                self._ready.insert(0, again)
            elif stopping:
                self.listener.outcome(job, Outcome("interrupted"))
            else:
                self._give_up(job, how.cause)
        elif how.status == "elsewhere":
            self._elsewhere.append(replace(again, attempt=assignment.attempt))
        elif how.fault == "memory" and shared and may_try_again:
            self.places.crowded(assignment.device)
            self._ready.insert(0, again)
        else:
            self.listener.outcome(job, how)

    def _give_up(self, job: WorkJob, cause: str) -> None:
        """Record what only the runner knows of a job whose processes all died."""
        outcome = Outcome("failed", f"its process ended {ATTEMPTS} times, last {cause}", "trial")
        if claim := self.claims.try_to_claim(job.claim, job.title):  # else the folder is another's by now
            with suppress(ClaimLost), claim.kept():
                record_failure(job, outcome)
        self.listener.outcome(job, outcome)


@contextmanager
def stop_signals_heard() -> Iterator[Callable[[], int]]:
    """Let stop signals only set what the yielded function tells: the first that arrived, or 0."""
    arrived = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = arrived or number

    with handling(on_signal, stop_signals()):
        yield lambda: arrived
