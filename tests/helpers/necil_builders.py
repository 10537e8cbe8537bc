"""A tiny class-incremental problem of noise: six classes, two at first and then twice two more."""

from __future__ import annotations

import copy
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import nn

from rgal import nets
from rgal.core.precision import place
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams, global_seed
from rgal.data import Dataset, DataSpec, ImageSet
from rgal.methods.names import MethodName
from rgal.methods.plugins import from_files
from rgal.methods.recipe import Recipe
from rgal.methods.registry import methods
from rgal.suite.plan.budget import own_schedule
from rgal.suite.plan.settings import Schedule
from rgal.suite.plan.trial import Trial
from rgal.suite.task import Job, tasks
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.spec import spec_of
from tests.helpers import small

NECIL = tasks()["necil"]
CLASSES, BASE, STEP, PHASES = 6, 2, 2, 2
PER_CLASS, TESTED = 4, 3  # training and test images of each class
OPTIONS = {"base": BASE, "step": STEP, "order": "seed1993"}
NET = "resnet8"
SHORT = Schedule(
    rounds=2, warmup=1, synthesis_batch=8, batch=6, student_steps=2, synthesis_steps=1, generator_width=4
)
SUITE = """
task: necil
dataset: digits
teacher: resnet8
options: {base: 4, step: 3}
methods: [finetune]
seeds: [0]
budget: smoke
budgets:
  smoke:
    rounds: 1
    synthesis_steps: 2
    student_steps: 2
    synthesis_batch: 8
    batch: 8
    generator_width: 4
    teacher_training: {steps: 10, batch: 16}
"""
SECONDS = ("synthesis_seconds", "student_seconds", "synthesis_cpu_seconds", "student_cpu_seconds")


@cache
def necil_methods() -> list[str]:
    return [name for name in from_files() or methods() if "necil" in methods()[name].tasks]


@cache
def replaying_methods() -> list[str]:
    """Those that can learn on another method's images."""
    return [name for name in necil_methods() if "source" in methods()[name].parameters]


@cache
def sources() -> list[str]:
    """Methods for distillation that synthesise into a pool, round after round."""
    recipes = {name: method.recipe() for name, method in methods().items() if "kd" in method.tasks}
    return [
        name
        for name, recipe in recipes.items()
        if recipe.data_free and recipe.source == "pool" and not recipe.rounds.interleaved
    ]


def sourced() -> list[str]:
    return [f"{name}[source={source}]" for name, source in product(replaying_methods(), sources())]


@cache
def plugged() -> list[str]:
    """Every method alone and with RGAL, but for those that refuse it."""
    every = [name + plus for name, plus in product(necil_methods(), ("", "+rgal"))]
    return [name for name in every if name.removesuffix("+rgal") not in without_rgal() or "+" not in name]


@cache
def without_rgal() -> list[str]:
    """Those that refuse RGAL: it has it already, or there is nothing to train or to choose."""
    return ["rgal", *(name for name in necil_methods() if name in ("acil", "fecam"))]


def dataset() -> Dataset:
    """Images of noise, no two of them alike."""
    rng = torch.Generator().manual_seed(0)

    def split(per_class: int) -> ImageSet:
        labels = torch.arange(CLASSES * per_class) % CLASSES
        images = torch.randint(0, 256, (len(labels), 1, 8, 8), generator=rng, dtype=torch.uint8)
        return ImageSet(images, labels)

    names = tuple("abcdef")
    spec = DataSpec("noise", CLASSES, (1, 8, 8), (0.5,), (0.3,), False, 1, names, "")
    return Dataset(spec, split(PER_CLASS), split(TESTED))


@cache
def _base_model(outputs: int) -> nn.Module:
    with global_seed("necil", outputs):
        net = nets.build(NET, BASE * outputs, 1, 8).train()
        for _ in range(3):
            net(torch.randn(16, 1, 8, 8))
    return net


def base_model(outputs: int = 1) -> nn.Module:
    """A model of the first two classes whose batch norm statistics are not those of initialisation."""
    return place(copy.deepcopy(_base_model(outputs)), small.DEVICE)


def recipe(name: str, schedule: Schedule = SHORT) -> Recipe:
    return NECIL.recipe(name, with_parameters(name, schedule)).recipe


def with_parameters(name: str, schedule: Schedule) -> Schedule:
    """With the parameters that the method's own smoke budget has: a contract needs no 8,192 random features."""
    own = own_schedule(methods()[MethodName.parse(name).host], "smoke")
    return schedule.model_copy(update={"parameters": None if own is None else own.parameters})


def job(name: str, seed: int = 0, schedule: Schedule = SHORT) -> Job:
    of_method = recipe(name, schedule)
    data, options = dataset(), NECIL.options.model_validate(OPTIONS)
    trial = Trial(
        task="necil", dataset="noise", data="", image_size=None, teacher=NET, teacher_key="", student=NET,
        method=name, seed=seed, budget="short", schedule=schedule.model_dump(exclude_none=True), evaluate_every=1,
        evaluate_on="test", precision="fp32", device=str(small.DEVICE), data_root=None, order=0, keep_pool=False,
        setting="", options=OPTIONS,
    )  # fmt: skip
    domain = Domain(data.spec.shape, BASE, data.spec.mean, data.spec.std, flip=False, crop_padding=1)
    return Job(
        trial=trial,
        recipe=of_method,
        problem=Problem(base_model(spec_of(of_method).base_outputs), domain, small.DEVICE),
        teacher_top1=0.0,
        test=data.test,
        real=None,
        streams=Streams(small.DEVICE, *trial.seed_parts()),
        precision="fp32",
        class_names=data.spec.class_names,
        task_data=NECIL.task_data(data, of_method, options),
    )


def start(name: str, seed: int = 0, schedule: Schedule = SHORT) -> IncrementalRun:
    return IncrementalRun(job(name, seed, schedule))


def finish(going: IncrementalRun) -> list[dict[str, Any]]:
    rows = []
    while not going.finished:
        rows += going.advance()
    return rows
