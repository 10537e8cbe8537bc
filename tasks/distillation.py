"""The task kd, data-free knowledge distillation: a smaller student learns from the teacher on synthesised images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from rgal.nets.checkpoint import load_weights
from rgal.suite.measures import ACCURACY, costs
from rgal.suite.running.single import SingleRun
from rgal.suite.running.teachers import build_net
from rgal.suite.task import Job, Task
from rgal.tasks.quantization.measures import EXPORTED


def new_student(job: Job) -> nn.Module:
    """Build the student of a trial with the weights that it starts from."""
    domain, device = job.problem.domain, job.problem.device
    return build_net(job.trial.student, domain, device, *job.trial.seed_parts(), "student")


class KnowledgeDistillation(Task):
    """Trains a new student, which starts from the same weights for every method of a seed."""

    name = "kd"
    summary = "data-free distillation: a smaller student from a teacher without its data"
    takes_pool = True
    takes_calibration = True
    exports = ("onnx",)
    measures = (*ACCURACY, *costs(), *EXPORTED)

    def start(self, job: Job) -> SingleRun:
        return SingleRun(job, new_student(job) if job.student is None else job.student)

    def export(self, job: Job, folder: Path, form: str) -> dict[str, Any]:
        from rgal.tasks.quantization.onnx_measure import measure_float

        student = new_student(job)
        load_weights(student, folder / "student.safetensors")
        labels = None if job.test is None else job.test.labels
        return measure_float(student, job.problem.domain, job.judged_on, labels, folder)


TASK = KnowledgeDistillation()
