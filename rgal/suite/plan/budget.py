"""What a budget means for a method: the exceptions that it takes, and its recipe under a schedule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Method, canonical_name
from rgal.suite.plan.settings import Budget, Pair, Schedule, suggest
from rgal.synthesis.generators import FreshGenerator


@dataclass(frozen=True)
class Taken:
    """The schedule of a method, and the entries among the exceptions that it is made of; None: there is none for it.

    of_method: whether the method's own budget is in it, as the suite's has no entry for the method.
    """

    schedule: Schedule
    of_budget: MethodName | None
    of_pair: MethodName | None
    of_method: bool = False

    @property
    def tuned(self) -> bool:
        """Whether there is more in it than what the budget says for all methods."""
        return self.of_budget is not None or self.of_method

    def describe(self, budget: str) -> str:
        """Name the entries: `budget small: fast[k=10], pair: fast`."""
        entry = "" if self.of_budget is None else f": {self.of_budget}"
        own = " of the method" if self.of_method else ""
        pair = "" if self.of_pair is None else f", pair: {self.of_pair}"
        return f"budget {budget}{own}{entry}{pair}"


def schedule_for(
    budget: Budget,
    pair: Pair,
    swept: Mapping[str, Any],
    name: MethodName,
    defaults: Mapping[str, Any] | None = None,
    own: Schedule | None = None,
) -> Taken:
    """Make the schedule of a method: the budget's numbers, then those of the entries that it takes.

    Of the exceptions of the budget and of those of the pair of networks it takes one entry each; see `nearest_entry`.
    Where the budget has none, its place is the method's own. The pair's goes over the budget's, and over both goes what
    is swept.

    Args:
        budget, pair: with their exceptions by method.
        swept: numbers of the schedule that are the same for all methods.
        name: the method's canonical name.
        defaults: what parameters are on the task; see `rgal.methods.registry.resolve`.
        own: the method's own schedule in this budget, see `own_schedule`.

    Raises:
        UserError: an entry names no method, or several entries are equally near.
    """
    merged: dict[str, Any] = {field: getattr(budget, field) for field in Schedule.model_fields}
    entries: list[MethodName | None] = []
    for whose, exceptions in (("the budget's", budget.methods), ("the pair's", pair.methods)):
        table = read_entries(exceptions, defaults)
        entry = nearest_entry(name, table, f"{whose} methods")
        entries.append(entry)
        taken = table[entry] if entry is not None else own if len(entries) == 1 else None
        given = {} if taken is None else taken.model_dump(exclude_none=True)
        parameters = {**(merged["parameters"] or {}), **given.get("parameters", {})}
        merged |= given | {"parameters": parameters or None}
    of_budget, of_pair = entries
    of_method = own is not None and of_budget is None
    return Taken(Schedule(**{**merged, **swept}), of_budget, of_pair, of_method)


def own_schedule(method: Method, budget: str, fixed: Collection[str] = ()) -> Schedule | None:
    """Read what a method brings for a budget of this name; None: nothing.

    A game, whose two kinds of step alternate, keeps its published ratio of steps where only one of the two is given.

    Args:
        method: with its `budgets`.
        budget: what the budget is called.
        fixed: numbers that the command line says for all methods; the method's are left out.

    Raises:
        UserError: one of the method's budgets has an unknown key or a wrong value.
    """
    own = {name: _own(method, name, numbers) for name, numbers in method.budgets.items()}.get(budget)
    if own is None:
        return None
    rounds, steps, student = method.recipe().rounds, own.synthesis_steps, own.student_steps
    given = own.model_dump(exclude_none=True)
    if rounds.interleaved and rounds.student_steps and rounds.synthesis_steps:
        if steps is None and isinstance(student, int):
            given["synthesis_steps"] = max(1, round(student * rounds.synthesis_steps / rounds.student_steps))
        elif student is None and steps:
            given["student_steps"] = max(1, round(steps * rounds.student_steps / rounds.synthesis_steps))
    return Schedule(**{key: value for key, value in given.items() if key not in fixed})


def _own(method: Method, budget: str, numbers: Mapping[str, Any]) -> Schedule:
    try:
        return Schedule.model_validate(dict(numbers))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where, key = f"method '{method.name}': budgets.{budget}", str(problem["loc"][0])
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            valid = list(Schedule.model_fields)
            raise UserError(f"{where}: {suggest(key, valid)}; valid: {', '.join(valid)}") from error
        raise UserError(f"{where}.{key}: {problem['msg']}, found {problem['input']!r}") from error


def read_entries(
    exceptions: Mapping[str, Schedule], defaults: Mapping[str, Any] | None = None
) -> dict[MethodName, Schedule]:
    """Read the names of a table of exceptions, each as it would be written in a table of results.

    Raises:
        UserError: a name is that of no method, has unknown parameters, or is there twice.
    """
    table: dict[MethodName, Schedule] = {}
    for text, schedule in exceptions.items():
        name = canonical_name(text, defaults)
        if name in table:
            raise UserError(f"'{text}' is there twice: it is '{name}'")
        table[name] = schedule
    return table


def nearest_entry(name: MethodName, entries: Iterable[MethodName], where: str) -> MethodName | None:
    """Find the entry of a table of exceptions that a method takes.

    An entry applies to a method if it covers it (`MethodName.covers`): it has the method's host, and all of its
    parameters are among the method's, with equal values; if it has `+rgal`, so has the method, with the entry's
    parameters of RGAL among its own. So `fast[k=10]` applies to `fast[k=10,bn=5]` and to
    `fast[k=10]+rgal[spread=0.2]`, and `fast` to both. `rgal` is a host of its own: it takes no entry of `plain`.

    Of the entries that apply,

    1. those with `+rgal` go before those without;
    2. of these, the one with most parameters is taken, those of RGAL included;
    3. several with equally many are an error, as neither is nearer than the other.

    Args:
        name: the method's canonical name.
        entries: the names in the table, canonical too.
        where: what the table is called in an error.

    Returns:
        The entry, or None if none applies: the method then has the budget's own numbers.

    Raises:
        UserError: several entries are equally near.
    """

    def nearness(entry: MethodName) -> tuple[bool, int]:
        return entry.plugin is not None, len(entry.parameters) + len(entry.plugin or ())

    applying = [entry for entry in entries if entry.covers(name)]
    nearest = [entry for entry in applying if nearness(entry) == max(map(nearness, applying))]
    if len(nearest) > 1:
        both = " and ".join(f"'{entry}'" for entry in nearest[:2])
        raise UserError(f"{where}: {both} are equally near to method '{name}'; add an entry for '{name}'")
    return nearest[0] if nearest else None


def apply_schedule(recipe: Recipe, schedule: Schedule, where: str) -> Recipe:
    """Put a budget's numbers in place of a recipe's published ones.

    A budget's `batch` counts the images a student step sees, so that methods compare at equal cost: a recipe with
    paired views takes half as many images from the pool, twice. Recipes that never train the student, or take no
    synthesis steps, keep it so.

    Args:
        recipe: with the published numbers.
        schedule: the budget's numbers; what is None in it stays as published.
        where: what the recipe is called in an error.

    Raises:
        UserError: the schedule's warm-up leaves no round for the student.
    """
    trains = recipe.rounds.student_steps > 0

    rounds = replace(
        recipe.rounds,
        **_given(
            count=schedule.rounds if trains else None,
            warmup=schedule.warmup if trains else None,
            synthesis_steps=schedule.synthesis_steps if recipe.rounds.synthesis_steps else None,
            student_steps=schedule.student_steps if trains else None,
            synthesis_batch=schedule.synthesis_batch,
            batch=schedule.batch if schedule.batch is None or not recipe.pairs else schedule.batch // 2,
        ),
    )
    if recipe.images is None:
        # Given images are there at once: as many student steps as where a warm-up makes images first.
        count = max(1, rounds.count - rounds.warmup) if recipe.source == "given" else rounds.count
        rounds = replace(rounds, count=count, synthesis_steps=0, warmup=0)
    if schedule.warmup is None:  # a published warm-up in a budget shorter than it
        rounds = replace(rounds, warmup=min(rounds.warmup, rounds.count - 1))
    if rounds.warmup >= rounds.count:
        raise UserError(
            f"{where}: warmup={rounds.warmup} leaves no round for the student, rounds={rounds.count}"
        )
    images = recipe.images
    if schedule.generator_width is not None and isinstance(images, FreshGenerator):
        images = replace(images, width=schedule.generator_width)
    optimiser = replace(recipe.optimiser, **_given(lr=schedule.synthesis_lr))
    drops = schedule.student_drops if recipe.student.schedule == "steps" else None
    of_student = _given(lr=schedule.student_lr, weight_decay=schedule.student_weight_decay, drops=drops)
    student = replace(recipe.student, **of_student)
    return replace(recipe, images=images, rounds=rounds, student=student, optimiser=optimiser)


def _given(**numbers: Any) -> dict[str, Any]:
    """Leave out what a schedule says nothing on."""
    return {name: number for name, number in numbers.items() if number is not None}
