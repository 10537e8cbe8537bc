"""Held-out images of a teacher: made once, kept beside it, and handed to every trial that is judged on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from rgal.core.problem import Problem
from rgal.engine.held_out import HeldOutRun, HeldOutSpec, held_out_streams
from rgal.suite.plan.network import held_out_key
from rgal.suite.plan.trial import Trial
from rgal.suite.running.drive import ProgressMessage, drive
from rgal.suite.running.teachers import teacher_files
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.pool_files import FILE, load_pool, save_pool


def held_out_folder(root: Path, trial: Trial) -> Path:
    """Name the folder of the images that a trial is judged on: pool.safetensors, and PNGs for people in pool/."""
    weights, _, _ = teacher_files(root, trial.teacher, trial.dataset, trial.teacher_key)
    return weights.with_name(f"{weights.stem}-held-out-{held_out_key(trial)}")


def has_held_out(root: Path, trial: Trial) -> bool:
    """Tell whether they are there."""
    return (held_out_folder(root, trial) / FILE).exists()


def make_held_out(
    root: Path,
    trial: Trial,
    problem: Problem,
    report: Callable[[ProgressMessage], None],
    stop: Callable[[], bool],
) -> int | None:
    """Synthesise and store them, or go on where a stopped run was.

    Args:
        root: the results directory.
        trial: one of those that are judged on them.
        problem: its teacher and domain.
        report: told of progress.
        stop: whether to stop, asked after every step.

    Returns:
        How many there are, or None if stopped.
    """
    folder = held_out_folder(root, trial)
    work = folder.with_name(f"{folder.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    run = HeldOutRun(
        problem,
        HeldOutSpec(**trial.held_out),
        held_out_streams(problem, trial.teacher),
        trial.precision,  # type: ignore[arg-type]
    )
    if not drive(run, work, problem.device, report, stop):
        return None
    images, targets = run.images()
    pool = ImagePool(problem.domain.shape)
    pool.add(images, targets)
    folder.mkdir(parents=True, exist_ok=True)
    about = {"teacher": trial.teacher, "purpose": "held-out images, on which no student trains"}
    save_pool(pool, folder, about, problem.domain.classes)
    shutil.rmtree(work, ignore_errors=True)
    return len(images)


def stored_held_out(root: Path, trial: Trial, problem: Problem) -> Tensor | None:
    """Load the images that a trial is judged on, uint8 (N,C,H,W); None where it has test images."""
    if not trial.held_out:
        return None
    domain = problem.domain
    images, _ = load_pool(held_out_folder(root, trial), domain.shape, domain.classes)
    return images
