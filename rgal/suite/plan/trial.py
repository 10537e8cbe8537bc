"""A trial: task x setting x method x seed x budget, resolved completely before it runs; and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rgal import __version__
from rgal.core.errors import UserError
from rgal.core.files import slug
from rgal.methods.recipe import Recipe
from rgal.suite.plan.settings import Budget, Pair, Schedule
from rgal.synthesis.generators import FreshGenerator


@dataclass(frozen=True)
class Trial:
    """All that can change a trial's numbers, and (not part of the key) where things lie on this machine.

    data: fingerprint of the images. teacher_key: names the trained or given teacher. rounds, student, synthesis_lr:
    the schedule after the budget was applied. options: the task's own settings; case: the name of the one of its cases
    that this is. order: position of the method in the suite, for tables. setting: the tables' heading. code: hashes of
    the method's own file, and of networks' that plug-ins brought. plugins: files that must be loaded for it. init_pool:
    the images that its pool starts with; init_pool_key: a hash of them.
    """

    task: str
    dataset: str
    data: str
    image_size: int | None
    teacher: str
    teacher_key: str
    student: str
    method: str
    seed: int
    budget: str
    schedule: dict[str, Any]
    evaluate_every: int
    evaluate_on: str
    precision: str
    device: str
    data_root: str | None
    order: int
    keep_pool: bool
    setting: str
    options: dict[str, Any] = field(default_factory=dict)
    case: str = ""
    case_order: int = 0
    case_title: str = ""
    code: str = ""
    plugins: tuple[str, ...] = ()
    init_pool: str = ""
    init_pool_key: str = ""

    # What changes no number. The name of a case says what its options do.
    PLACE = (
        "data_root",
        "order",
        "budget",
        "keep_pool",
        "setting",
        "case",
        "case_order",
        "case_title",
        "plugins",
        "init_pool",
    )
    # Left out of the key while empty, so that trials without them keep theirs.
    OPTIONAL = ("init_pool_key",)

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> str:
        """12 hex digits over everything that can change the numbers, the version of rgal included."""
        relevant = {
            k: v for k, v in self.settings().items() if k not in self.PLACE and (v or k not in self.OPTIONAL)
        }
        relevant["device"] = self.device.partition(":")[0]
        return short_hash({"version": __version__, **relevant})

    @property
    def name(self) -> str:
        nets = [self.teacher] if self.student == self.teacher else [self.teacher, self.student]
        parts = [self.task, self.dataset, *nets, self.case, self.method, f"s{self.seed}"]
        return slug("-".join(part for part in parts if part))

    @property
    def title(self) -> str:
        """`w4a4 cmi seed 0`"""
        return " ".join(part for part in (self.case, self.method, f"seed {self.seed}") if part)

    def seed_parts(self) -> tuple[object, ...]:
        """What random streams depend on. The method is not in it: methods are compared on common draws."""
        return (self.task, self.dataset, self.teacher, self.student, self.seed)


def short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def schedule_for(budget: Budget, pair: Pair, swept: Mapping[str, Any], name: str, host: str) -> Schedule:
    """The budget's schedule; over it the exceptions for this method, its full name's, else its host's, else its bare
    name's: the budget's, then those for these networks; over it all what is swept."""
    names = (name, name.removesuffix("+rgal"), host)
    merged: dict[str, Any] = {field: getattr(budget, field) for field in Schedule.model_fields}
    for exceptions in (budget.methods, pair.methods):
        found = next((exceptions[one] for one in names if one in exceptions), Schedule())
        chosen = found.model_dump(exclude_none=True)
        parameters = {**(merged["parameters"] or {}), **chosen.get("parameters", {})}
        merged |= chosen | {"parameters": parameters or None}
    return Schedule(**{**merged, **swept})


def apply_schedule(recipe: Recipe, schedule: Schedule, where: str) -> Recipe:
    """The recipe with a budget's numbers in place of its published ones.

    A budget's `batch` counts the images a student step sees, so that methods compare at equal cost: a recipe with
    paired views takes half as many images from the pool, twice. Recipes that never train the student, or take no
    synthesis steps, keep it so.
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
