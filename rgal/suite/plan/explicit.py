"""What a user gives in a method's brackets goes before what a budget says of the same number.

Some parameters are numbers of the schedule: `genie[student_lr=0.1]` and a budget's `student_lr` are one step size.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.parameters import Parameter, text_of
from rgal.methods.recipe import Recipe
from rgal.methods.registry import methods, resolve
from rgal.suite.plan.budget import Taken
from rgal.suite.plan.settings import Schedule
from rgal.synthesis.generators import FreshGenerator

if TYPE_CHECKING:
    from rgal.suite.task import Task


def schedule_numbers(recipe: Recipe) -> dict[str, Any]:
    """Return the numbers of a recipe that a budget may replace, by their names in a `Schedule`."""
    rounds, images = recipe.rounds, recipe.images
    return {
        "rounds": rounds.count,
        "warmup": rounds.warmup,
        "synthesis_steps": rounds.synthesis_steps,
        "student_steps": rounds.student_steps,
        "synthesis_batch": rounds.synthesis_batch,
        "batch": rounds.batch,
        "student_lr": recipe.student.lr,
        "student_weight_decay": recipe.student.weight_decay,
        "synthesis_lr": recipe.optimiser.lr,
        "generator_width": images.width if isinstance(images, FreshGenerator) else None,
    }


def given_numbers(task: Task, text: str, schedule: Schedule) -> dict[str, tuple[str, Any]]:
    """Find the parameters in a method's brackets that are numbers of its schedule.

    A parameter is one if the recipe's number is its value, and follows when the parameter has another value.

    Args:
        task: what the method runs on.
        text: the method as a user wrote it.
        schedule: what holds for the method; only its parameters matter here.

    Returns:
        By parameter, the name of the number and the value that the user gave.
    """
    name, bare = MethodName.parse(text), Schedule(parameters=schedule.parameters)
    declared = methods()[name.host].parameters
    found: dict[str, tuple[str, Any]] = {}
    for key, written in name.parameters:
        parameter = declared[key]
        value = parameter.read(written, text) if parameter.kind in (int, float) else None
        if value is None:
            continue
        numbers = schedule_numbers(task.recipe(text, bare).recipe)
        alike = [number for number, own in numbers.items() if own == value]
        other, followed = _with_another(task, name, parameter, value, bare)
        for number in alike:
            if number in followed and followed[number] == other:
                found[key] = (number, value)
    return found


def _with_another(
    task: Task, name: MethodName, parameter: Parameter, value: Any, bare: Schedule
) -> tuple[Any, dict[str, Any]]:
    """Give a parameter another value that the method takes; return it, and the numbers of the recipe then."""
    for other in (parameter.kind(2 * value), parameter.kind(value / 2), parameter.default, value + 1):
        if other is None or other == value:
            continue
        pairs = tuple((k, text_of(other) if k == parameter.name else v) for k, v in name.parameters)
        try:
            return other, schedule_numbers(task.recipe(str(replace(name, parameters=pairs)), bare).recipe)
        except UserError:
            continue
    return None, {}


def let_the_name_decide(task: Task, text: str, taken: Taken, for_all: Collection[str]) -> tuple[Taken, str]:
    """Leave out of a method's schedule what the user's brackets say otherwise.

    Args:
        task: what the method runs on.
        text: the method as a user wrote it.
        taken: its schedule.
        for_all: names of the numbers that the command line or a sweep sets for all methods.

    Returns:
        The schedule without these numbers; and the method's name, which keeps them even where they are its defaults.

    Raises:
        UserError: the brackets contradict a number that is set for all methods.
    """
    schedule = taken.schedule
    overruled: dict[str, Any] = {}
    for key, (number, value) in given_numbers(task, text, schedule).items():
        said = getattr(schedule, number)
        if said is None or said == value:
            continue
        if number in for_all:
            raise UserError(
                f"method '{text}': {key}={text_of(value)} is its {number}, which is {said} for all methods here; "
                "leave out one of them"
            )
        overruled[key] = said
        schedule = schedule.model_copy(update={number: None})
    tuned = {**(schedule.parameters or {}), **overruled}
    return replace(taken, schedule=schedule), resolve(text, tuned, task.defaults).name
