"""The task of non-exemplar class-incremental learning: classes come in phases, no image of an earlier one is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field, StrictInt
from torch import nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.data import Dataset
from rgal.methods.recipe import Recipe
from rgal.suite.measures import Measure, costs
from rgal.suite.plan.steps import Strict
from rgal.suite.pretraining import Pretraining
from rgal.suite.task import Job, Task
from rgal.tasks.class_incremental.groups import IncrementalAugmentation
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.phases import Phases, seen_test
from rgal.tasks.class_incremental.protocol import Protocol, make_protocol
from rgal.tasks.class_incremental.recipes import RGAL_DEFAULTS, incremental, pool_replay
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.spec import IncrementalSpec, spec_of
from rgal.tasks.class_incremental.terms import replay_learning

# The primary number is the average incremental accuracy (AIA).
MEASURES = (
    Measure(
        "aia", "AIA", "%", better="higher", bounds="percentage", spread=True, tables=("plugin",), published="protocol",
        note="AIA: average incremental accuracy, the mean over all phases, the base included, of the top-1 on all "
        "classes seen so far.",
    ),
    Measure(
        "last", "Last", "%", better="higher", bounds="percentage", spread=True, tables=("plugin",),
        published="protocol",
        note="Last: top-1 on all classes after the last phase; old and new: on the classes of earlier phases and of "
        "the last one.",
    ),
    Measure(
        "forgetting", "Forgetting", "points", better="lower", spread=True, short="Forgetting",
        note="Forgetting: what an earlier phase's classes reached at best before the last phase, minus what they reach "
        "after it, mean over these phases.",
    ),
    Measure(
        "old_top1", "Old", "%", bounds="percentage", name="old", group="Last phase (%)", short="old"
    ),
    Measure(
        "new_top1", "New", "%", bounds="percentage", name="new", group="Last phase (%)", short="new"
    ),
    *costs("Learning"),
    Measure(
        "memory_mb", "Kept", "MB", 3, place="back", optional=True,
        note="Kept: what stays between phases beside the model.",
    ),
    Measure("aia_without_base", "AIA without base", "%", bounds="percentage", place="csv"),
    Measure("initial_forgetting", "Initial forgetting", "points", place="csv"),
    Measure("bwt", "Backward transfer", "points", place="csv"),
    Measure("task_mean", "Task mean", "%", bounds="percentage", place="csv"),
    Measure("base_top1", "Base top-1", "%", bounds="percentage", place="csv"),
)  # fmt: skip


class Options(Strict):
    """Say which classes come when: `base` first, then `step` in each phase, or as many as `step` lists for each.

    See `class_incremental.protocol`.
    """

    base: StrictInt = Field(4, ge=1)
    step: Annotated[StrictInt, Field(ge=1)] | list[Annotated[StrictInt, Field(ge=1)]] = 2
    order: str = "seed1993"


def protocol_of(dataset: Dataset, options: Options) -> Protocol:
    """Return the protocol that the options name. Raises UserError if it does not fit the data set."""
    return make_protocol(dataset.spec.classes, options.base, options.step, options.order)


def _phases(options: Options) -> str:
    """Say in words how many classes the phases after the base add."""
    if isinstance(options.step, int):
        return f"{options.step} a phase"
    return f"{', '.join(map(str, options.step))} in phases"


def check_batches(recipe: Recipe) -> None:
    """Raise UserError for a recipe whose batches would lose the labels that this task gives them."""
    if recipe.pairs or recipe.fmix:
        option = "pairs" if recipe.pairs else "fmix"
        raise UserError(f"{option}=true is not for task 'necil', whose batches have labels of their own")


class ClassIncremental(Task):
    """Let the model of the first phase take on new classes, and measure it after each phase."""

    name = "necil"
    needs_data = True
    summary = "non-exemplar class-incremental learning: new classes, and no image of the old ones"
    options = Options
    needs_student = False
    defaults = RGAL_DEFAULTS
    measures = MEASURES
    real_data = "the real images of earlier classes too: a reference, not exemplar-free"

    def setting(self, dataset: str, teacher: str, student: str, options: Options) -> str:
        order = "" if options.order == Options.model_fields["order"].default else f", order {options.order}"
        return f"{dataset} {teacher}, {options.base} classes then {_phases(options)}{order}"

    def adapt(self, recipe: Recipe) -> Recipe:
        """Return ABD's losses on the images of a recipe that was written for distillation, with its terms of RGAL."""
        rgal = [term for term in recipe.transfer if term.name in ("cd", "gram", "gather")]
        host = incremental(*replay_learning(), *rgal)
        return pool_replay(replace(host, pairs=recipe.pairs, fmix=recipe.fmix), recipe)

    def check(self, recipe: Recipe, dataset: Dataset) -> None:
        check_batches(recipe)
        _, height, width = dataset.spec.shape
        spec = recipe.extension if isinstance(recipe.extension, IncrementalSpec) else IncrementalSpec()
        if spec.rotations and recipe.images is not None:
            raise UserError(
                "a learner that turns images cannot replay any: the old model has no label for turned ones"
            )
        if spec.base_outputs > 1 and height != width:
            raise UserError(
                f"a method that turns images by quarters needs square ones, these are {width}x{height}; "
                "give --set image_size=..."
            )

    def networks(self, teacher: nn.Module, student: nn.Module, domain: Domain) -> dict[str, nn.Module]:
        growing_head(teacher)
        return {"teacher": teacher, "student": teacher}

    def pretraining(self, dataset: Dataset, recipe: Recipe, seed: int, options: Options) -> Pretraining:
        """Say how the first phase is trained. Methods of one seed share it unless they ask for one of their own."""
        spec, protocol = spec_of(recipe), protocol_of(dataset, options)
        seen_test(dataset.test, protocol)  # refuse phases that cannot be measured before anything runs
        classes = protocol.order[: protocol.base]
        kind = f", {spec.base_name}" if spec.base_name else ""
        return Pretraining(
            classes=classes,
            terms=spec.base,
            augmentation=IncrementalAugmentation(rotations=spec.base_outputs > 1),
            optimiser=spec.base_optimiser,
            outputs=spec.base_outputs,
            evaluated=partial(spec.scored, outputs=spec.base_outputs),
            own=bool(spec.base_name),
            identity={"classes": list(classes), "seed": seed, "base": spec.base_name},
            title=f"({protocol.base} classes{kind}, seed {seed})",
        )

    def task_data(self, dataset: Dataset, recipe: Recipe, options: Options) -> Phases:
        return Phases(dataset, protocol_of(dataset, options), cumulative=spec_of(recipe).joint)

    def phase_images(self, dataset: Dataset, options: Options) -> tuple[int, int]:
        """Count the images of the first phase, and the mean of those of a later one, rounded down."""
        protocol, labels = protocol_of(dataset, options), dataset.train.labels
        base = torch.isin(labels, torch.tensor(protocol.order[: protocol.base])).sum().item()
        return int(base), (len(labels) - int(base)) // protocol.phases

    def repeats(self, dataset: Dataset, options: Options) -> int:
        return protocol_of(dataset, options).phases

    def describe(self, result: Mapping[str, Any]) -> str:
        return (
            f"AIA {result['aia']:.2f} %, last {result['last']:.2f} %, forgetting {result['forgetting']:.2f}"
        )

    def start(self, job: Job) -> IncrementalRun:
        return IncrementalRun(job)


TASK = ClassIncremental()
