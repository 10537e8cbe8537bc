"""The run of tasks with one teacher and one student: rounds, their evaluations, the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rgal.analysis.diversity import diversity
from rgal.engine.options import SHOWN, Hooks, Position, Row, RunOptions
from rgal.engine.run import TransferRun
from rgal.nets.checkpoint import save_weights
from rgal.suite.plan.initial_pool import initial_images, record
from rgal.suite.running.judge import Judge
from rgal.suite.store.folders import write_json
from rgal.suite.task import Job
from rgal.synthesis.pool_files import save_pool


class SingleRun:
    """Train `student` under the job's recipe.

    Given images of the trial are in the pool before the first round; a state that is loaded brings a pool of its own.

    Args:
        job: the trial and what it works on.
        student: what is trained and measured.
        hooks: what the task adds to the rounds; the job's real images, for reference rows, are added here.
    """

    def __init__(self, job: Job, student: nn.Module, hooks: Hooks = Hooks()) -> None:  # noqa: B008
        self.job, self.student = job, student
        self.judge = Judge(job)
        self.transfer = TransferRun(
            job.recipe,
            job.problem,
            student,
            job.streams,
            self.judge,
            RunOptions(job.precision, job.trial.evaluate_every, pool_file=job.pool_file),
            replace(hooks, real=job.real),
        )
        given = initial_images(job)
        self.initial_images = 0 if given is None else len(given[0])
        if given is not None:
            self.transfer.pool.add(*given)

    @property
    def finished(self) -> bool:
        return self.transfer.finished

    def advance(self) -> list[Row]:
        return self.transfer.advance()

    def position(self) -> Position:
        return self.transfer.position()

    def loss(self) -> float | None:
        return self.transfer.loss()

    def state_dict(self) -> dict[str, Any]:
        return {"transfer": self.transfer.state_dict(), "evaluations": list(self.judge.evaluations)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.transfer.load_state_dict(state["transfer"])
        self.judge.evaluations = list(state["evaluations"])

    def result(self) -> dict[str, Any]:
        transfer = self.transfer
        return {
            **self.judge.result(),
            **self.judge.confidence(self._shown()[0]),
            "data_free": self.job.recipe.data_free,
            "images": transfer.images,
            "synthesis_steps": transfer.schedule.steps["synthesis"],
            "student_steps": transfer.schedule.steps["student"],
            **{name: round(seconds, 2) for name, seconds in transfer.clock.costs().items()},
            **record(self.job.trial, self.job.recipe, self.initial_images),
        }

    def save(self, folder: Path) -> None:
        save_weights(self.student, folder / "student.safetensors")
        pool, domain = self.transfer.pool, self.job.problem.domain
        if self.job.trial.keep_pool and self.job.recipe.data_free and len(pool):
            save_pool(pool, folder, self._origin(), domain.classes, self.job.class_names)

    def illustrate(self, folder: Path) -> None:
        from rgal.analysis.grids import write_grid  # it loads matplotlib

        pool = self.transfer.pool
        if not self.job.recipe.data_free or not len(pool):
            return
        images, targets = self._shown()
        write_grid(folder / "samples.png", images, targets, class_names=self.job.class_names)
        if self.job.recipe.source == "given":  # what is measured is a method's own images
            return
        problem = self.job.problem
        measured = diversity(
            pool, self.job.recipe, problem.domain, problem.teacher, self.student, self.job.test
        )
        write_json(folder / "diversity.json", measured)

    def _shown(self) -> tuple[Tensor, Tensor]:
        """The newest images: what the method makes in the end; given ones if it makes none."""
        pool = self.transfer.pool
        first = 0 if self.job.recipe.source == "given" else self.initial_images
        images, targets = (part[first:][-SHOWN:].cpu() for part in (pool.images, pool.targets))
        return images, targets

    def _origin(self) -> dict[str, str]:
        """Where a kept pool comes from."""
        trial, domain = self.job.trial, self.job.problem.domain
        return {
            "dataset": trial.dataset,
            "method": trial.method,
            "teacher": trial.teacher,
            "classes": str(domain.classes),
            "shape": "x".join(map(str, domain.shape)),
            "initial_images": str(self.initial_images),
        }
