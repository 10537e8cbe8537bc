"""What comes before and after a run: the teacher on its device, what is kept of a recipe, the network handed back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from rgal.api.images import SynthesisedImages
from rgal.api.surroundings import undisturbed
from rgal.api.teacher import Teacher, as_device
from rgal.core.errors import UserError
from rgal.engine.run import TransferRun
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Resolved
from rgal.suite.plan.initial_pool import labels_by
from rgal.suite.task import Job
from rgal.synthesis.pool import ImagePool
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.terms.objective import LossTerm, TermContext

# Before --------------------------------------------------------------------------------------------------------------


@contextmanager
def teacher_on(teacher: Teacher, device: str | torch.device | None) -> Iterator[tuple[Teacher, torch.device]]:
    """Provide the teacher on the device of a call, in surroundings that are put back afterwards."""
    if not isinstance(teacher, Teacher):
        raise UserError(
            f"teacher is a {type(teacher).__name__}, expected rgal.Teacher(net, image=..., classes=...)"
        )
    place = teacher.device if device is None else as_device(device)
    with undisturbed(place):
        yield teacher.to(place), place


def alone(recipe: Recipe, teacher: Teacher, left_out: list[str]) -> Recipe:
    """Return what of a recipe makes images without a student, and note the terms that look at one in `left_out`.

    Raises:
        UserError: the recipe fills no pool of images, or all of its terms look at a student.
    """
    if recipe.images is None or recipe.source != "pool" or recipe.rounds.interleaved:
        raise UserError(
            "this method makes its images for a student, step by step: give student=..., or take another"
        )
    terms = [term for term in recipe.synthesis if term.weight]
    looking = [term.name for term in terms if _reads_student(term, teacher)]
    if len(looking) == len(terms):
        raise UserError(
            f"all terms of this method look at a student ({', '.join(looking)}): give student=..."
        )
    left_out += looking
    apart = tuple(term for term in terms if term.name not in looking)
    return replace(recipe, synthesis=apart, transfer=(), rounds=replace(recipe.rounds, student_steps=0))


def _reads_student(term: LossTerm, teacher: Teacher) -> bool:
    nets = {"teacher": teacher.net, "student": teacher.net}
    return any(read.net == "student" for read in term.build(TermContext(teacher.domain, nets)).reads)


def with_real_images(job: Job, images: Tensor | None) -> Job:
    """Return a job that has a few real images (N,C,H,W), uint8: for its ranges, or for all that its method does."""
    if images is None or job.recipe.data_free:
        return replace(job, unlabelled=images)
    real = ImagePool(job.problem.domain.shape, job.problem.device)
    real.add(images, labels_by(job.problem, images))
    return replace(job, unlabelled=images, real=real)


def without_old_images(resolved: Resolved) -> bool:
    """Tell whether a method takes on new classes without having seen the images of old ones, at any time."""
    spec = resolved.recipe.extension
    return isinstance(spec, IncrementalSpec) and not (
        spec.joint or spec.keeps or spec.base_name or spec.rotations
    )


def new_classes(labels: object, images: int, teacher: Teacher) -> Tensor:
    """Return the labels (N,) of new classes. Raises UserError unless they follow the teacher's without a gap."""
    if not isinstance(labels, Tensor):
        labels = torch.as_tensor(labels)
    if labels.shape != (images,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(
            f"new_labels are {labels.dtype} {tuple(labels.shape)}, expected whole numbers ({images},)"
        )
    first, present = teacher.classes, sorted(set(labels.tolist()))
    if present != list(range(first, first + len(present))):
        raise UserError(
            f"new_labels are {present[0]} to {present[-1]}; the teacher has the classes 0 to {first - 1}, "
            f"so new ones are {first}, {first + 1}, ... without a gap"
        )
    return labels.detach().long().cpu()


# After ---------------------------------------------------------------------------------------------------------------


def released(net: nn.Module, trainable: Iterable[nn.Parameter] | None = None) -> nn.Module:
    """Hand a trained network back: evaluation mode, plain memory format, gradients where there were any before.

    Args:
        net: the network.
        trainable: the parameters that were trained; None: all.
    """
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parameter in net.parameters() if trainable is None else trainable:
        parameter.requires_grad_(True)
        parameter.grad = None
    return net


def pool_of(job: Job, transfer: TransferRun) -> SynthesisedImages:
    """Return the images that a student was trained on."""
    pool = transfer.pool
    return SynthesisedImages(
        pool.images, pool.targets, job.problem.domain, job.trial.method, finished=transfer.finished
    )


def replayed(run: IncrementalRun, job: Job) -> SynthesisedImages:
    """Return images of old classes that a run replayed, some of each class."""
    domain = job.problem.domain
    images = [part for part, _ in run.shown] or [torch.empty(0, *domain.shape, dtype=torch.uint8)]
    labels = [part for _, part in run.shown] or [torch.empty(0, dtype=torch.int64)]
    return SynthesisedImages(torch.cat(images), torch.cat(labels), domain, job.trial.method)


def one_linear(net: nn.Module) -> nn.Module:
    """Put one linear layer in place of a classifier that grew in parts. The network is changed and returned."""
    name, head = cast(str, net.head_name), growing_head(net)
    weight = head.weight().detach()
    linear = nn.Linear(head.features, len(weight)).to(weight.device)
    parts = [cast(nn.Linear, part) for part in head.parts]
    with torch.no_grad():
        linear.weight.copy_(weight)
        biases = [torch.zeros_like(part.weight[:, 0]) if part.bias is None else part.bias for part in parts]
        linear.bias.copy_(torch.cat(list[Tensor](biases)))
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, linear)
    return net
