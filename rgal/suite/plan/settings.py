"""YAML and command line -> typed, checked settings. Unknown keys are refused with the nearest valid one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from rgal.core.errors import UserError
from rgal.suite.plan.steps import FORMULA, NUMBER, Count, Epochs, Steps, Strict, in_steps
from rgal.suite.plan.yaml_file import parse_yaml, read_yaml

NO_DATA = "none"  # the data set of networks whose data is gone
SAY_ON_WHAT = (
    "give a data set (--dataset NAME), or --dataset none with --classes N --image CxHxW and --mean, --std for a "
    "network whose data is gone"
)


class Schedule(Strict):
    """How long a method runs, and its parameters where a data set wants others. What is left out stays as published.

    student_steps: of a round, or by epochs of a phase's images; a trial's schedule has the number.
    student_weight_decay, student_drops: of the student's optimiser; drops, pairs of (share of the steps, factor of the
        learning rate), are for methods whose rate falls in steps of their own.
    """

    rounds: Count | None = Field(None, ge=1)
    warmup: Count | None = Field(None, ge=0)
    synthesis_steps: Count | None = Field(None, ge=0)
    student_steps: Steps | None = None
    synthesis_batch: Count | None = Field(None, ge=2)
    batch: Count | None = Field(None, ge=2)
    student_lr: float | None = Field(None, gt=0)
    student_weight_decay: float | None = Field(None, ge=0)
    student_drops: tuple[tuple[float, float], ...] | None = None
    synthesis_lr: float | None = Field(None, gt=0)
    generator_width: Count | None = Field(None, ge=1)
    parameters: dict[str, StrictBool | float | str] | None = None


_NUMBERS = frozenset(Schedule.model_fields) - {"parameters"}


class _Teaching(Strict):
    """How a teacher is trained when no weights are given: SGD, momentum 0.9, linear warm-up, then cosine."""

    batch: Count = Field(128, ge=2)
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    lr_warmup: float = Field(0.1, ge=0, lt=1)
    seed: Count = 0


class TeacherRecipe(_Teaching):
    """A teacher's recipe with its number of steps."""

    steps: Count = Field(2000, ge=1)


class TeacherTraining(_Teaching):
    """A teacher's recipe as a suite file has it: its steps may be said by epochs."""

    steps: Steps = 2000

    def recipe(self, images: int) -> TeacherRecipe:
        """Make the recipe of a teacher that learns this many images."""
        given = self.model_dump(exclude={"steps"})
        return TeacherRecipe(steps=in_steps(self.steps, images, self.batch), **given)


class HeldOut(Strict):
    """The images that students are judged on where there are no test images; see `rgal.engine.held_out`."""

    images: Count = Field(512, ge=2)
    steps: Count = Field(250, ge=1)
    batch: Count = Field(128, ge=2)


class Network(Strict):
    """What a user says of the images of the networks: all of it without a data set, else only what differs from it.

    image: such as 3x48x48. mean, std: of each channel, or one number for all, for pixels in [0,1]. normalise: the usual
    ones by name. flip: whether a mirrored image keeps its label.
    """

    classes: Count | None = Field(None, ge=2)
    image: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    normalise: str | None = None
    flip: StrictBool | None = None


class Budget(Schedule):
    """A named budget: a schedule for all methods, exceptions by method, the teacher's recipe, held-out images."""

    evaluate_every: Count = Field(1, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    teacher_training: TeacherTraining = TeacherTraining()
    held_out: HeldOut = HeldOut()
    methods: dict[str, Schedule] = {}


class Pair(Strict):
    """A teacher and a student of a suite that compares several, and what its methods want for these two."""

    teacher: str
    student: str | None = None
    methods: dict[str, Schedule] = {}


class Suite(Strict):
    """One suite file, after the command line had its say. Networks: `teacher` and `student`, or several `pairs`.

    dataset: where images come from; none: there are none, and `network` says what images the networks take.
    calibration: a folder of real images without labels, for ranges of quantizers and to judge students on.
    test_split: which of a folder's splits is its test split, where it has a labelled validation split beside it.
    teachers: how many teachers of a network are trained, which the seeds take in turns; None: one for each seed.
    allow_weak_teacher: whether given weights may be hardly better than chance.
    sweep: one number of the schedule and the values that every method runs at, such as synthesis_batch: [32, 64].
    """

    task: str = "kd"
    title: str = ""
    dataset: str
    data_root: str | None = None
    network: Network = Network()
    calibration: str | None = None
    image_size: Count | None = Field(None, ge=4)
    teacher: str | None = None
    student: str | None = None
    pairs: tuple[Pair, ...] = ()
    options: dict[str, Any] = {}
    teacher_weights: str | None = None
    teachers: Count | None = Field(None, ge=1)
    allow_weak_teacher: StrictBool = False
    methods: tuple[str, ...]
    seeds: tuple[Count, ...] = (0,)
    budget: str = "small"
    budgets: dict[str, Budget]
    evaluate_on: Literal["test", "validation"] = "test"
    test_split: Literal["test", "validation"] | None = None
    device: str = "auto"
    precision: Literal["fp32", "bf16"] | None = None
    keep_pool: StrictBool = False
    init_pool: str | None = None
    plugins: tuple[str, ...] = ()
    sweep: dict[str, tuple[StrictInt | float, ...]] = {}
    _fixed: frozenset[str] = PrivateAttr(default=frozenset())
    _assignments: tuple[str, ...] = PrivateAttr(default=())

    @property
    def fixed(self) -> frozenset[str]:
        """The numbers of the schedule that the command line says for all methods, whatever budgets they bring."""
        return self._fixed

    @property
    def assignments(self) -> tuple[str, ...]:
        """What the command line says after `--set`."""
        return self._assignments

    @property
    def networks(self) -> tuple[Pair, ...]:
        return self.pairs or (Pair(teacher=self.teacher or "", student=self.student),)

    @model_validator(mode="before")
    @classmethod
    def _says_on_what(cls, data: Any) -> Any:
        """Take a network that is described for one without data; nothing else is guessed."""
        if isinstance(data, dict) and data.get("dataset") is None:
            if not isinstance(data.get("network"), dict):
                raise ValueError(f"dataset: missing; {SAY_ON_WHAT}")
            return data | {"dataset": NO_DATA}
        return data

    @model_validator(mode="after")
    def _one_or_several(self) -> Suite:
        if bool(self.pairs) == bool(self.teacher or self.student) or not (self.pairs or self.teacher):
            raise ValueError("networks: expected a teacher (and student), or pairs of them")
        names = [(pair.teacher, pair.student) for pair in self.pairs]
        if len(set(names)) < len(names):
            raise ValueError("pairs: one stands there twice")
        if self.pairs and self.teacher_weights and not Path(self.teacher_weights).is_dir():
            raise ValueError(
                "teacher_weights: a file is that of one network; choose a pair with --teacher and --student, or give "
                "a folder of files called as the networks"
            )
        return self

    @field_validator("sweep")
    @classmethod
    def _one_number(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        numbers = [name for name in Schedule.model_fields if name in _NUMBERS - {"student_drops"}]
        if len(value) > 1 or not set(value) <= set(numbers):
            raise ValueError(f"expected one of {', '.join(numbers)} with a list of values")
        for name, values in value.items():
            for one in values:
                Schedule(**{name: one})
            if len(values) < 2 or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected several values, each once")
        return value

    @field_validator("methods", "seeds")
    @classmethod
    def _some_and_distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("at least one is needed")
        if doubled := sorted({v for v in value if value.count(v) > 1}):
            raise ValueError(f"given twice: {', '.join(map(str, doubled))}")
        return value

    def teacher_of(self, seed: int) -> int:
        """Which of the suite's teachers a seed distils from, so that all methods of a seed share one."""
        return seed if self.teachers is None else seed % self.teachers

    @property
    def asked_precision(self) -> Literal["fp32", "bf16"]:
        """The precision that the suite, or else its budget, asks for."""
        return self.precision or self.chosen_budget().precision

    def chosen_budget(self) -> Budget:
        if self.budget not in self.budgets:
            valid = ", ".join(self.budgets)
            raise UserError(f"this suite has no budget '{self.budget}'; valid: {valid}")
        return self.budgets[self.budget]


def load_suite(
    path: Path,
    overrides: Mapping[str, Any],
    assignments: tuple[str, ...] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
    network: Mapping[str, Any] = MappingProxyType({}),
) -> Suite:
    """Read a suite file, apply command-line overrides (None = not given) and `--set key=value` assignments.

    `extends: FILE` takes what the file leaves out from another one beside it; of the budgets, those of other names.
    Dotted keys reach inside (`budgets.small.rounds`); a bare budget key (`rounds=5`) goes to the chosen budget, and to
    every method of it; any other one is an option of the task, as are those in `options`, and checked by it.
    `network`: what the command line says of the networks' images.
    """
    data = _with_base(path)
    data.update({key: value for key, value in overrides.items() if value is not None})
    if overrides.get("teacher"):
        data.pop("pairs", None)
    given = {key: value for key, value in options.items() if value is not None}
    if given and isinstance(data.setdefault("options", {}), dict):
        data["options"].update(given)
    _describe_network(data, {key: value for key, value in network.items() if value is not None})
    for assignment in assignments:
        _assign(data, assignment)
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        raise UserError(_explain(error, path, assignments)) from error
    suite._assignments = assignments
    keys = {assignment.partition("=")[0] for assignment in assignments}
    suite._fixed = frozenset(keys & _NUMBERS)
    return suite


def _describe_network(data: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Put what the command line says in place of what the file does: a name also takes the place of numbers."""
    if said and isinstance(data.setdefault("network", {}), dict):
        replaced = {"mean", "std", "normalise"} if {"mean", "std", "normalise"} & set(said) else set()
        kept = {key: value for key, value in data["network"].items() if key not in replaced}
        data["network"] = kept | dict(said)


def _with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A suite file's settings, over those of the file that it extends."""
    data = read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str) or Path(base).name != base:
        raise UserError(f"{path}: extends: expected the name of a file in the same folder, found {base!r}")
    if path in above:
        raise UserError(f"{path}: extends: the files extend each other in a circle")
    below = _with_base(path.parent / base, (*above, path))
    if isinstance(data.get("budgets"), dict) and isinstance(below.get("budgets"), dict):
        data["budgets"] = below["budgets"] | data["budgets"]
    return below | data


def _assign(data: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not text.strip() or not all(part.strip() for part in key.split(".")):
        raise UserError(f"--set {assignment}: expected key=value")
    parts = key.split(".")
    if parts[0] not in Suite.model_fields:
        inside_budget = parts[0] in Budget.model_fields
        parts = [*(["budgets", data.get("budget", "small")] if inside_budget else ["options"]), *parts]
    target = data
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        if not isinstance(target[part], dict):
            raise UserError(f"--set {assignment}: '{part}' holds a value, not a group of settings")
        target = target[part]
    value = parse_yaml(text, f"--set {assignment}: the value is not valid YAML")
    if isinstance(value, str):
        value = _number(value)
    target[parts[-1]] = value
    if key in _NUMBERS:
        _drop_exceptions(data, key)


def _drop_exceptions(data: dict[str, Any], key: str) -> None:
    """Of methods, from what the command line says for all of them. What is malformed is refused later."""
    places = [data.get("budgets"), *(data["pairs"] if isinstance(data.get("pairs"), list) else [])]
    if isinstance(places[0], dict):
        places[0] = places[0].get(data.get("budget", "small"))
    for place in places:
        exceptions = place.get("methods") if isinstance(place, dict) else None
        for schedule in exceptions.values() if isinstance(exceptions, dict) else ():
            if isinstance(schedule, dict):
                schedule.pop(key, None)


def _number(text: str) -> Any:
    """YAML 1.1 reads 1e-3 as a string; people mean a number."""
    try:
        return float(text)
    except ValueError:
        return text


def suggest(name: str, valid: list[str]) -> str:
    """`unknown key 'rouns', did you mean 'rounds'?`"""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f", did you mean '{close[0]}'?" if close else ""
    return f"unknown key '{name}'{hint}"


def assigned(parts: Iterable[int | str], assignments: Iterable[str]) -> str:
    """Return the `--set key=value` that gave the setting at this place; "" if none did.

    >>> assigned(("budgets", "small", "rounds"), ["batch=8", "rounds=abc"])
    '--set rounds=abc'
    """
    place = ".".join(map(str, parts))
    texts = {text: text.partition("=")[0] for text in assignments}
    own = [
        text
        for text, key in texts.items()
        if f".{place}.".endswith(f".{key}.") or f"{place}.".startswith(f"{key}.")
    ]
    return f"--set {own[-1]}" if own else ""


def _explain(error: ValidationError, file: Path, assignments: Iterable[str] = ()) -> str:
    """The first problem of a validation error as one line: who said it, key, what was found, what is valid."""
    problem = error.errors()[0]
    path = assigned([part for part in problem["loc"] if part not in (NUMBER, FORMULA)], assignments) or file
    where = ".".join(str(part) for part in problem["loc"] if part not in (NUMBER, FORMULA))
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(problem["loc"][:-1])
        return (
            f"{path}: {where}: {suggest(str(problem['loc'][-1]), fields)}; valid: {', '.join(sorted(fields))}"
        )
    message = problem["msg"].removeprefix("Value error, ")
    if not where:  # of several settings together: all of them would be no help
        return f"{path}: {message}"
    found = "" if problem["type"] == "missing" else f", found {problem['input']!r}"
    return f"{path}: {where}: {message}{found}".replace("\n", " ")


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Names of the settings at a place of the suite, for the message."""
    if FORMULA in location:
        return list(Epochs.model_fields)
    if location[:1] == ("network",):
        return list(Network.model_fields)
    if location[:1] == ("budgets",):
        if "held_out" in location:
            return list(HeldOut.model_fields)
        if "methods" in location:
            return list(Schedule.model_fields)
        return list(TeacherRecipe.model_fields if "teacher_training" in location else Budget.model_fields)
    return list(Suite.model_fields)
