"""Jobs as tasks of a Ray cluster; one small actor carries progress and the word to stop.

Ray only starts processes where there is room. Claims, attempts and retries are the scheduler's, as on one machine: a
task whose node died is started again by it, and goes on from the last checkpoint in the shared folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError, first_line
from rgal.suite.running.jobs import Outcome, WorkJob
from rgal.suite.running.scheduler import Assignment, Died, Report

PATHS = ("data_root", "init_pool", "calibration")  # of a trial, which every node must see


class Board:
    """The actor: workers tell it how far they are, and hear whether to stop."""

    def __init__(self) -> None:
        self._told: list[tuple[str, Any]] = []
        self._stopping = False

    def tell(self, token: str, message: Any) -> bool:
        """Take a message of the worker with a claim's token; None: it has begun. Return whether it is to stop."""
        self._told.append((token, message))
        return self._stopping

    def take(self) -> list[tuple[str, Any]]:
        """Return the messages since the last call."""
        told, self._told = self._told, []
        return told

    def stop(self) -> None:
        """Let every worker hear with its next message that it is to stop."""
        self._stopping = True


def work(assignment: Assignment, board: Any) -> Outcome:
    """Do one job in this process, which Ray started for it alone."""
    import ray
    import torch

    from rgal.suite.running.work import perform

    token = assignment.claim.owner.token
    if ray.get(board.tell.remote(token, None)):
        return Outcome("interrupted")
    torch.set_num_threads(assignment.threads)
    answers: list[Any] = []
    stopping = False

    def report(message: Any) -> None:
        answers.append(board.tell.remote(token, message))

    def stop() -> bool:
        nonlocal stopping
        if answers:
            ready, answers[:] = ray.wait(answers, num_returns=len(answers), timeout=0)
            try:
                stopping = stopping or any(ray.get(ready))
            except ray.exceptions.RayError:
                os._exit(1)  # the runner is gone: leave the trial as its last checkpoint has it
        return stopping

    return perform(assignment.job, assignment.claim, report, stop)


class RayEngine:
    """Run each job as a task.

    Args:
        cpus, gpus: of a task.
        plugins: where all nodes find the copy of a plug-in's file, by its path here.
    """

    def __init__(self, cpus: int, gpus: float, plugins: Mapping[str, str]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        self._plugins = plugins
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = self._ray.remote(num_cpus=0)(Board)
        self._board: Any = board.options(scheduling_strategy=here).remote()
        # One call a process: nothing of a trial is left for the next.
        self._task: Any = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(work)
        self._running: dict[Any, Assignment] = {}
        self._begun: set[str] = set()

    def start(self, assignment: Assignment) -> None:
        sent = replace(assignment, job=_for_any_node(assignment.job, self._plugins))
        self._running[self._task.remote(sent, self._board)] = assignment

    def wait(
        self, seconds: float, report: Report, stopping: Callable[[], int]
    ) -> list[tuple[Assignment, Outcome | Died]]:
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        by_token = {one.claim.owner.token: one for one in self._running.values()}
        try:
            told = self._ray.get(self._board.take.remote())
        except self._gone as error:
            raise UserError(
                f"--engine ray: the cluster is gone ({first_line(error)[:120]}); the same command goes on from the "
                "last checkpoints"
            ) from error
        for token, message in told:
            self._begun.add(token)
            if message is not None and token in by_token:
                report(by_token[token].job, message)
        return [(self._running[reference], self._how(reference)) for reference in done]

    def _how(self, reference: Any) -> Outcome | Died:
        """Return how a task ended; its claim is given back if it could not do so itself."""
        assignment = self._running.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            return Died(f"under Ray: {type(cause).__name__}: {first_line(cause)[:150]}")
        assignment.claim.release()
        return outcome

    @property
    def _gone(self) -> tuple[type[Exception], ...]:
        """What a call raises when the cluster is gone."""
        return self._ray.exceptions.RayError, ConnectionError, RuntimeError

    def stop(self) -> None:
        self._ray.get(self._board.stop.remote())
        for reference, assignment in self._running.items():
            if assignment.claim.owner.token not in self._begun:
                self._ray.cancel(reference)

    def close(self) -> None:
        for reference, assignment in self._running.items():
            with suppress(*self._gone):
                self._ray.cancel(reference, force=True)
            assignment.claim.release()
        with suppress(*self._gone):
            self._ray.kill(self._board)


def _for_any_node(job: WorkJob, plugins: Mapping[str, str]) -> WorkJob:
    """Return a job whose paths mean the same on every node."""
    trial = job.trial
    absolute: dict[str, Any] = {
        name: str(Path(value).resolve()) for name in PATHS if (value := getattr(trial, name))
    }
    shipped = tuple(plugins.get(name, name) for name in trial.plugins)
    return replace(job, trial=replace(trial, plugins=shipped, **absolute))
