"""From a call to a job: the trial that the command line would run, without its suite, its data and its folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, cast

from torch import nn

from rgal.api.budgets import suite_of
from rgal.api.calls import Call, weights_hash
from rgal.api.teacher import Teacher
from rgal.core.cores import instead_of, runnable
from rgal.core.errors import UserError
from rgal.core.precision import Precision
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Resolved, methods
from rgal.suite.plan.expansion import check_options
from rgal.suite.plan.planned import plan_method
from rgal.suite.plan.settings import Pair, Schedule
from rgal.suite.plan.trial import Trial
from rgal.suite.task import Job, Task, tasks

_NOT_ASKED = (
    "budget",
    "data",
    "data_root",
    "image_size",
    "order",
    "keep_pool",
    "setting",
    "case",
    "case_title",
)


def makes_its_images(recipe: Recipe) -> bool:
    """Tell whether a method needs no image that somebody would have to give."""
    return recipe.data_free and recipe.source != "given"


@dataclass(frozen=True)
class Asked:
    """What a call asks for.

    Args:
        task: "kd", "dfq" or "necil".
        teacher: on the device of the call.
        call: method, budget, and how it runs.
        student: the name of the student's network, for tasks that need one.
        options: the task's own settings.
        images: counts the images of a phase.
        adapt: what the call changes in the method's recipe.
        usable: whether a method can do without the data that there is none of.
        lacking: what these data are, in words.
    """

    task: str
    teacher: Teacher
    call: Call
    student: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    images: Callable[[], int] = lambda: 0
    adapt: Callable[[Recipe], Recipe] = lambda recipe: recipe
    usable: Callable[[Resolved], bool] = lambda resolved: makes_its_images(resolved.recipe)
    lacking: str = "real images"


def make_job(
    asked: Asked, student: nn.Module | None = None, problem: Problem | None = None, task_data: object = None
) -> Job:
    """Make the job of a call. Its streams are those of the command line's trial of the same names and seed.

    Args:
        asked: what is asked for.
        student: the network to train, where it is given.
        problem: what the task works on, where that is not the teacher itself.
        task_data: what the task gets beside.

    Raises:
        UserError: the method, its budget or an option makes no sense, or the method needs data.
    """
    task, teacher, call = tasks()[asked.task], asked.teacher, asked.call
    suite = suite_of(task.name, call.budget, asked.options)
    ((case, options),) = task.cases(check_options(suite, task))
    pair = Pair(teacher=teacher.name, student=asked.student or None)
    resolved, taken = plan_method(task, call.method, suite, pair, asked.images)
    if not asked.usable(resolved):
        raise UserError(f"method '{resolved.name}' needs {asked.lacking}; without: {_usable(task, asked)}")
    precision = _precision(call.precision or suite.asked_precision, teacher)
    trial = Trial(
        task=task.name, dataset=teacher.dataset, data="", image_size=None, teacher=teacher.name, teacher_key="",
        student=asked.student or teacher.name, method=resolved.name, seed=call.seed, budget=suite.budget,
        schedule=taken.schedule.model_dump(mode="json", exclude_none=True),
        evaluate_every=suite.chosen_budget().evaluate_every, evaluate_on="test", precision=precision,
        device=str(teacher.device), data_root=None, order=0, keep_pool=False, setting="", options=options, case=case,
    )  # fmt: skip
    return Job(
        trial=trial,
        recipe=asked.adapt(resolved.recipe),
        problem=problem or teacher.problem,
        teacher_top1=math.nan,
        test=None,
        real=None,
        streams=Streams(teacher.device, *trial.seed_parts()),
        precision=precision,
        class_names=(),
        task_data=task_data,
        student=student,
    )


def _precision(asked: str, teacher: Teacher) -> Precision:
    """Return the precision that runs, as the command line chooses it, and warn where that is not the one asked for."""
    taken = runnable(asked, teacher.device.type)
    if taken != asked:
        warnings.warn(instead_of(asked, taken), stacklevel=2)
    return cast(Precision, taken)


def _usable(task: Task, asked: Asked) -> str:
    """List the methods of a task that do without what there is none of."""
    named = [task.recipe(name, Schedule()) for name, method in methods().items() if task.runs(method)]
    return ", ".join(resolved.name for resolved in named if asked.usable(resolved))


def identity_of(job: Job, teacher: Teacher, **more: str) -> dict[str, str]:
    """Tell a call from others, for its state: all that it asks for, the teacher's weights, and what is given beside."""
    settings = {name: value for name, value in asdict(job.trial).items() if name not in _NOT_ASKED}
    settings["device"] = job.problem.device.type
    said = {name: str(value) for name, value in settings.items() if value not in ("", None, {}, ())}
    return said | {"images": str(job.problem.domain), "weights": weights_hash(teacher.net), **more}
