"""Runs a suite: check everything first, train the teacher, run what is missing, render what there is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from rgal.core.cores import granted_cores, wanted_threads
from rgal.core.errors import UserError, nearest
from rgal.data import Dataset
from rgal.methods.plugins import load_plugins
from rgal.suite.plan.checks import check_networks
from rgal.suite.plan.expansion import check_options, entries_taken, expand
from rgal.suite.plan.settings import Suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running.console import Console
from rgal.suite.running.engines import run_inline, run_jobs
from rgal.suite.running.teachers import build_net, import_teacher, teacher_files
from rgal.suite.running.work import Outcome, TeacherJob, TrialJob, WorkJob, domain_of, open_dataset
from rgal.suite.store.folders import Store, read_json
from rgal.suite.task import tasks, trial_recipe

BIG_IMAGE = 24 * 24  # pixels from which a convolution is worth a second thread


@dataclass(frozen=True)
class Plan:
    """A suite, checked and expanded."""

    suite: Suite
    dataset: Dataset
    device: str
    trials: list[Trial]


def choose_device(text: str) -> str:
    """auto | cpu | cuda | cuda:n -> a device that exists. UserError otherwise."""
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UserError(f"device '{text}': expected auto, cpu, cuda or cuda:n")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= count:
        raise UserError(f"device '{text}': this machine has {count} CUDA devices; try --device cpu")
    return text


def make_plan(suite: Suite) -> Plan:
    """Check names, data, networks and weights before anything runs."""
    suite = suite.model_copy(update={"plugins": load_plugins(suite.plugins)})
    if suite.task not in tasks():
        raise UserError(f"unknown task '{suite.task}'; {nearest(suite.task, tasks())}")
    suite.chosen_budget()
    device = choose_device(suite.device)
    if suite.teacher_weights and not Path(suite.teacher_weights).is_file():
        raise UserError(f"--teacher-weights {suite.teacher_weights}: no such file")
    dataset = open_dataset(suite.dataset, suite.data_root, suite.image_size, suite.evaluate_on)
    domain = domain_of(dataset)
    names = {name for pair in suite.networks for name in (pair.teacher, pair.student) if name}
    built = {name: build_net(name, domain, torch.device("cpu"), 0) for name in names}
    task = tasks()[suite.task]
    trials = expand(suite, task, dataset, device)
    check_networks(trials, task, domain, built)
    return Plan(suite, dataset, device, trials)


def describe_plan(plan: Plan) -> str:
    """The trials with their keys and the optimiser steps each will take."""
    settings = list(dict.fromkeys(trial.setting for trial in plan.trials))
    heading = "; ".join(settings)
    lines = [f"{len(plan.trials)} trials: {heading}, budget {plan.suite.budget}, on {plan.device}"]
    task = tasks()[plan.suite.task]
    times = task.stages(plan.dataset, check_options(plan.suite, task))
    titles = [f"{t.setting}: {t.title}" if len(settings) > 1 else t.title for t in plan.trials]
    width = max(map(len, titles))
    entries = entries_taken(plan.suite, task, plan.dataset, plan.device)
    for trial, title in zip(plan.trials, titles, strict=True):
        rounds = trial_recipe(trial).rounds
        lines.append(
            f"  {trial.key}  {title:<{width}}  "
            f"{rounds.count} rounds  {times * rounds.count * rounds.synthesis_steps:>7,} synthesis steps  "
            f"{times * rounds.total_student_steps():>7,} student steps  "
            f"{entries[trial.teacher, trial.student, trial.method]}"
        )
    return "\n".join(lines)


def ready_teachers(plan: Plan, store: Store, trials: list[Trial]) -> list[TeacherJob]:
    """The jobs that train the teachers which these trials need and which are not there. Given weights are checked and
    imported right away."""
    suite, task = plan.suite, tasks()[plan.suite.task]
    options, jobs = check_options(suite, task), []
    for trial in {trial.teacher_key: trial for trial in reversed(trials)}.values():
        purpose = task.pretraining(plan.dataset, trial_recipe(trial), trial.seed, options)
        if suite.teacher_weights:
            part, weights = purpose.part(plan.dataset), Path(suite.teacher_weights)
            import_teacher(store.root, trial.teacher, part, domain_of(part), trial.teacher_key, weights)
            continue
        stored, record, _ = teacher_files(store.root, trial.teacher, trial.dataset, trial.teacher_key)
        if not (stored.exists() and read_json(record)):
            recipe = suite.chosen_budget().teacher_training
            recipe = recipe.model_copy(update={"seed": purpose.identity.get("seed", recipe.seed)})
            jobs.append(TeacherJob(store.root, trial, recipe, purpose.title))
    return jobs[::-1]


@dataclass(frozen=True)
class HowToRun:
    """What the user says about running a plan on this machine.

    Attributes:
        slots: trials at a time. 0: one after the other in this process; None: what the cores are enough for.
        threads: threads of each trial; None: OMP_NUM_THREADS if it is set, else the cores shared out among the slots.
        tensorboard: whether to write event files too.
    """

    slots: int | None = None
    threads: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 0:
            raise UserError(f"--jobs {self.slots}: expected 0 or more")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads {self.threads}: expected 1 or more")


def share_cores(how: HowToRun, device: str, jobs: int) -> tuple[int, int]:
    """Share the granted cores out among jobs: (jobs at a time, threads of each), both at least 1.

    On a CPU, several small jobs with a thread each beat one with several threads; a GPU runs one job at a time.
    """
    cores, threads = granted_cores(), how.threads or wanted_threads()
    slots = how.slots
    if slots is None:
        slots = 1 if device.startswith("cuda") else min(cores // (threads or 1), jobs)
    slots = max(1, slots)
    return slots, threads or max(1, cores // slots)


def run_plan(plan: Plan, store: Store, how: HowToRun) -> tuple[bool, list[tuple[WorkJob, Outcome]]]:
    """Run what is not finished: whether it ran to the end, and the outcomes of this run."""
    todo = [t for t in plan.trials if store.status(store.trial_folder(t.name, t.key)) != "finished"]
    teachers = ready_teachers(plan, store, todo)
    several = len(plan.suite.networks) > 1
    labels = [f"{t.teacher} -> {t.student}" if several else "" for t in todo]
    jobs = [TrialJob(store.root, t, label, how.tensorboard) for t, label in zip(todo, labels, strict=True)]
    slots, threads = share_cores(how, plan.device, len(jobs))
    console = Console(len(jobs) + len(teachers), slots)
    if done := len(plan.trials) - len(todo):
        console.write(f"{done} of {len(plan.trials)} trials are finished already")
    outcomes: list[tuple[WorkJob, Outcome]] = []

    def on_outcome(job: WorkJob, outcome: Outcome) -> None:
        outcomes.append((job, outcome))
        console.outcome(job, outcome)

    def run(batch: list[WorkJob], at_once: int, threads: int) -> bool:
        if how.slots == 0:
            return run_inline(batch, console.report, on_outcome, how.threads)
        return run_jobs(batch, at_once, threads, console.report, on_outcome)

    pixels = plan.dataset.spec.shape[1] * plan.dataset.spec.shape[2]
    try:
        if teachers:
            at_once = min(slots, len(teachers))
            shared = threads if how.threads or wanted_threads() else max(1, granted_cores() // at_once)
            complete = run(list(teachers), at_once, shared if pixels >= BIG_IMAGE else 1)
            if not complete or any(outcome.status != "finished" for _, outcome in outcomes):
                return complete, outcomes
        return run(list(jobs), slots, threads), outcomes
    finally:
        console.close()


def exit_code(complete: bool, outcomes: list[tuple[WorkJob, Outcome]]) -> int:
    """0: all finished. 2: something the user gave is wrong. 1: a trial failed otherwise. 130: stopped."""
    if not complete:
        return 130
    faults = Counter(outcome.fault for _, outcome in outcomes if outcome.status == "failed")
    if faults["user"]:
        return 2
    return 1 if faults else 0
