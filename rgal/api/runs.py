"""The runs behind the calls: each makes a job, drives the task's own run, and hands back what came out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from rgal.api.calls import Call, drive, hash_of, shape_of
from rgal.api.ends import (
    alone,
    new_classes,
    one_linear,
    pool_of,
    released,
    replayed,
    teacher_on,
    with_real_images,
    without_old_images,
)
from rgal.api.images import SynthesisedImages
from rgal.api.jobs import Asked, identity_of, make_job, makes_its_images
from rgal.api.networks import own_copy
from rgal.api.results import Distilled, Extended, Quantized
from rgal.api.teacher import Teacher, as_pixels
from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.data import ImageSet
from rgal.engine.options import RunOptions
from rgal.engine.run import TransferRun
from rgal.suite.running.single import SingleRun
from rgal.suite.task import tasks
from rgal.tasks.class_incremental.phases import NewClasses
from rgal.tasks.class_incremental.protocol import Protocol
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.task import check_batches


def run_synthesis(teacher: Teacher, call: Call) -> SynthesisedImages:
    """Make images without a student; see `rgal.synthesise`."""
    with teacher_on(teacher, call.device) as (placed, place):
        left_out: list[str] = []
        job = make_job(Asked("kd", placed, call, adapt=lambda recipe: alone(recipe, placed, left_out)))
        idle = nn.Linear(1, 1).to(place)  # nobody looks at it, and it takes no step
        run = TransferRun(
            job.recipe, job.problem, idle, job.streams, lambda net: {}, RunOptions(job.precision)
        )
        _, finished = drive(run, call, identity_of(job, placed, call="synthesise"), place)
        pool, name = run.pool, job.trial.method
        return SynthesisedImages(pool.images, pool.targets, teacher.domain, name, tuple(left_out), finished)


def run_distillation(teacher: Teacher, student: nn.Module | str, call: Call) -> Distilled:
    """Train a copy of a student, or one that is built by its name; see `rgal.distill`."""
    with teacher_on(teacher, call.device) as (placed, place):
        name = student if isinstance(student, str) else type(student).__name__
        own = None if isinstance(student, str) else own_copy(student, name, placed.domain, place)
        if own is not None and not any(parameter.requires_grad for parameter in own.parameters()):
            raise UserError(
                f"student '{name}': none of its parameters requires a gradient, expected one to train"
            )
        job = make_job(Asked("kd", placed, call, student=name), own)
        run = tasks()["kd"].start(job)
        assert isinstance(run, SingleRun)
        identity = identity_of(job, placed, call="distill", network=shape_of(run.student))
        history, finished = drive(run, call, identity, place)
        trained, made = released(run.student, run.transfer.trainable), pool_of(job, run.transfer)
        return Distilled(trained, placed, history, finished, made)


def run_quantization(
    teacher: Teacher, bits: str, options: Mapping[str, Any], calibration: object, call: Call
) -> Quantized:
    """Quantize the teacher; see `rgal.quantize`."""
    with teacher_on(teacher, call.device) as (placed, place):
        if not isinstance(bits, str):
            raise UserError(f"bits {bits!r}: expected one width, such as 'w8a8'")
        given = None if calibration is None else as_pixels(calibration, placed.domain)
        task = tasks()["dfq"]
        row = None if given is None else task.calibration_row  # it takes ranges from these images alone
        asked = Asked(
            "dfq", placed, call, options={"bits": bits, **options},
            usable=lambda method: makes_its_images(method.recipe) or method.method.name == row,
        )  # fmt: skip
        job = with_real_images(make_job(asked), given)
        run = task.start(job)
        assert isinstance(run, SingleRun)
        identity = identity_of(job, placed, call="quantize", calibration=hash_of(given))
        history, finished = drive(run, call, identity, place)
        trained, made = released(run.student, run.transfer.trainable), pool_of(job, run.transfer)
        return Quantized(trained, placed, history, finished, made, calibration=given)


def run_extension(teacher: Teacher, new_images: Tensor, new_labels: Tensor, call: Call) -> Extended:
    """Teach a copy of the teacher new classes; see `rgal.extend`."""
    with teacher_on(teacher, call.device) as (placed, place):
        pixels = as_pixels(new_images, placed.domain)
        images = ImageSet(pixels, new_classes(new_labels, len(pixels), placed))
        base, step = placed.classes, int(images.labels.max()) + 1 - placed.classes
        asked = Asked(
            "necil", placed, call, options={"base": base, "step": step, "order": "natural"},
            images=lambda: len(images), usable=without_old_images, lacking="images of old classes",
        )  # fmt: skip
        problem = Problem(copy.deepcopy(placed.net), placed.domain, place)
        phases = NewClasses(Protocol(tuple(range(base + step)), base, step), images)
        job = make_job(asked, problem=problem, task_data=phases)
        check_batches(job.recipe)
        run = tasks()["necil"].start(job)
        assert isinstance(run, IncrementalRun)
        identity = identity_of(job, placed, call="extend", new=hash_of(images.images, images.labels))
        history, finished = drive(run, call, identity, place)
        domain = replace(placed.domain, classes=base + step)
        return Extended(
            released(one_linear(run.student)), placed, history, finished, replayed(run, job), domain
        )
