"""The task kd, data-free knowledge distillation: a smaller student learns from the teacher on synthesised images."""

from __future__ import annotations

from rgal.suite.running.single import SingleRun
from rgal.suite.running.teachers import build_net
from rgal.suite.task import Job, Task


class KnowledgeDistillation(Task):
    """Trains a new student, which starts from the same weights for every method of a seed."""

    name = "kd"
    summary = "data-free distillation: a smaller student from a teacher without its data"
    takes_pool = True

    def start(self, job: Job) -> SingleRun:
        domain, device = job.problem.domain, job.problem.device
        student = job.student
        if student is None:
            student = build_net(job.trial.student, domain, device, *job.trial.seed_parts(), "student")
        return SingleRun(job, student)


TASK = KnowledgeDistillation()
