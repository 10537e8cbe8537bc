"""What runs inside a worker: one teacher, or one trial. Every outcome is written to the store before it is reported."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rgal.core.domain import domain_text
from rgal.core.errors import UserError, in_short
from rgal.core.files import check_may_write
from rgal.core.precision import reproducible
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.data import Dataset
from rgal.engine.options import Diverged
from rgal.methods.names import MethodName
from rgal.methods.plugins import load_plugins
from rgal.suite.plan.calibration import given_images
from rgal.suite.plan.fingerprint import mixed
from rgal.suite.plan.initial_pool import labels_by
from rgal.suite.plan.network import dataset_of
from rgal.suite.plan.trial import Trial
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.console import standing
from rgal.suite.running.drive import ProgressMessage, drive
from rgal.suite.running.held_out import make_held_out, stored_held_out
from rgal.suite.running.jobs import HeldOutJob, Outcome, TeacherJob, TrialJob, WorkJob
from rgal.suite.running.machine import environment
from rgal.suite.running.teachers import TeacherSpec, stored_teacher, train_teacher
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.store.claims import Claim, ClaimLost
from rgal.suite.store.folders import SCHEMA, Store, read_json, write_json
from rgal.suite.task import Job, TaskRun, tasks, trial_recipe
from rgal.suite.tracking.tracker import Tracked, tracking
from rgal.synthesis.pool import ImagePool

POOL_FILE = "pool.u8"  # of an unfinished trial, beside its checkpoint: images that are too many for memory


def perform(
    job: WorkJob, claim: Claim, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]
) -> Outcome:
    """Do a job whose claim was acquired for this process, and give the claim back. Never raises `Exception`: a failure
    is an outcome with one line of reason. Once the claim is lost nothing more is written.

    Args:
        job: what to do.
        claim: its claim; every report is a heartbeat.
        report: told of progress.
        stop: whether to stop, asked after every step.
    """

    def beating(message: ProgressMessage) -> None:
        claim.beat(message.position.done, standing(message))
        report(message)

    try:
        with claim.kept(job.trial.device):
            return _recorded(job, beating, lambda: stop() or claim.lost)
    except ClaimLost:
        return Outcome("elsewhere")


def _recorded(job: WorkJob, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]) -> Outcome:
    """Do a job, and keep in its folder why it failed."""
    try:
        device = torch.device(job.trial.device)
        reproducible(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what names no number is then on this one too
        load_plugins(job.trial.plugins, quiet=True)
        if isinstance(job, TeacherJob):
            return _teacher(job, report, stop)
        if isinstance(job, HeldOutJob):
            return _held_out(job, report, stop)
        return _trial(job, report, stop)
    except UserError as error:
        outcome = Outcome("failed", str(error), "user")
    except Diverged as error:
        outcome = Outcome("failed", str(error), "trial")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = f"cannot write to {job.root}: {error.strerror or error}" if full else f"OSError: {error}"
        outcome = Outcome("failed", reason, "user" if full else "trial")
    except torch.OutOfMemoryError as error:
        outcome = Outcome("failed", in_short(error), "memory")
    except Exception as error:  # one broken trial must not take the suite with it; its traceback is kept
        outcome = Outcome("failed", in_short(error), "trial")
        _keep_traceback(job, traceback.format_exc())
    record_failure(job, outcome)
    return outcome


def _teacher(job: TeacherJob, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]) -> Outcome:
    trial = job.trial
    dataset = dataset_of(trial)
    purpose = _purpose(trial, dataset)
    part = purpose.part(dataset)
    spec = TeacherSpec(
        root=job.root,
        net=trial.teacher,
        key=trial.teacher_key,
        dataset=part,
        domain=part.spec.domain,
        recipe=job.recipe,
        precision=trial.precision,  # type: ignore[arg-type]
        device=torch.device(trial.device),
        purpose=purpose,
        fingerprint=job.fingerprint,
    )
    accuracy = train_teacher(spec, report, stop)
    if accuracy is None:
        return Outcome("interrupted")
    return Outcome("finished", result={"last": accuracy, "classes": part.spec.classes})


def _held_out(
    job: HeldOutJob, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]
) -> Outcome:
    trial, started = job.trial, time.perf_counter()
    problem, _ = _problem(job.root, trial, dataset_of(trial), torch.device(trial.device))
    count = make_held_out(job.root, trial, problem, report, stop)
    if count is None:
        return Outcome("interrupted")
    return Outcome("finished", result={"images": count, "seconds": time.perf_counter() - started})


def _trial(job: TrialJob, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]) -> Outcome:
    trial, store, folder = job.trial, Store(job.root), job.folder
    check_may_write()
    folder.mkdir(parents=True, exist_ok=True)
    status = store.status(folder)
    if status == "finished":  # by a process that died over its pictures
        _illustrate_again(job)
        return Outcome("finished", result=read_json(job.product))
    if status == "failed":
        job.product.unlink()
    fingerprint = job.fingerprint
    if job.checkpoint.exists():
        fingerprint = mixed(store.fingerprint(folder), fingerprint)
    device = torch.device(trial.device)
    asked = {
        "schema": SCHEMA,
        "key": trial.key,
        "fingerprint": fingerprint,
        "settings": trial.settings(),
        "environment": environment(device) | {"slots": job.slots},
    }
    write_json(folder / "trial.json", asked)
    prepared = replace(prepare(job.root, trial, device), pool_file=folder / POOL_FILE)
    run = tasks()[trial.task].start(prepared)
    with tracking(job.trackers, Tracked(job.root, folder.name, trial.settings())) as watch:
        complete = drive(run, folder, device, report, stop, watch)
    if not complete:
        return Outcome("interrupted")
    run.save(folder)
    result = {**run.result(), **_about_images(prepared)}
    write_json(job.product, {"schema": SCHEMA, "status": "finished", "reason": "", **result})
    _illustrate(job, run)
    job.checkpoint.unlink(missing_ok=True)
    (folder / POOL_FILE).unlink(missing_ok=True)
    return Outcome("finished", result=result)


def _illustrate(job: TrialJob, run: TaskRun) -> None:
    """Draw the pictures of a finished run. What goes wrong costs pictures, never the result."""
    try:
        run.illustrate(job.folder)
    except Exception:  # the page links its traceback
        _keep_traceback(job, traceback.format_exc())


def _illustrate_again(job: TrialJob) -> None:
    """Draw the pictures of a finished trial whose process died over them, from the state that it left.

    Once: the state is removed before, for a picture may be what kills the process.
    """
    device, pool = torch.device(job.trial.device), job.folder / POOL_FILE
    state = Checkpoint(job.checkpoint).load(device)
    job.checkpoint.unlink(missing_ok=True)
    if state is not None:
        run = tasks()[job.trial.task].start(replace(prepare(job.root, job.trial, device), pool_file=pool))
        run.load_state_dict(state["run"])
        _illustrate(job, run)
    pool.unlink(missing_ok=True)


def _about_images(job: Job) -> dict[str, Any]:
    """What a result says of the images that it is about."""
    counted = {"held_out_images": len(job.judged_on)} if job.test is None else {"test_images": len(job.test)}
    return {"encoding": job.encoding, **counted, "domain_note": domain_text(job.problem.domain)}


def _purpose(trial: Trial, dataset: Dataset) -> Pretraining:
    task = tasks()[trial.task]
    return task.pretraining(
        dataset, trial_recipe(trial), trial.seed, task.options.model_validate(trial.options)
    )


def _problem(root: Path, trial: Trial, dataset: Dataset, device: torch.device) -> tuple[Problem, float]:
    """Load the teacher of a trial. Return what networks work on, and the teacher's accuracy in percent."""
    purpose = _purpose(trial, dataset)
    domain = purpose.domain(dataset.spec.domain)
    teacher, accuracy = stored_teacher(
        root, trial.teacher, trial.dataset, domain, trial.teacher_key, device, purpose.outputs
    )
    return Problem(teacher, domain, device), accuracy


def prepare(root: Path, trial: Trial, device: torch.device) -> Job:
    """Open what a trial works on. For a data-free method the training images are closed before it exists."""
    dataset = dataset_of(trial)
    task, recipe = tasks()[trial.task], trial_recipe(trial)
    problem, accuracy = _problem(root, trial, dataset, device)
    task_data, real = task.task_data(dataset, recipe, task.options.model_validate(trial.options)), None
    unlabelled = given_images(trial, problem.domain)
    if task_data is None and not recipe.data_free:
        real = _real_images(trial, dataset, problem, unlabelled)
    dataset.close_training_data()
    return Job(
        trial=trial,
        recipe=recipe,
        problem=problem,
        teacher_top1=accuracy,
        test=dataset.test if dataset.has_test else None,
        real=real,
        streams=Streams(device, *trial.seed_parts()),
        precision=trial.precision,  # type: ignore[arg-type]
        class_names=dataset.spec.class_names,
        task_data=task_data,
        encoding=dataset.spec.encoding,
        held_out=stored_held_out(root, trial, problem),
        unlabelled=unlabelled,
    )


def _real_images(
    trial: Trial, dataset: Dataset, problem: Problem, unlabelled: torch.Tensor | None
) -> ImagePool:
    """The real images of a reference row: those that are given without labels for the row of these, else the training
    split.
    """
    pool = ImagePool(problem.domain.shape, problem.device)
    if MethodName.parse(trial.method).host == tasks()[trial.task].calibration_row and unlabelled is not None:
        pool.add(unlabelled, labels_by(problem, unlabelled))
    else:
        train = dataset.train
        pool.add(train.images, train.labels)
    return pool


def _keep_traceback(job: WorkJob, text: str) -> None:
    with suppress(OSError):  # the one-line reason still reaches the user
        check_may_write()
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "error.txt").write_text(text, encoding="utf-8")


def record_failure(job: WorkJob, outcome: Outcome) -> None:
    """Write into a trial's folder, whose claim is held, that it failed, unless it has a result."""
    if not isinstance(job, TrialJob) or Store(job.root).status(job.folder) == "finished":
        return
    with suppress(OSError):  # a full disk is reported to the user by the runner
        write_json(job.product, {"schema": SCHEMA, "status": "failed", "reason": outcome.reason})
