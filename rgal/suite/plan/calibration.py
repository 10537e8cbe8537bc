"""Trials that are given a few real images without labels (`--calibration DIR`): which they are, and for what.

Ranges of quantizers come from them while the student trains on synthesised ones, a row of its own uses nothing else,
and every student is judged on them beside other images. The path is where they lie; a trial's key has their hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.data.unlabelled import images_key, read_unlabelled
from rgal.suite.plan.trial import Trial

if TYPE_CHECKING:
    from rgal.suite.task import Task


def calibration_fields(path: str | None, task: Task, domain: Domain) -> dict[str, str]:
    """Return what trials hold of the given images; nothing where there are none.

    Raises:
        UserError: the task has no use for them, or they cannot be read.
    """
    if path is None:
        return {}
    if not task.takes_calibration:
        raise UserError(f"--calibration {path}: task '{task.name}' has no use for images without labels")
    images = read_unlabelled(Path(path).expanduser(), domain.shape)
    return {"calibration": path, "calibration_key": images_key(images)}


def given_images(trial: Trial, domain: Domain) -> Tensor | None:
    """Read the images that a trial is given, uint8 (N,C,H,W); None where there are none.

    Raises:
        UserError: they are not those that the trial was planned with.
    """
    if not trial.calibration_key:
        return None
    images = read_unlabelled(Path(trial.calibration).expanduser(), domain.shape)
    if images_key(images) != trial.calibration_key:
        raise UserError(
            f"--calibration {trial.calibration}: changed since the trial was planned; run the suite again"
        )
    return images
