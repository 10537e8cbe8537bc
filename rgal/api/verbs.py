"""What a user calls: images, a student, an integer model, new classes; each from a teacher alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.api.budgets import GivenBudget
from rgal.api.calls import Call, Callback, drive, hash_of, shape_of
from rgal.api.ends import (
    alone,
    new_classes,
    one_linear,
    pool_of,
    released,
    replayed,
    teacher_on,
    without_old_images,
)
from rgal.api.images import SynthesisedImages
from rgal.api.jobs import Asked, identity_of, make_job
from rgal.api.networks import own_copy
from rgal.api.results import Distilled, Extended, Quantized
from rgal.api.teacher import Teacher, as_pixels
from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.data import ImageSet
from rgal.engine.run import RunOptions, TransferRun
from rgal.suite.running.single import SingleRun
from rgal.suite.task import tasks
from rgal.tasks.class_incremental.phases import NewClasses
from rgal.tasks.class_incremental.protocol import Protocol
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.task import check_batches


def synthesise(
    teacher: Teacher,
    method: str = "deepinversion",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    student: nn.Module | str | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> SynthesisedImages:
    """Make images of the teacher's classes from the teacher alone.

    Some methods look at a student while they make images. Where you give none, the terms of such a method that do so
    are left out, and the result names them; a method that is left with none is refused. With a student, it is trained
    along as `distill` does, and the images are those that it was trained on.

    Args:
        teacher: the network.
        method: "deepinversion", "cmi", "fast[k=10]", "rgal[target=teacher]", ...: the names of the command line, in
            the same grammar.
        budget: "smoke" (seconds), "small" (minutes), "paper" (what the authors ran), or numbers: {"rounds": 3}, which
            take the place of those of "small" for every method; {"budget": "smoke", "rounds": 3} of another's.
        seed: of all random draws.
        student: see above; as for `distill`.
        progress, callback, device, precision, state: as for `distill`.

    Returns:
        The images: `.images` uint8 (N,C,H,W), `.labels`, `.save(folder)`, `.grid()`.

    Raises:
        UserError: an argument makes no sense, or the method cannot work with this network.
    """
    if student is not None:
        return distill(
            teacher, student, method, budget, seed,
            progress=progress, callback=callback, device=device, precision=precision, state=state,
        ).synthesised  # fmt: skip
    call = Call(seed, precision, progress, callback, state)
    with teacher_on(teacher, device) as (placed, place):
        left_out: list[str] = []
        job = make_job(
            Asked("kd", placed, method, budget, call, adapt=lambda recipe: alone(recipe, placed, left_out))
        )
        idle = nn.Linear(1, 1).to(place)  # nobody looks at it, and it takes no step
        run = TransferRun(
            job.recipe, job.problem, idle, job.streams, lambda net: {}, RunOptions(job.precision)
        )
        drive(run, call, identity_of(job, placed, call="synthesise"), place)
        pool = run.pool
        return SynthesisedImages(pool.images, pool.targets, teacher.domain, job.trial.method, tuple(left_out))


def distill(
    teacher: Teacher,
    student: nn.Module | str,
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> Distilled:
    """Train a student on images that are synthesised from the teacher, without its data.

    Your network is copied and left as it was; the trained copy is `.student` of the result, which can also be called
    itself. Nothing that is global in the process is changed.

    Args:
        teacher: the network to learn from.
        student: the network to train, an `nn.Module` that starts from the weights it has (parameters without
            `requires_grad` stay as they are); or a name, such as "resnet8" or "my_nets:tiny", whose weights are then
            drawn from the seed, as the command line does.
        method: "rgal", "cmi+rgal", "fast[k=10]+rgal", "deepinversion", ...: the names of the command line, in the same
            grammar; yours too, once a function is decorated with `rgal.method`.
        budget: "smoke" (seconds), "small" (minutes), "paper" (what the authors ran), or numbers: {"rounds": 3}, which
            take the place of those of "small" for every method; {"budget": "smoke", "rounds": 3} of another's.
        seed: of all random draws. The same seed, names and number of threads give the command line's numbers.
        progress: whether to show a progress bar.
        callback: is called after every step with a position: `mode`, `at` of `of`, `done` in [0,1],
            `remaining_seconds`. The run stops if it returns True, and with whatever it raises.
        device: "cpu", "cuda", "cuda:N" or "auto"; None: where the teacher is.
        precision: "fp32" or "bf16", of the networks' forward passes; None: as the budget says.
        state: a file that holds the state of the run, written every 20 seconds, when the callback stops it, and at the
            end. The same call goes on from there, and ends with the same numbers, bit for bit on a CPU; once it is
            finished it returns at once.

    Returns:
        The trained network: `.student`, `.history`, `.images`, `.agreement(images)`, `.save(path)`.

    Raises:
        UserError: an argument makes no sense, the method needs data, or cannot work with these networks.
    """
    call = Call(seed, precision, progress, callback, state)
    with teacher_on(teacher, device) as (placed, place):
        name = student if isinstance(student, str) else type(student).__name__
        own = None if isinstance(student, str) else own_copy(student, name, placed.domain, place)
        if own is not None and not any(parameter.requires_grad for parameter in own.parameters()):
            raise UserError(
                f"student '{name}': none of its parameters requires a gradient, expected one to train"
            )
        job = make_job(Asked("kd", placed, method, budget, call, student=name), own)
        run = tasks()["kd"].start(job)
        assert isinstance(run, SingleRun)
        identity = identity_of(job, placed, call="distill", network=shape_of(run.student))
        history, finished = drive(run, call, identity, place)
        return Distilled(
            released(run.student, run.transfer.trainable),
            placed,
            history,
            finished,
            pool_of(job, run.transfer),
        )


def quantize(
    teacher: Teacher,
    bits: str = "w8a8",
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    placement: str = "deploy",
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
    **options: Any,
) -> Quantized:
    """Quantize the teacher without its data: a fake-quantized copy, calibrated and trained on synthesised images.

    Args:
        teacher: the network.
        bits: widths of weights and activations, 2 to 8: "w8a8", "w4a8", ...
        method: "rgal", "gdfq+rgal", "zeroq", "naive", ...: the names of the command line, in the same grammar.
        budget, seed: as for `distill`.
        placement: "deploy" puts quantizers where an integer runtime has them and folds batch norms; "paper" where the
            literature has them, which is the command line's default.
        progress, callback, device, precision, state: as for `distill`.
        options: of the quantizers, as on the command line: gradient, weight_range, activation_range, momentum,
            percentile, symmetric_weights, symmetric_activations; see docs/quantization.md.

    Returns:
        The quantized network: `.export("model.onnx")`, `.agreement(images)`, `.layers`, `.coverage`, and what
        `distill` returns.

    Raises:
        UserError: an argument makes no sense, the method needs data, or cannot work with this network.
    """
    call = Call(seed, precision, progress, callback, state)
    with teacher_on(teacher, device) as (placed, place):
        if not isinstance(bits, str):
            raise UserError(f"bits {bits!r}: expected one width, such as 'w8a8'")
        settings = {"bits": bits, "placement": placement, **options}
        job = make_job(Asked("dfq", placed, method, budget, call, options=settings))
        run = tasks()["dfq"].start(job)
        assert isinstance(run, SingleRun)
        history, finished = drive(run, call, identity_of(job, placed, call="quantize"), place)
        return Quantized(
            released(run.student, run.transfer.trainable),
            placed,
            history,
            finished,
            pool_of(job, run.transfer),
        )


def extend(
    teacher: Teacher,
    new_images: Tensor,
    new_labels: Tensor,
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> Extended:
    """Teach the network new classes from their images, and keep its old ones without any image of theirs.

    Args:
        teacher: the network; its classifier must be a linear layer.
        new_images: images of the new classes, uint8 or in [0,1], (N,C,H,W).
        new_labels: their classes (N,), numbered from `teacher.classes` on, without a gap.
        method: "rgal", "abd+rgal", "lwf", "finetune", ...: the names of the command line, in the same grammar. Those
            that keep statistics of old classes would have had to see their images, and are refused.
        budget, seed: as for `distill`.
        progress, callback, device, precision, state: as for `distill`.

    Returns:
        The wider network, whose classifier is one linear layer: what `distill` returns.

    Raises:
        UserError: an argument makes no sense, the method needs images of old classes, or cannot work with this network.
    """
    call = Call(seed, precision, progress, callback, state)
    with teacher_on(teacher, device) as (placed, place):
        images = ImageSet(
            as_pixels(new_images, placed.domain), new_classes(new_labels, len(new_images), placed)
        )
        base, step = placed.classes, int(images.labels.max()) + 1 - placed.classes
        options = {"base": base, "step": step, "order": "natural"}
        asked = Asked(
            "necil", placed, method, budget, call, options=options, images=lambda: len(images),
            usable=without_old_images, lacking="images of old classes",
        )  # fmt: skip
        problem = Problem(copy.deepcopy(placed.net), placed.domain, place)
        phases = NewClasses(Protocol(tuple(range(base + step)), base, step), images)
        job = make_job(asked, problem=problem, task_data=phases)
        check_batches(job.recipe)
        run = tasks()["necil"].start(job)
        assert isinstance(run, IncrementalRun)
        identity = identity_of(job, placed, call="extend", new=hash_of(images.images, images.labels))
        history, finished = drive(run, call, identity, place)
        made = replayed(run, job)
        domain = replace(placed.domain, classes=base + step)
        return Extended(released(one_linear(run.student)), placed, history, finished, made, domain)
