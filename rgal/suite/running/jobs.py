"""Pieces of work: a teacher, held-out images, a trial. What each is called, what it leaves, and how it can end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.plan.trial import Trial
from rgal.suite.running.held_out import held_out_folder
from rgal.suite.running.teachers import teacher_files
from rgal.suite.store.folders import CHECKPOINT, Store, read_json, trial_claim
from rgal.synthesis.pool_files import FILE

Status = Literal["finished", "failed", "interrupted", "elsewhere"]
Fault = Literal["", "user", "trial", "memory"]


@dataclass(frozen=True)
class Outcome:
    """How a piece of work ended.

    Attributes:
        status: "elsewhere": another runner holds its claim, or has taken it over.
        reason: why it failed, in a line.
        fault: "user" for a UserError or a full disk, "memory" for a device that had too little, "trial" for others.
        result: what it measured.
        by_another: whether another runner did it.
    """

    status: Status
    reason: str = ""
    fault: Fault = ""
    result: dict[str, Any] | None = None
    by_another: bool = False


@dataclass(frozen=True)
class TeacherJob:
    """Train one teacher.

    Attributes:
        trial: one of the trials that need it.
        fingerprint: of the code that trains it.
        purpose: what tells it from the others of its suite, for people.
        before: what `version` says of what it leaves, when it was planned.
    """

    root: Path
    trial: Trial
    recipe: TeacherRecipe
    fingerprint: str
    purpose: str = ""
    before: str = ""

    @property
    def title(self) -> str:
        purpose = f" {self.purpose}" if self.purpose else ""
        return f"teacher {self.trial.teacher} on {self.trial.dataset}{purpose}"

    @property
    def claim(self) -> str:
        return teacher_claim(self.root, self.trial)

    @property
    def folder(self) -> Path:
        """Where it is worked on."""
        return teacher_files(self.root, self.trial.teacher, self.trial.dataset, self.trial.teacher_key)[2]

    @property
    def product(self) -> Path:
        """The file that is written last."""
        return teacher_files(self.root, self.trial.teacher, self.trial.dataset, self.trial.teacher_key)[1]

    def recorded(self) -> Outcome | None:
        """What is stored of how it ended."""
        content = read_json(self.product)
        if content is None or content.get("fingerprint") != self.fingerprint:
            return None
        return Outcome("finished", result={"last": float(content.get("top1", math.nan))})


@dataclass(frozen=True)
class HeldOutJob:
    """Synthesise the images that the students of a teacher are judged on. trial: one of those that need them."""

    root: Path
    trial: Trial
    before: str = ""

    @property
    def title(self) -> str:
        return f"held-out images of {self.trial.teacher}"

    @property
    def claim(self) -> str:
        return self.folder.name

    @property
    def folder(self) -> Path:
        return held_out_folder(self.root, self.trial)

    @property
    def product(self) -> Path:
        return self.folder / FILE

    def recorded(self) -> Outcome | None:
        return Outcome("finished", result={})


@dataclass(frozen=True)
class TrialJob:
    """Run one trial.

    Attributes:
        fingerprint: of the code that makes its numbers.
        label: what tells its networks from the others of its suite, for people.
        trackers: names of what is told of its numbers too.
        slots: how many trials run at a time.
    """

    root: Path
    trial: Trial
    fingerprint: str
    label: str = ""
    trackers: Sequence[str] = ()
    slots: int = 1
    before: str = ""

    @property
    def title(self) -> str:
        return f"{self.label} {self.trial.title}" if self.label else self.trial.title

    @property
    def claim(self) -> str:
        return trial_claim(self.folder)

    @property
    def folder(self) -> Path:
        return Store(self.root).trial_folder(self.trial.name, self.trial.key)

    @property
    def product(self) -> Path:
        return self.folder / "result.json"

    @property
    def checkpoint(self) -> Path:
        """Its state, until all of it is done: a finished trial that has one lacks its pictures."""
        return self.folder / CHECKPOINT

    def recorded(self) -> Outcome | None:
        status = Store(self.root).status(self.folder)
        content = read_json(self.product) or {}
        if status == "failed":
            return Outcome("failed", str(content.get("reason", "")), "trial")
        done = status == "finished" and not self.checkpoint.exists()
        return Outcome("finished", result=content) if done else None


WorkJob = TeacherJob | HeldOutJob | TrialJob


def done_by_another(job: WorkJob) -> Outcome | None:
    """Return how a job ended that another runner did since it was planned; None if none did."""
    now = version(job.product)
    if not now or now == job.before:
        return None
    outcome = job.recorded()
    return None if outcome is None else replace(outcome, by_another=True)


def on_device(job: WorkJob, device: str) -> WorkJob:
    """Return the same job for a certain device, such as `cuda:1` where the trial says `cuda`."""
    return replace(job, trial=replace(job.trial, device=device))


def version(file: Path) -> str:
    """Tell the versions of a file that is only ever replaced as a whole apart; "" if it is missing."""
    try:
        found = file.stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns} {found.st_size}"


def teacher_claim(root: Path, trial: Trial) -> str:
    """Name the claim of a trial's teacher."""
    return teacher_files(root, trial.teacher, trial.dataset, trial.teacher_key)[0].stem
