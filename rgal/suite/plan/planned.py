"""A method on a task under a budget: what a suite and a call from Python both run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.registry import Resolved, resolve
from rgal.suite.plan.budget import Taken, own_schedule, schedule_for
from rgal.suite.plan.explicit import let_the_name_decide
from rgal.suite.plan.settings import Pair, Schedule, Suite
from rgal.suite.plan.steps import Epochs, in_steps

if TYPE_CHECKING:
    from rgal.suite.task import Task


def plan_method(
    task: Task,
    text: str,
    suite: Suite,
    pair: Pair,
    images: Callable[[], int],
    swept: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Resolved, Taken]:
    """Put a method under the chosen budget of a suite. What its brackets say goes before the budget.

    Args:
        task: what it runs on.
        text: the method as a user wrote it.
        suite: with its budget, and the numbers of it that a user set for all methods.
        pair: the networks, with what methods want for them.
        images: counts the images of a phase, of which steps may be so many passes.
        swept: numbers of the schedule that are the same for all methods.

    Raises:
        UserError: there is no such method, it is not for the task, the budget makes no sense for it, or its brackets
            contradict a number that is set for all methods.
    """
    method = resolve(text, None, task.defaults)
    if not task.runs(method.method):
        valid = ", ".join(method.method.tasks)
        raise UserError(f"method '{method.name}' is not for task '{task.name}'; it is for: {valid}")
    name = MethodName.parse(method.name)
    own = own_schedule(method.method, suite.budget, suite.fixed)
    taken = schedule_for(suite.chosen_budget(), pair, swept, name, task.defaults, own)
    taken, named = let_the_name_decide(task, text, taken, {*suite.fixed, *swept})
    taken = replace(taken, schedule=_counted(task, text, taken.schedule, images))
    return replace(task.recipe(text, taken.schedule), name=named), taken


def _counted(task: Task, text: str, schedule: Schedule, images: Callable[[], int]) -> Schedule:
    """Put the number of steps in place of a formula: the method's batch is known once its recipe is."""
    if not isinstance(schedule.student_steps, Epochs):
        return schedule
    rest = schedule.model_copy(update={"student_steps": None})
    batch = task.recipe(text, rest).recipe.rounds.batch
    return schedule.model_copy(update={"student_steps": in_steps(schedule.student_steps, images(), batch)})
