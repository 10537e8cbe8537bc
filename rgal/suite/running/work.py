"""What runs inside a worker: one teacher, or one trial. Every outcome is written to the store before it is reported."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import rgal
from rgal.core.domain import domain_text
from rgal.core.errors import UserError, in_short
from rgal.core.precision import reproducible
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.data import Dataset
from rgal.engine.run import Diverged
from rgal.methods.names import MethodName
from rgal.methods.plugins import load_plugins
from rgal.suite.plan.calibration import given_images
from rgal.suite.plan.fingerprint import mixed
from rgal.suite.plan.initial_pool import labels_by
from rgal.suite.plan.network import dataset_of
from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.plan.trial import Trial
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.drive import ProgressMessage, drive, unwatched
from rgal.suite.running.held_out import held_out_folder, make_held_out, stored_held_out
from rgal.suite.running.teachers import TeacherSpec, stored_teacher, teacher_files, train_teacher
from rgal.suite.running.tensorboard import event_files
from rgal.suite.store.folders import SCHEMA, Store, read_json, write_json
from rgal.suite.store.locks import Busy, locked
from rgal.suite.task import Job, tasks, trial_recipe
from rgal.synthesis.pool import ImagePool

WAIT_SECONDS = 10.0  # for a worker whose runner was killed: it notices within a second
Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a piece of work ended. fault: "user" for a UserError or a full disk, "trial" for anything else."""

    status: Status
    reason: str = ""
    fault: Literal["", "user", "trial"] = ""
    result: dict[str, Any] | None = None


@dataclass(frozen=True)
class TeacherJob:
    """Train one teacher.

    Attributes:
        trial: one of the trials that need it.
        fingerprint: of the code that trains it.
        purpose: what tells it from the others of its suite, for people.
    """

    root: Path
    trial: Trial
    recipe: TeacherRecipe
    fingerprint: str
    purpose: str = ""

    @property
    def title(self) -> str:
        purpose = f" {self.purpose}" if self.purpose else ""
        return f"teacher {self.trial.teacher} on {self.trial.dataset}{purpose}"


@dataclass(frozen=True)
class TrialJob:
    """Run one trial.

    Attributes:
        fingerprint: of the code that makes its numbers.
        label: what tells its networks from the others of its suite, for people.
        tensorboard: whether to write event files too.
        slots: how many trials run at a time.
    """

    root: Path
    trial: Trial
    fingerprint: str
    label: str = ""
    tensorboard: bool = False
    slots: int = 1

    @property
    def title(self) -> str:
        return f"{self.label} {self.trial.title}" if self.label else self.trial.title


@dataclass(frozen=True)
class HeldOutJob:
    """Synthesise the images that the students of a teacher are judged on. trial: one of those that need them."""

    root: Path
    trial: Trial

    @property
    def title(self) -> str:
        return f"held-out images of {self.trial.teacher}"


WorkJob = TeacherJob | HeldOutJob | TrialJob


def perform(job: WorkJob, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]) -> Outcome:
    """Do a job. Never raises: a failure is an outcome with one line of reason.

    Args:
        job: what to do.
        report: told of progress.
        stop: whether to stop, asked after every step.
    """
    try:
        reproducible(torch.device(job.trial.device))
        load_plugins(job.trial.plugins, quiet=True)
        if isinstance(job, TeacherJob):
            return _teacher(job, report, stop)
        if isinstance(job, HeldOutJob):
            return _held_out(job, report, stop)
        return _trial(job, report, stop)
    except Busy as error:  # another process holds the trial: nothing is written into it
        return Outcome("failed", str(error), "user")
    except UserError as error:
        outcome = Outcome("failed", str(error), "user")
    except Diverged as error:
        outcome = Outcome("failed", str(error), "trial")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = f"cannot write to {job.root}: {error.strerror or error}" if full else f"OSError: {error}"
        outcome = Outcome("failed", reason, "user" if full else "trial")
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
    trial, store = job.trial, Store(job.root)
    folder = store.trial_folder(trial.name, trial.key)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "trial", busy="another process is working on it", wait_seconds=WAIT_SECONDS):
        status = store.status(folder)
        if status == "finished":  # by a process that died over its pictures
            return Outcome("finished", result=read_json(folder / "result.json"))
        if status == "failed":
            (folder / "result.json").unlink()
        fingerprint = job.fingerprint
        if (folder / "checkpoint.pt").exists():
            fingerprint = mixed(store.fingerprint(folder), fingerprint)
        asked = {
            "schema": SCHEMA,
            "key": trial.key,
            "fingerprint": fingerprint,
            "settings": trial.settings(),
            "environment": environment() | {"slots": job.slots},
        }
        write_json(folder / "trial.json", asked)
        device = torch.device(trial.device)
        prepared = prepare(job.root, trial, device)
        run = tasks()[trial.task].start(prepared)
        with event_files(job.root, folder.name) if job.tensorboard else nullcontext(unwatched) as watch:
            complete = drive(run, folder, device, report, stop, watch)
        if not complete:
            return Outcome("interrupted")
        run.save(folder)
        result = {**run.result(), **_about_images(prepared)}
        write_json(folder / "result.json", {"schema": SCHEMA, "status": "finished", "reason": "", **result})
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        try:
            run.illustrate(folder)
        except Exception:  # it costs pictures, never the result; the page links its traceback
            _keep_traceback(job, traceback.format_exc())
    return Outcome("finished", result=result)


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


def _work_folder(job: WorkJob) -> Path:
    trial = job.trial
    if isinstance(job, TeacherJob):
        return teacher_files(job.root, trial.teacher, trial.dataset, trial.teacher_key)[2]
    if isinstance(job, HeldOutJob):
        return held_out_folder(job.root, trial)
    return Store(job.root).trial_folder(trial.name, trial.key)


def _keep_traceback(job: WorkJob, text: str) -> None:
    try:
        folder = _work_folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(text, encoding="utf-8")
    except OSError:
        pass  # the one-line reason still reaches the user


def record_failure(job: WorkJob, outcome: Outcome) -> None:
    """Write into a trial's folder that it failed, unless it has a result."""
    if not isinstance(job, TrialJob) or Store(job.root).status(_work_folder(job)) == "finished":
        return
    try:
        record = {"schema": SCHEMA, "status": "failed", "reason": outcome.reason}
        write_json(_work_folder(job) / "result.json", record)
    except OSError:
        pass  # a full disk is reported to the user by the runner


def environment() -> dict[str, Any]:
    """Describe the machine and the versions that a trial runs on."""
    return {
        "rgal": rgal.__version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "pid": os.getpid(),
    }


def _revision() -> str | None:
    root = Path(rgal.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
