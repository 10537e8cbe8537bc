"""The runs whose steps are timed: a method of a task on noise, between networks as they are initialised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from rgal.core.precision import Precision
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.data import Dataset, DataSpec, ImageSet
from rgal.engine.run import TransferRun
from rgal.methods.recipe import Recipe
from rgal.suite.plan.settings import Schedule
from rgal.suite.plan.trial import Trial
from rgal.suite.running.teachers import build_net
from rgal.suite.task import Job, tasks

CIFAR = Domain((3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
DIGITS = Domain((1, 8, 8), 10, (0.3053,), (0.3759,), flip=False, crop_padding=1)
BASE, PER_CLASS = 4, 32  # classes of a first phase; training images of each class that phases have


@dataclass(frozen=True)
class Case:
    """A method of a task on images of a domain, between two networks. block: steps that are timed together."""

    task: str
    method: str
    domain: Domain
    teacher: str
    student: str
    block: int = 1

    @property
    def title(self) -> str:
        nets = self.teacher if self.task != "kd" else f"{self.teacher} -> {self.student}"
        return f"{self.task} {self.method}, {nets}, {self.domain.shape[1]} px"


CASES = tuple(
    Case(task, method, domain, *nets, block)
    for domain, wide, small, block in (
        (CIFAR, ("wrn40_2", "wrn16_1"), "resnet20", 1),
        (DIGITS, ("wrn16_2", "wrn10_1"), "resnet8", 10),
    )
    for task, method, nets in (
        ("kd", "rgal", wide),
        ("kd", "deepinversion", wide),
        ("kd", "cmi", wide),
        ("dfq", "rgal", (small, small)),
        ("necil", "r_dfcil", (small, small)),
    )
)


class Running:
    """A case's run, one optimiser step after another.

    Args:
        case: what runs.
        batch: images that a synthesis step makes, and that the student is shown in a step. Class-incremental steps
            show it as many of each: new ones, and replayed ones.
        steps: of synthesis, and the fewest of the student, in a round or a phase.
        device, precision: where and in what the networks compute.
    """

    def __init__(
        self, case: Case, batch: int, steps: int, device: torch.device, precision: Precision
    ) -> None:
        self._run: Any = tasks()[case.task].start(_job(case, batch, steps, device, precision))

    def transfer(self) -> TransferRun:
        """Return the transfer of the present phase, which is begun if there is none."""
        while self._run.transfer is None:
            self._run.advance()
        return self._run.transfer

    def advance(self) -> None:
        """Do one optimiser step, or change to the other kind of step."""
        self._run.advance()


def _job(case: Case, batch: int, steps: int, device: torch.device, precision: Precision) -> Job:
    task = tasks()[case.task]
    recipe = _short(task.recipe(case.method, Schedule()).recipe, batch, steps)
    data = _noise(case.domain)
    options = task.options.model_validate({"base": BASE, "step": 2} if case.task == "necil" else {})
    name, given = task.cases(options)[0]
    trial = Trial(
        task=case.task, dataset="noise", data="", image_size=None, teacher=case.teacher, teacher_key="",
        student=case.student, method=case.method, seed=0, budget="speed", schedule={}, evaluate_every=1,
        evaluate_on="test", precision=precision, device=str(device), data_root=None, order=0, keep_pool=False,
        setting="", case=name, options=given,
    )  # fmt: skip
    domain = replace(case.domain, classes=BASE) if case.task == "necil" else case.domain
    outputs = getattr(recipe.extension, "outputs", 1)
    teacher = build_net(case.teacher, domain, device, "speed", outputs=outputs)
    return Job(
        trial=trial,
        recipe=recipe,
        problem=Problem(teacher, domain, device),
        teacher_top1=0.0,
        test=data.test,
        real=None,
        streams=Streams(device, "speed", case.title),
        precision=precision,
        class_names=(),
        task_data=task.task_data(data, recipe, options),
    )


def _short(recipe: Recipe, batch: int, steps: int) -> Recipe:
    """The recipe with batches of this size, in one round of so many synthesis steps.

    It has more student steps than are timed: at the end of a phase some methods train a part of the network only.
    """
    shown = batch // 2 if recipe.pairs else batch
    rounds = replace(
        recipe.rounds, count=1, warmup=0, synthesis_steps=steps, student_steps=4 * steps, synthesis_batch=batch,
        batch=max(1, shown),
    )  # fmt: skip
    return replace(recipe, rounds=rounds)


def _noise(domain: Domain) -> Dataset:
    rng = torch.Generator().manual_seed(0)

    def split(per_class: int) -> ImageSet:
        labels = torch.arange(domain.classes * per_class) % domain.classes
        shape = (len(labels), *domain.shape)
        return ImageSet(torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8), labels)

    names = tuple(str(label) for label in range(domain.classes))
    spec = DataSpec(
        "noise",
        domain.classes,
        domain.shape,
        domain.mean,
        domain.std,
        domain.flip,
        domain.crop_padding,
        names,
        "",
    )
    return Dataset(spec, split(PER_CLASS), split(1))
