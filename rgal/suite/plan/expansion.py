"""A suite, expanded: networks x cases x methods x seeds, every trial resolved completely before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rgal import nets
from rgal.core.code import code_hash
from rgal.core.cores import runnable
from rgal.core.errors import UserError
from rgal.data import Dataset
from rgal.methods.names import MethodName
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Resolved, methods, resolve
from rgal.suite.plan.budget import Taken, read_entries
from rgal.suite.plan.initial_pool import initial_pool_key, samples_from_pool
from rgal.suite.plan.network import NOTHING
from rgal.suite.plan.planned import plan_method
from rgal.suite.plan.settings import Budget, Pair, Suite, TeacherRecipe, assigned, suggest
from rgal.suite.plan.steps import Epochs
from rgal.suite.plan.trial import HELD_OUT, Trial, file_hash, short_hash
from rgal.suite.plan.weights import weights_of

if TYPE_CHECKING:
    from rgal.suite.pretraining import Pretraining
    from rgal.suite.task import Task


def expand(
    suite: Suite, task: Task, dataset: Dataset, device: str, given: Mapping[str, Any] = NOTHING
) -> list[Trial]:
    """Every trial of a suite. UserError for anything that is wrong with a name or a number.

    given: what the user says of the images, and which real ones there are, as trials hold it.
    """
    options = check_options(suite, task)
    _check_exceptions(suite, task)
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [(*case, {}) for case in task.cases(options)]
    if suite.sweep:
        if task.case_title:
            raise UserError(f"sweep: task '{task.name}' runs every method in cases of its own; leave it out")
        ((name, values),) = suite.sweep.items()
        cases = [(f"{value:g}", cases[0][1], {name: value}) for value in values]
    settings = _settings(suite, task, dataset, device, given)
    initial = _initial(settings[0], cases[0][2])
    return [
        trial
        for setting in settings
        for position, case in enumerate(cases)
        for trial in setting.trials(position, *case, initial)
    ]


def entries_taken(suite: Suite, task: Task, dataset: Dataset, device: str) -> dict[tuple[str, str, str], str]:
    """Say which of a suite's exceptions each method takes, by (teacher, student, method); see `nearest_entry`."""
    return {
        (setting.common["teacher"], setting.common["student"], resolved.name): taken.describe(suite.budget)
        for setting in _settings(suite, task, dataset, device)
        for resolved, taken in setting.chosen({})
    }


def untuned(suite: Suite, task: Task, dataset: Dataset, device: str) -> list[str]:
    """Name the methods that run what the budget says for all, in a table where others have a schedule of their own.

    Reference rows and methods that take no steps are left out, and so are budgets that say no number of steps: there
    every method runs what its authors published.
    """
    budget, named = suite.chosen_budget(), []
    if not (budget.rounds or budget.synthesis_steps or budget.student_steps):
        return []
    for setting in _settings(suite, task, dataset, device):
        compared = [
            (one, taken) for one, taken in setting.chosen({}) if one.recipe.data_free and _steps(one.recipe)
        ]
        if any(taken.tuned for _, taken in compared):
            named += [one.name for one, taken in compared if not taken.tuned]
    return list(dict.fromkeys(named))


def _settings(
    suite: Suite, task: Task, dataset: Dataset, device: str, given: Mapping[str, Any] = NOTHING
) -> list[_Setting]:
    options = check_options(suite, task)
    return [_Setting(suite, task, dataset, device, pair, options, given) for pair in suite.networks]


def _steps(recipe: Recipe) -> int:
    return sum(recipe.total_steps().values())


def _initial(setting: _Setting, swept: Mapping[str, Any]) -> dict[str, str]:
    """What a trial that starts from the suite's pool knows of it. All settings have the methods of this one."""
    path = setting.suite.init_pool
    if path is None:
        return {}
    resolved = [resolved for resolved, _ in setting.chosen(swept)]
    return {
        "init_pool": path,
        "init_pool_key": initial_pool_key(path, setting.task, resolved, setting.dataset),
    }


@dataclass(frozen=True)
class _Setting:
    """One pair of networks of a suite."""

    suite: Suite
    task: Task
    dataset: Dataset
    device: str
    pair: Pair
    options: Any
    given: Mapping[str, Any]

    def trials(
        self,
        position: int,
        case: str,
        options: dict[str, Any],
        swept: Mapping[str, Any],
        initial: Mapping[str, str],
    ) -> list[Trial]:
        """Methods x seeds of one case, the `position`th; swept: what of the schedule makes it one; initial: the pool of
        those that can start from one."""
        chosen = self.chosen(swept)
        codes = ["-".join([resolved.method.code, *self.foreign_code]) for resolved, _ in chosen]
        return [
            Trial(
                method=resolved.name,
                seed=seed,
                schedule=taken.schedule.model_dump(mode="json", exclude_none=True),
                order=order,
                teacher_key=self.teacher_key(resolved.recipe, seed),
                options=options,
                case=case,
                case_order=position if swept else self.task.case_order(case, position),
                code=codes[order],
                **self.common,
                **(initial if samples_from_pool(resolved.recipe) else {}),  # type: ignore[arg-type]
            )
            for order, (resolved, taken) in enumerate(chosen)
            for seed in self.suite.seeds
        ]

    @cached_property
    def common(self) -> dict[str, Any]:
        suite, pair, budget = self.suite, self.pair, self.suite.chosen_budget()
        student = pair.student or pair.teacher
        heading = self.task.setting(suite.dataset, pair.teacher, student, self.options)
        swept = next((name.replace("_", " ") for name in suite.sweep), "")
        heading += f", by {swept}" if swept else ""
        return {
            "task": suite.task,
            "dataset": suite.dataset,
            "data": self.dataset.spec.fingerprint,
            "image_size": suite.image_size,
            "teacher": pair.teacher,
            "student": student,
            "budget": suite.budget,
            "evaluate_every": budget.evaluate_every,
            "evaluate_on": suite.evaluate_on if self.dataset.has_test else HELD_OUT,
            "precision": runnable(suite.asked_precision, self.device),
            "device": self.device,
            "data_root": suite.data_root,
            "keep_pool": suite.keep_pool,
            "setting": heading + (", on validation images" if suite.evaluate_on == "validation" else ""),
            "case_title": swept.capitalize() or self.task.case_title,
            "plugins": suite.plugins,
            **self.given,
        }

    @cached_property
    def foreign_code(self) -> list[str]:
        """Hashes of the code of networks that are not ours, and of the task if it is a plug-in's."""
        names = {self.pair.teacher, self.common["student"]}
        own = type(self.task).__module__.startswith("rgal.")
        of_task = "" if own else code_hash(type(self.task).__module__)
        return sorted({of_task, *(nets.code_of(name) for name in names)} - {""})

    @cached_property
    def teacher_code(self) -> str:
        return nets.code_of(self.pair.teacher)

    @cached_property
    def given_key(self) -> str:
        """Of the teacher's weights file: read once, however many trials there are."""
        given = "given-" + file_hash(weights_of(str(self.suite.teacher_weights), self.pair.teacher))
        return f"{given}-{self.teacher_code[:6]}" if self.teacher_code else given

    def teacher_key(self, recipe: Recipe, seed: int) -> str:
        """Identify a trial's teacher by its weights file's content, or by all that was asked for of its training."""
        suite = self.suite
        teacher = suite.teacher_of(seed)
        purpose = self.task.pretraining(self.dataset, recipe, teacher, self.options)
        if suite.teacher_weights:
            if purpose.own:
                raise UserError(
                    f"--teacher-weights {suite.teacher_weights}: a method of this suite trains a first model of its "
                    "own; leave it out, or run it without given weights"
                )
            given = self.given_key
            # Weights for other classes are checked and measured anew.
            classes = purpose.identity.get("classes")
            return f"{given}-{short_hash(classes)[:6]}" if classes else given
        return short_hash(
            {
                "net": self.pair.teacher,
                "data": self.dataset.spec.fingerprint,
                "evaluate_on": suite.evaluate_on,
                "precision": self.common["precision"],
                **teacher_recipe(suite, purpose, teacher, self.teacher_images).model_dump(),
                **purpose.identity,
                **({"network": self.given["network"]} if self.given.get("network") else {}),
                **({"code": self.teacher_code} if self.teacher_code else {}),
            }
        )

    @cached_property
    def phase_images(self) -> tuple[int, int]:
        return self.task.phase_images(self.dataset, self.options)

    @cached_property
    def teacher_images(self) -> int:
        return images_of_teacher(self.suite, self.task, self.dataset, self.options)

    def chosen(self, swept: Mapping[str, Any]) -> list[tuple[Resolved, Taken]]:
        """`methods`, resolved once for all cases in which nothing of the schedule is swept."""
        return self.methods(swept) if swept else self._unswept

    @cached_property
    def _unswept(self) -> list[tuple[Resolved, Taken]]:
        return self.methods({})

    def methods(self, swept: Mapping[str, Any]) -> list[tuple[Resolved, Taken]]:
        """The suite's methods on the task, each with its schedule."""
        suite, task = self.suite, self.task
        planned: list[tuple[Resolved, Taken]] = []
        for text in expand_names(self._named(), task, self._has_data_for):
            scheduled, taken = plan_method(task, text, suite, self.pair, lambda: self.phase_images[1], swept)
            if not self._has_data_for(scheduled):
                raise UserError(_lacks_data(scheduled, suite.dataset, task.calibration_row))
            task.check(scheduled.recipe, self.dataset)
            planned.append((scheduled, taken))
        names = [resolved.name for resolved, _ in planned]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"methods: '{doubled[0]}' is listed twice")
        return planned

    def _named(self) -> tuple[str, ...]:
        """The suite's methods, and the row of given real images where there are any and the task has one."""
        row = self.task.calibration_row
        extra = (row,) if self.suite.calibration and row and row not in self.suite.methods else ()
        return (*self.suite.methods, *extra)

    def _has_data_for(self, resolved: Resolved) -> bool:
        """Whether there are the real images that a method works on."""
        if resolved.method.name == self.task.calibration_row:
            return self.suite.calibration is not None
        if resolved.recipe.source == "given":
            return self.suite.init_pool is not None
        return resolved.recipe.data_free or self.dataset.has_train


def images_of_teacher(suite: Suite, task: Task, dataset: Dataset, options: Any) -> int:
    """Count the images a teacher learns where its steps are so many passes over them; elsewhere nothing is read."""
    by_epochs = isinstance(suite.chosen_budget().teacher_training.steps, Epochs)
    return task.phase_images(dataset, options)[0] if by_epochs else 0


def teacher_recipe(suite: Suite, purpose: Pretraining, teacher: int, images: int) -> TeacherRecipe:
    """How one of a suite's teachers is trained: its seed is its number, added to that of the suite's recipe.

    Args:
        suite: which says how its teachers are trained.
        purpose: what the teacher is for, which may have a seed of its own.
        teacher: its number, see `Suite.teacher_of`.
        images: how many it learns, of which its steps may be so many passes.
    """
    recipe = suite.chosen_budget().teacher_training.recipe(images)
    return recipe.model_copy(update={"seed": purpose.identity.get("seed", recipe.seed + teacher)})


def check_options(suite: Suite, task: Task) -> Any:
    """The suite's options as the task's own type."""
    for pair in suite.networks:
        if task.needs_student != bool(pair.student):
            raise UserError(
                f"task '{task.name}' needs a student network: give --student, or `student:` in the suite file"
                if task.needs_student
                else f"task '{task.name}' makes its student from the teacher; leave out --student {pair.student}"
            )
    try:
        return task.options.model_validate(suite.options)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str((*problem["loc"], "options")[0])  # no place where a name is no text that a file can hold
        said = assigned(problem["loc"], suite.assignments)
        before = f"{said}: " if said else ""
        if problem["type"] == "extra_forbidden":
            own = ", ".join(task.options.model_fields) or "none"
            hint = suggest(key, [*task.options.model_fields, *Suite.model_fields, *Budget.model_fields])
            raise UserError(f"{before}{hint}; options of task '{task.name}': {own}") from error
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{before}{key}: {message}, found {problem['input']!r}") from error


def _lacks_data(resolved: Resolved, dataset: str, row: str) -> str:
    if resolved.method.name == row:
        return f"method '{resolved.name}' works on given real images; give --calibration DIR"
    if resolved.recipe.source == "given":
        return f"method '{resolved.name}' works on given images alone; give --init-pool PATH"
    return f"method '{resolved.name}' trains on real images, and data set '{dataset}' has none; leave it out"


def expand_names(
    names: Iterable[str], task: Task, able: Callable[[Resolved], bool] = lambda resolved: True
) -> list[str]:
    """Put the methods they stand for in place of the groups "all" and "all+rgal".

    "all" is every method of the task, "all+rgal" every data-free one with RGAL, but for those that refuse it and the
    host of a method that is this already. A group leaves out what was named before it, and methods for whose real
    images there are none.

    Args:
        names: as a suite has them.
        task: whose methods there are.
        able: whether there are the real images that a method works on.
    """
    names = list(names)
    if not {"all", "all+rgal"} & {*names}:
        return names
    of_task = {
        name: method for name, method in methods().items() if task.runs(method) and able(resolve(name))
    }
    plugged = {method.function for method in of_task.values() if method.with_rgal}
    hosts = [name for name, method in of_task.items() if method.function not in plugged]
    groups = {
        "all": list(of_task),
        "all+rgal": [
            str(MethodName(name, plugin=()))
            for name in hosts
            if resolve(name).recipe.data_free and _takes_rgal(name)
        ],
    }
    expanded: list[str] = []
    for name in names:
        expanded += [one for one in groups[name] if one not in expanded] if name in groups else [name]
    return expanded


def _takes_rgal(name: str) -> bool:
    """Tell whether RGAL can be added to a method."""
    try:
        resolve(str(MethodName(name, plugin=())))
    except UserError:
        return False
    return True


def _check_exceptions(suite: Suite, task: Task) -> None:
    """Check the names that have a schedule of their own.

    Raises:
        UserError: one is that of no method, or has parameters that the method has not.
    """
    places = {f"budgets.{suite.budget}.methods": suite.chosen_budget().methods}
    places |= {f"pairs.{i}.methods": pair.methods for i, pair in enumerate(suite.pairs)}
    for where, exceptions in places.items():
        try:
            read_entries(exceptions, task.defaults)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
