"""A trial: task x setting x method x seed x budget, resolved completely before it runs; and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rgal import __version__
from rgal.data import Dataset
from rgal.errors import UserError, nearest
from rgal.files import slug
from rgal.recipe import Recipe
from rgal.registry import Resolved, resolve
from rgal.suite.config import Budget, Schedule, Suite
from rgal.synthesis.images import FreshGenerator


@dataclass(frozen=True)
class Trial:
    """All that can change a trial's numbers, and (not part of the key) where things lie on this machine.

    data: fingerprint of the images. teacher_key: names the trained or given teacher. rounds, student, synthesis_lr:
    the schedule after the budget was applied. order: position of the method in the suite, for tables.
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

    PLACE = ("data_root", "order", "budget", "keep_pool")

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> str:
        """12 hex digits over everything that can change the numbers, the version of rgal included."""
        relevant = {k: v for k, v in self.settings().items() if k not in self.PLACE}
        relevant["device"] = self.device.partition(":")[0]
        return short_hash({"version": __version__, **relevant})

    @property
    def name(self) -> str:
        return slug(f"{self.task}-{self.dataset}-{self.teacher}-{self.student}-{self.method}-s{self.seed}")

    @property
    def setting(self) -> str:
        return f"{self.dataset} {self.teacher} -> {self.student}"

    def seed_parts(self) -> tuple[object, ...]:
        """What random streams depend on. The method is not in it: methods are compared on common draws."""
        return (self.task, self.dataset, self.teacher, self.student, self.seed)


def short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def schedule_for(budget: Budget, name: str, host: str) -> Schedule:
    """The budget's schedule with the exceptions for this method: its full name's, else its bare name's."""
    exception = budget.methods.get(name) or budget.methods.get(host) or Schedule()
    merged = {field: getattr(budget, field) for field in Schedule.model_fields}
    merged.update({k: v for k, v in exception.model_dump().items() if v is not None})
    return Schedule(**merged)


def apply_schedule(recipe: Recipe, schedule: Schedule, where: str) -> Recipe:
    """The recipe with a budget's numbers in place of its published ones.

    A budget's `batch` counts the images a student step sees, so that methods compare at equal cost: a recipe with
    paired views takes half as many images from the pool, twice.
    """

    def given(**fields: Any) -> dict[str, Any]:
        return {key: value for key, value in fields.items() if value is not None}

    rounds = replace(
        recipe.rounds,
        **given(
            count=schedule.rounds,
            warmup=schedule.warmup,
            synthesis_steps=schedule.synthesis_steps,
            student_steps=schedule.student_steps,
            synthesis_batch=schedule.synthesis_batch,
            batch=schedule.batch if schedule.batch is None or not recipe.pairs else schedule.batch // 2,
        ),
    )
    if not recipe.data_free:
        rounds = replace(rounds, synthesis_steps=0, warmup=0)
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


def resolve_trial_recipe(trial: Trial) -> Resolved:
    """The method's recipe under the trial's schedule."""
    schedule = Schedule(**trial.schedule)
    resolved = resolve(trial.method, schedule.parameters)
    return replace(resolved, recipe=apply_schedule(resolved.recipe, schedule, trial.method))


def teacher_key(suite: Suite, dataset: Dataset, precision: str) -> str:
    """Identifies the teacher: its weights file's content, or all that training it depends on."""
    if suite.teacher_weights:
        return "given-" + file_hash(Path(suite.teacher_weights))
    return short_hash(
        {
            "version": __version__,
            "net": suite.teacher,
            "data": dataset.spec.fingerprint,
            "evaluate_on": suite.evaluate_on,
            "precision": precision,
            **suite.chosen_budget().teacher_training.model_dump(),
        }
    )


def expand(suite: Suite, dataset: Dataset, device: str) -> list[Trial]:
    """Every trial of a suite: methods x seeds. UserError for anything that is wrong with a name or a number."""
    budget = suite.chosen_budget()
    precision = suite.precision or budget.precision
    resolved = [resolve(text) for text in suite.methods]
    _check_methods(suite, budget, resolved)
    key = teacher_key(suite, dataset, precision)
    trials = []
    for order, method in enumerate(resolved):
        schedule = schedule_for(budget, method.name, method.method.name)
        apply_schedule(resolve(method.name, schedule.parameters).recipe, schedule, method.name)
        for seed in suite.seeds:
            trials.append(
                Trial(
                    task=suite.task,
                    dataset=suite.dataset,
                    data=dataset.spec.fingerprint,
                    image_size=suite.image_size,
                    teacher=suite.teacher,
                    teacher_key=key,
                    student=suite.student,
                    method=method.name,
                    seed=seed,
                    budget=suite.budget,
                    schedule=schedule.model_dump(exclude_none=True),
                    evaluate_every=budget.evaluate_every,
                    evaluate_on=suite.evaluate_on,
                    precision=precision,
                    device=device,
                    data_root=suite.data_root,
                    order=order,
                    keep_pool=suite.keep_pool,
                )
            )
    return trials


def _check_methods(suite: Suite, budget: Budget, resolved: Sequence[Resolved]) -> None:
    names = [method.name for method in resolved]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"methods: '{doubled[0]}' is listed twice")
    for method in resolved:
        if suite.task not in method.method.tasks:
            raise UserError(
                f"method '{method.name}' is not for task '{suite.task}'; it is for: {', '.join(method.method.tasks)}"
            )
    for name in budget.methods:
        from rgal.registry import methods

        if name.partition("[")[0].partition("+")[0] not in methods():
            raise UserError(
                f"budgets.{suite.budget}.methods: unknown method '{name}'; {nearest(name, methods())}"
            )
