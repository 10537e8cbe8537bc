"""Trials that start from given images (`init_pool`): who can, what identifies the images, and their labels.

The path is where they lie; the trial's key has a hash of the images and labels themselves. Whether they are real images
cannot be checked: records and tables name the pool instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.data import Dataset
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Resolved, methods
from rgal.suite.plan.settings import Schedule
from rgal.synthesis.pool_files import load_pool, pool_key

if TYPE_CHECKING:
    from rgal.suite.plan.trial import Trial
    from rgal.suite.task import Job, Task

LABELLED_AT_A_TIME = 256


def samples_from_pool(recipe: Recipe) -> bool:
    """Whether a student trains on images of a pool, synthesised or given."""
    fills = recipe.images is not None and recipe.source == "pool"
    return recipe.source == "given" or (fills and recipe.rounds.student_steps > 0)


def initial_pool_key(path: str, task: Task, chosen: Sequence[Resolved], dataset: Dataset) -> str:
    """Identifies the images in `path`. UserError if they are no pool for this data set, or if the task, or a method of
    these that synthesises, cannot start from one. References on real images stay as they are."""
    if not task.takes_pool:
        raise UserError(f"--init-pool {path}: task '{task.name}' cannot start from a given pool")
    able = [resolved.name for resolved in chosen if samples_from_pool(resolved.recipe)]
    unable = [r.name for r in chosen if r.recipe.images is not None and r.name not in able]
    if unable or not able:
        valid = [
            name
            for name, method in methods().items()
            if task.runs(method) and samples_from_pool(task.recipe(name, Schedule()).recipe)
        ]
        who = (
            f"method '{unable[0]}' trains no student"
            if unable
            else "no method of this suite trains a student"
        )
        raise UserError(f"--init-pool {path}: {who} on a pool; methods that do: {', '.join(valid)}")
    return pool_key(*load_pool(Path(path), dataset.spec.shape, dataset.spec.classes))


def initial_images(job: Job) -> tuple[Tensor, Tensor] | None:
    """uint8 images (N,C,H,W) and labels (N,) that the trial's pool starts with; None if it starts empty.

    Images without labels get the teacher's. UserError if they are not those that the trial was planned with.
    """
    trial, domain = job.trial, job.problem.domain
    if not trial.init_pool_key:
        return None
    images, targets = load_pool(Path(trial.init_pool), domain.shape, domain.classes)
    if pool_key(images, targets) != trial.init_pool_key:
        raise UserError(f"{trial.init_pool}: changed since the trial was planned; run the suite again")
    return images, labels_by(job.problem, images) if targets is None else targets


@torch.no_grad()
def labels_by(problem: Problem, images: Tensor) -> Tensor:
    """The teacher's classes (N,) of uint8 images (N,C,H,W)."""
    parts = images.split(LABELLED_AT_A_TIME)
    inputs = (problem.domain.normalise(part.to(problem.device).float() / 255) for part in parts)
    return torch.cat([problem.teacher(part).argmax(1) for part in inputs])


def record(trial: Trial, recipe: Recipe, count: int) -> dict[str, Any]:
    """What a result says of `count` given images; nothing if there were none."""
    if not count:
        return {}
    pool = f"{count:,} given images ({trial.init_pool}, {trial.init_pool_key})"
    if recipe.source == "given":
        note = f"works on {pool} alone, whose origin is not checked"
        return {"initial_images": count, "pool_note": note, "data_free": False, "given": True}
    return {"initial_images": count, "pool_note": f"starts from {pool}, not counted in Images"}


def row_name(method: str, key: str, kind: str = "pool") -> str:
    """A method as tables call it: with given images, which `kind` names and `key` hashes, it is another row."""
    return f"{method} ({kind} {key[:6]})" if key else method
