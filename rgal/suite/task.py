"""The contract between the suite and a task, and how tasks are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from torch import nn

from rgal.data import ImageSet
from rgal.precision import Precision
from rgal.problem import Problem
from rgal.recipe import Recipe
from rgal.seeding import Streams
from rgal.suite.drive import Run
from rgal.suite.trial import Trial
from rgal.synthesis.pool import ImagePool


@dataclass(frozen=True)
class Job:
    """All a task gets for one trial. `real` is a pool of real images for reference rows and None for data-free ones."""

    trial: Trial
    recipe: Recipe
    problem: Problem
    teacher_top1: float
    test: ImageSet
    real: ImagePool | None
    streams: Streams
    precision: Precision
    class_names: tuple[str, ...]


class TaskRun(Run, Protocol):
    """A resumable run that can say what came out."""

    student: nn.Module

    def result(self) -> dict[str, Any]:
        """Final numbers: `last` and `best` accuracy, images, steps and seconds, and what else the task measures."""
        ...

    def save(self, folder: Path) -> None:
        """Write the artefacts that people look at or go on with."""
        ...


class Task(Protocol):
    """One task: a thin adapter between recipes and what is measured."""

    name: str
    summary: str

    def start(self, job: Job) -> TaskRun: ...


def tasks() -> Mapping[str, Task]:
    """All tasks by name: every module in the package `tasks` that has a `TASK`."""
    package = importlib.import_module("tasks")
    found: dict[str, Task] = {}
    for module in pkgutil.iter_modules(package.__path__):
        task = getattr(importlib.import_module(f"tasks.{module.name}"), "TASK", None)
        if task is not None:
            found[task.name] = cast(Task, task)
    return dict(sorted(found.items()))
