"""What a budget means for a method: the exceptions that it takes, and its recipe under a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.recipe import Recipe
from rgal.methods.registry import canonical_name
from rgal.suite.plan.settings import Budget, Pair, Schedule
from rgal.synthesis.generators import FreshGenerator


@dataclass(frozen=True)
class Taken:
    """The schedule of a method, and the entries among the exceptions that it is made of; None: there is none for it."""

    schedule: Schedule
    of_budget: MethodName | None
    of_pair: MethodName | None

    def describe(self, budget: str) -> str:
        """Name the entries: `budget small: fast[k=10], pair: fast`."""
        entry = "" if self.of_budget is None else f": {self.of_budget}"
        pair = "" if self.of_pair is None else f", pair: {self.of_pair}"
        return f"budget {budget}{entry}{pair}"


def schedule_for(
    budget: Budget,
    pair: Pair,
    swept: Mapping[str, Any],
    name: MethodName,
    defaults: Mapping[str, Any] | None = None,
) -> Taken:
    """Make the schedule of a method: the budget's numbers, then those of the entries that it takes.

    Of the exceptions of the budget and of those of the pair of networks it takes one entry each; see `nearest_entry`.
    The pair's goes over the budget's, and over both goes what is swept.

    Args:
        budget, pair: with their exceptions by method.
        swept: numbers of the schedule that are the same for all methods.
        name: the method's canonical name.
        defaults: what parameters are on the task; see `rgal.methods.registry.resolve`.

    Raises:
        UserError: an entry names no method, or several entries are equally near.
    """
    merged: dict[str, Any] = {field: getattr(budget, field) for field in Schedule.model_fields}
    entries: list[MethodName | None] = []
    for whose, exceptions in (("the budget's", budget.methods), ("the pair's", pair.methods)):
        table = read_entries(exceptions, defaults)
        entry = nearest_entry(name, table, f"{whose} methods")
        entries.append(entry)
        own = {} if entry is None else table[entry].model_dump(exclude_none=True)
        parameters = {**(merged["parameters"] or {}), **own.get("parameters", {})}
        merged |= own | {"parameters": parameters or None}
    return Taken(Schedule(**{**merged, **swept}), *entries)


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

    def given(**fields: Any) -> dict[str, Any]:
        return {key: value for key, value in fields.items() if value is not None}

    rounds = replace(
        recipe.rounds,
        **given(
            count=schedule.rounds if trains else None,
            warmup=schedule.warmup if trains else None,
            synthesis_steps=schedule.synthesis_steps if recipe.rounds.synthesis_steps else None,
            student_steps=schedule.student_steps if trains else None,
            synthesis_batch=schedule.synthesis_batch,
            batch=schedule.batch if schedule.batch is None or not recipe.pairs else schedule.batch // 2,
        ),
    )
    if recipe.images is None:
        rounds = replace(rounds, synthesis_steps=0, warmup=0)
    if schedule.warmup is None:  # a published warm-up in a budget shorter than it
        rounds = replace(rounds, warmup=min(rounds.warmup, rounds.count - 1))
    if rounds.warmup >= rounds.count:
        raise UserError(
            f"{where}: warmup={rounds.warmup} leaves no round for the student, rounds={rounds.count}"
        )
    images = recipe.images
    if schedule.generator_width is not None and isinstance(images, FreshGenerator):
        images = replace(images, width=schedule.generator_width)
    return replace(
        recipe,
        images=images,
        rounds=rounds,
        student=replace(recipe.student, **given(lr=schedule.student_lr)),
        optimiser=replace(recipe.optimiser, **given(lr=schedule.synthesis_lr)),
    )
