"""The contract between the suite and a task, and how tasks are found."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.modules import modules_in
from rgal.core.precision import Precision
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.data import Dataset, ImageSet
from rgal.engine.options import Position, Row
from rgal.methods.plugins import add_registry
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Method, Resolved, resolve
from rgal.suite.measures import ACCURACY, WITHOUT_LABELS, Measure, costs, measured_text
from rgal.suite.plan.budget import apply_schedule
from rgal.suite.plan.settings import Schedule
from rgal.suite.plan.steps import Strict
from rgal.suite.plan.trial import Trial
from rgal.suite.pretraining import Pretraining
from rgal.synthesis.pool import ImagePool


@dataclass(frozen=True)
class Job:
    """Everything a task gets for one trial.

    Args:
        trial: what was asked for.
        recipe: the method under the trial's schedule.
        problem: the frozen teacher and its image domain.
        teacher_top1: the teacher's accuracy in percent; NaN where there are no test images.
        test: the images that are evaluated on; None: there are none.
        real: real images of reference rows; None for data-free ones.
        streams: the trial's random streams.
        precision: "fp32" or "bf16".
        class_names: for pictures; may be empty.
        task_data: what the task's `task_data` made of the training images.
        encoding: how the data set's images are stored; it is recorded.
        student: the network to train; None: the task makes it.
        held_out: synthesised images, uint8 (N,C,H,W), to compare student and teacher on where `test` is None.
        unlabelled: given real images without labels, uint8 (N,C,H,W); None: there are none.
        pool_file: takes synthesised images that are too many for memory; None: they stay there.
    """

    trial: Trial
    recipe: Recipe
    problem: Problem
    teacher_top1: float
    test: ImageSet | None
    real: ImagePool | None
    streams: Streams
    precision: Precision
    class_names: tuple[str, ...]
    task_data: Any = None
    encoding: str = ""
    student: nn.Module | None = None
    held_out: Tensor | None = None
    unlabelled: Tensor | None = None
    pool_file: Path | None = None

    @property
    def judged_on(self) -> Tensor:
        """Return the images that a student is judged on, uint8 (N,C,H,W): those of the test split, else held-out ones.

        Raises:
            UserError: there are neither.
        """
        images = self.held_out if self.test is None else self.test.images
        if images is None:
            raise UserError(f"data set '{self.trial.dataset}' has no test images")
        return images

    @property
    def tested(self) -> ImageSet:
        """Return the test images. Raises UserError if there are none."""
        if self.test is None:
            raise UserError(f"data set '{self.trial.dataset}' has no test images")
        return self.test


class Run(Protocol):
    """Work that advances in small steps and can be stopped between any two of them."""

    @property
    def finished(self) -> bool: ...

    def advance(self) -> list[Row]: ...

    def position(self) -> Position: ...

    def loss(self) -> float | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TaskRun(Run, Protocol):
    """A resumable run that can say what came out."""

    @property
    def student(self) -> nn.Module: ...

    def result(self) -> dict[str, Any]:
        """Final numbers: `last` and `best` accuracy, images, steps and seconds, and what else the task measures."""
        ...

    def save(self, folder: Path) -> None:
        """Write what people go on with: weights, kept images, counts. The trial is not finished without these."""
        ...

    def illustrate(self, folder: Path) -> None:
        """Draw and measure what came out, once the result is stored: what goes wrong here costs pictures alone."""
        ...


class NoOptions(Strict):
    """A task without settings of its own."""


class Task:
    """One task: a thin adapter between recipes and what is measured. Subclasses say what is different about theirs.

    options: the task's own settings; suite files hold them under `options`. case_title: heading of the column of cases,
    for tasks that run every method in several. needs_student: whether a suite names the student's network. defaults:
    what parameters of RGAL are on this task. exports: formats a finished student can be exported to.
    takes_pool: whether a trial's pool can start with given images. methods_of: tasks whose methods this one runs beside
    those that name it; `adapt` makes their recipes fit. measures: what its results hold, the primary number
    first. real_data: what reference rows train on, for the note below tables. needs_data: whether it works on real
    images itself. calibration_row: the method that uses given real images alone (`--calibration`), "" if there is none.
    takes_calibration: whether real images without labels are of any use to it.
    """

    name = ""
    summary = ""
    options: type[Strict] = NoOptions
    case_title = ""
    needs_student = True
    defaults: Mapping[str, Any] = MappingProxyType({})
    exports: tuple[str, ...] = ()
    takes_pool = False
    methods_of: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = (*ACCURACY, *costs())
    real_data = "real data: a reference, not data-free"
    needs_data = False
    calibration_row = ""
    takes_calibration = False

    def runs(self, method: Method) -> bool:
        """Whether a method is for this task."""
        return not {self.name, *self.methods_of}.isdisjoint(method.tasks)

    def cases(self, options: Any) -> list[tuple[str, dict[str, Any]]]:
        """(name, a trial's options), one a case."""
        return [("", options.model_dump())]

    def case_order(self, case: str, position: int) -> int:
        """Where a case stands in tables and plots, whichever suite it came from; position: in its own suite."""
        return position

    def setting(self, dataset: str, teacher: str, student: str, options: Any) -> str:
        """What heads the tables: trials are compared inside a setting."""
        return f"{dataset} {teacher} -> {student}"

    def adapt(self, recipe: Recipe) -> Recipe:
        """A recipe that was written for another task, for this one."""
        return recipe

    def check(self, recipe: Recipe, dataset: Dataset) -> None:
        """UserError if the recipe cannot run on this task and data set."""

    def networks(self, teacher: nn.Module, student: nn.Module, domain: Domain) -> dict[str, nn.Module]:
        """What recipes will see, "teacher" and "student", made of the networks that a suite names, which may change.
        UserError for one that the task cannot work with."""
        return {"teacher": teacher, "student": student}

    def pretraining(self, dataset: Dataset, recipe: Recipe, seed: int, options: Any) -> Pretraining:
        """What a trial's teacher is trained for. Trials whose answers have the same identity and seed share it.

        seed: the teacher's number in its suite; on it depend nothing but the identity and the title."""
        return Pretraining()

    def task_data(self, dataset: Dataset, recipe: Recipe, options: Any) -> Any:
        """Return the real images that the task itself hands to a trial, such as one phase at a time.

        None: a trial gets no real image, or all of them if it is a reference row.
        """
        return None

    def phase_images(self, dataset: Dataset, options: Any) -> tuple[int, int]:
        """Count the training images a teacher learns, and those of one of the phases that a trial goes through."""
        images = len(dataset.train.labels)
        return images, images

    def repeats(self, dataset: Dataset, options: Any) -> int:
        """Return how often a trial goes through its recipe's rounds."""
        return 1

    def describe(self, result: Mapping[str, Any]) -> str:
        """A finished trial's accuracy for the console; without test images, its agreement with the teacher."""
        if "last" not in result:
            return measured_text(result)
        return f"top-1 {result['last']:.2f} % (best {result['best']:.2f})"

    def start(self, job: Job) -> TaskRun:
        raise NotImplementedError

    def export(self, job: Job, folder: Path, form: str) -> dict[str, Any]:
        """Export the student of the finished trial in `folder`; what was measured of the result."""
        raise NotImplementedError

    def recipe(self, method: str, schedule: Schedule) -> Resolved:
        """The method on this task under a schedule."""
        resolved = resolve(method, schedule.parameters, self.defaults)
        recipe = resolved.recipe
        if resolved.method.tasks[0] != self.name:
            recipe = self.adapt(recipe)
        return replace(resolved, recipe=apply_schedule(recipe, schedule, method))


@dataclass(frozen=True)
class Added:
    """A task that a plug-in brought, and where it was written."""

    task: Task
    module: str


_ADDED: dict[str, Added] = {}


def added() -> Mapping[str, Added]:
    """The tasks of plug-ins, by name."""
    return dict(sorted(_ADDED.items()))


add_registry(added)

Kind = TypeVar("Kind", bound=type[Task])


def task(kind: Kind) -> Kind:
    """Register the decorated class, a `Task` with a name of its own.

    Raises:
        ValueError: it has no name, or another file has a task of this name.
    """
    if not kind.name:
        raise ValueError(f"task {kind.__name__}: expected a `name`")
    if kind.name in _own_tasks():
        raise ValueError(f"a task '{kind.name}' exists already, in rgal.tasks")
    present = _ADDED.get(kind.name)
    if present is not None and present.module != kind.__module__:
        raise ValueError(f"a task '{kind.name}' exists already, in {present.module}")
    _ADDED[kind.name] = Added(kind(), kind.__module__)
    return kind


def tasks() -> Mapping[str, Task]:
    """All tasks by name: those in `rgal.tasks`, and those of the plug-ins that are loaded."""
    both = _own_tasks() | {name: entry.task for name, entry in _ADDED.items()}
    return dict(sorted(both.items()))


def _own_tasks() -> dict[str, Task]:
    """The `TASK` of every module of `rgal.tasks`, and of the module `task` of every package there."""
    own: dict[str, Task] = {}
    for module in modules_in("rgal.tasks"):
        holder = importlib.import_module(f"{module.__name__}.task") if hasattr(module, "__path__") else module
        instance = getattr(holder, "TASK", None)
        if isinstance(instance, Task):
            own[instance.name] = instance
    return own


def trial_recipe(trial: Trial) -> Recipe:
    """The recipe of a trial, under its schedule."""
    return tasks()[trial.task].recipe(trial.method, Schedule(**trial.schedule)).recipe


def measures_of(task: str) -> tuple[Measure, ...]:
    """Return the measures that a task declares, and those that need no label; for one that is not installed here, those
    of plain accuracy.
    """
    installed = tasks()
    own = installed[task].measures if task in installed else (*ACCURACY, *costs())
    return (*own, *WITHOUT_LABELS)
