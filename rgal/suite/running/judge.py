"""Judges students: by test images where there are any, else by how alike the teacher and they answer.

Without a label an accuracy cannot be known. What can be: agreement with the teacher on held-out synthesised images, and
on real ones where some are given; and how sure the teacher is of the images.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from rgal.engine.evaluation import Agreement, agreement, logits_of, top1
from rgal.suite.task import Job

QUANTILES = (0.1, 0.5, 0.9)


class Judge:
    """Evaluate students of one trial, and keep what came out.

    Args:
        job: the trial, with the images that students are judged on.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.evaluations: list[dict[str, float]] = []

    def __call__(self, student: nn.Module) -> dict[str, float]:
        """Evaluate a student: top1 in percent, or agreement in percent and kl in nats; real_agreement, real_kl."""
        job, found = self.job, {}
        if job.test is not None:
            found["top1"] = top1(student, job.test.images, job.test.labels, job.problem.domain, job.precision)
        elif job.held_out is not None:
            alike = self._compared(student, job.held_out, self._held_out_logits)
            found |= {"agreement": alike.top1, "kl": alike.kl}
        if job.unlabelled is not None:
            alike = self._compared(student, job.unlabelled, self._real_logits)
            found |= {"real_agreement": alike.top1, "real_kl": alike.kl}
        self.evaluations.append(found)
        return found

    def _compared(self, student: nn.Module, images: Tensor, teacher: Tensor) -> Agreement:
        return agreement(logits_of(student, images, self.job.problem.domain, self.job.precision), teacher)

    @cached_property
    def _held_out_logits(self) -> Tensor:
        return self._of_teacher(self.job.judged_on)

    @cached_property
    def _real_logits(self) -> Tensor:
        assert self.job.unlabelled is not None
        return self._of_teacher(self.job.unlabelled)

    def _of_teacher(self, images: Tensor) -> Tensor:
        problem = self.job.problem
        return logits_of(problem.teacher, images, problem.domain, self.job.precision)

    def result(self) -> dict[str, Any]:
        """Return the numbers of the last evaluation, and of labelled test images the best one beside it."""
        last = dict(self.evaluations[-1])
        note = {"judged_note": text} if (text := self._note()) else {}
        if self.job.test is None:
            return last | note
        accuracies = [one["top1"] for one in self.evaluations]
        del last["top1"]
        return {
            "last": accuracies[-1],
            "best": max(accuracies),
            "teacher_top1": self.job.teacher_top1,
            **last,
            **note,
        }

    def _note(self) -> str:
        """Say what students are judged on, and how sure the teacher is of it; "" where it is a test split alone."""
        job, parts = self.job, []
        if job.test is None and job.held_out is not None:
            parts.append(
                f"{len(job.held_out):,} held-out synthesised images ({_sure(self._held_out_logits)})"
            )
        if job.unlabelled is not None:
            where = f"{job.trial.calibration}, {job.trial.calibration_key}"
            parts.append(
                f"{len(job.unlabelled):,} real images without labels from {where} ({_sure(self._real_logits)})"
            )
        return f"judged on {' and on '.join(parts)}" if parts else ""

    def confidence(self, images: Tensor) -> dict[str, float]:
        """Return the distribution of the teacher's confidence on the images (N,C,H,W) a method made, in percent."""
        if self.job.test is not None or not len(images):
            return {}
        sure = _confidence(self._of_teacher(images))
        low, median, high = (float(sure.quantile(q)) for q in QUANTILES)
        return {"confidence_low": low, "confidence_median": median, "confidence_high": high}


def _confidence(logits: Tensor) -> Tensor:
    """Return the largest class probability of each row of logits (N,C), in percent."""
    return 100 * logits.double().softmax(1).max(1).values


def _sure(logits: Tensor) -> str:
    sure = _confidence(logits)
    low, median, high = (float(sure.quantile(q)) for q in QUANTILES)
    return (
        f"the teacher's confidence: median {median:.1f} %, 10th to 90th percentile {low:.1f} to {high:.1f} %"
    )
