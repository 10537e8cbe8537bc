"""A trial: task x setting x method x seed x budget, resolved completely before it runs; and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rgal import __version__, nets
from rgal.data import Dataset
from rgal.errors import UserError, nearest
from rgal.files import slug
from rgal.recipe import Recipe
from rgal.registry import Resolved, methods, resolve
from rgal.suite.config import Budget, Schedule, Suite, suggest
from rgal.synthesis.images import FreshGenerator

if TYPE_CHECKING:
    from rgal.suite.task import Task


@dataclass(frozen=True)
class Trial:
    """All that can change a trial's numbers, and (not part of the key) where things lie on this machine.

    data: fingerprint of the images. teacher_key: names the trained or given teacher. rounds, student, synthesis_lr:
    the schedule after the budget was applied. options: the task's own settings; case: the name of the one of its cases
    that this is. order: position of the method in the suite, for tables. setting: the tables' heading. code: hashes of
    the method's own file, and of networks' that plug-ins brought. plugins: files that must be loaded for it.
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
    )

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


def schedule_for(budget: Budget, name: str, host: str) -> Schedule:
    """The budget's schedule with the exceptions for this method: its full name's, else its bare name's."""
    exception = budget.methods.get(name) or budget.methods.get(host) or Schedule()
    merged = {field: getattr(budget, field) for field in Schedule.model_fields}
    merged.update({k: v for k, v in exception.model_dump().items() if v is not None})
    return Schedule(**merged)


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


def teacher_key(suite: Suite, dataset: Dataset, precision: str, identity: Mapping[str, Any]) -> str:
    """Identifies the teacher: its weights file's content, or all that training it depends on."""
    if suite.teacher_weights:
        given = "given-" + file_hash(Path(suite.teacher_weights))
        classes = identity.get("classes")  # weights for other classes are checked and measured anew
        return f"{given}-{short_hash(classes)[:6]}" if classes else given
    return short_hash(
        {
            "version": __version__,
            "net": suite.teacher,
            "data": dataset.spec.fingerprint,
            "evaluate_on": suite.evaluate_on,
            "precision": precision,
            **suite.chosen_budget().teacher_training.model_dump(),
            **identity,
            **({"code": code} if (code := nets.code_of(suite.teacher)) else {}),
        }
    )


def expand(suite: Suite, task: Task, dataset: Dataset, device: str) -> list[Trial]:
    """Every trial of a suite: cases x methods x seeds. UserError for anything that is wrong with a name or a number."""
    options = check_options(suite, task)
    student = suite.student or suite.teacher
    budget = suite.chosen_budget()
    precision = suite.precision or budget.precision
    chosen_methods = _methods(suite, task, budget)
    for resolved, _ in chosen_methods:
        task.check(resolved.recipe, dataset)
    common = {
        "task": suite.task,
        "dataset": suite.dataset,
        "data": dataset.spec.fingerprint,
        "image_size": suite.image_size,
        "teacher": suite.teacher,
        "student": student,
        "budget": suite.budget,
        "evaluate_every": budget.evaluate_every,
        "evaluate_on": suite.evaluate_on,
        "precision": precision,
        "device": device,
        "data_root": suite.data_root,
        "keep_pool": suite.keep_pool,
        "setting": task.setting(suite.dataset, suite.teacher, student, options)
        + (", on validation images" if suite.evaluate_on == "validation" else ""),
        "case_title": task.case_title,
        "plugins": suite.plugins,
    }
    brought = {nets.code_of(name) for name in (suite.teacher, student)} - {""}

    def key(recipe: Recipe, seed: int) -> str:
        purpose = task.pretraining(dataset, recipe, seed, options)
        if suite.teacher_weights and purpose.own:
            raise UserError(
                f"--teacher-weights {suite.teacher_weights}: a method of this suite trains a first model of its own; "
                "leave it out, or run it without given weights"
            )
        return teacher_key(suite, dataset, precision, purpose.identity)

    return [
        Trial(
            method=resolved.name, seed=seed, schedule=schedule.model_dump(exclude_none=True), order=order,
            teacher_key=key(resolved.recipe, seed), options=chosen, case=case,
            case_order=task.case_order(case, position), code="-".join([resolved.method.code, *sorted(brought)]),
            **common,  # type: ignore[arg-type]
        )
        for position, (case, chosen) in enumerate(task.cases(options))
        for order, (resolved, schedule) in enumerate(chosen_methods)
        for seed in suite.seeds
    ]  # fmt: skip


def check_options(suite: Suite, task: Task) -> Any:
    """The suite's options as the task's own type."""
    if task.needs_student != bool(suite.student):
        raise UserError(
            f"task '{task.name}' needs a student network: give --student, or `student:` in the suite file"
            if task.needs_student
            else f"task '{task.name}' makes its student from the teacher; leave out --student {suite.student}"
        )
    try:
        return task.options.model_validate(suite.options)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            own = ", ".join(task.options.model_fields) or "none"
            hint = suggest(key, [*task.options.model_fields, *Suite.model_fields, *Budget.model_fields])
            raise UserError(f"{hint}; options of task '{task.name}': {own}") from error
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{key}: {message}, found {problem['input']!r}") from error


def expand_names(names: Iterable[str], task: str) -> list[str]:
    """The names, with every method of the task in place of "all" and every data-free one with RGAL in place of
    "all+rgal", but for those that are there already."""
    known = {name: method for name, method in methods().items() if task in method.tasks}
    groups = {
        "all": list(known),
        "all+rgal": [f"{name}+rgal" for name in known if name != "rgal" and resolve(name).recipe.data_free],
    }
    found: list[str] = []
    for name in names:
        found += [one for one in groups[name] if one not in found] if name in groups else [name]
    return found


def _methods(suite: Suite, task: Task, budget: Budget) -> list[tuple[Resolved, Schedule]]:
    """The suite's methods on the task, each with its schedule."""
    found: list[tuple[Resolved, Schedule]] = []
    for text in expand_names(suite.methods, suite.task):
        method = resolve(text, None, task.defaults)
        if suite.task not in method.method.tasks:
            raise UserError(
                f"method '{method.name}' is not for task '{suite.task}'; it is for: {', '.join(method.method.tasks)}"
            )
        schedule = schedule_for(budget, method.name, method.method.name)
        found.append((task.recipe(text, schedule), schedule))
    names = [resolved.name for resolved, _ in found]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"methods: '{doubled[0]}' is listed twice")
    for name in budget.methods:
        if name.partition("[")[0].partition("+")[0] not in methods():
            raise UserError(
                f"budgets.{suite.budget}.methods: unknown method '{name}'; {nearest(name, methods())}"
            )
    return found
