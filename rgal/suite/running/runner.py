"""Runs a suite: check everything first, train the teacher, run what is missing, render what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rgal.core.domain import domain_text
from rgal.core.ending import exit_code_of
from rgal.core.errors import UserError, nearest
from rgal.data import Dataset
from rgal.methods.plugins import load_plugins
from rgal.nets.describe import found_in
from rgal.suite.plan.calibration import calibration_fields
from rgal.suite.plan.checks import check_networks
from rgal.suite.plan.expansion import (
    check_options,
    entries_taken,
    expand,
    images_of_teacher,
    runnable,
    teacher_recipe,
    untuned,
)
from rgal.suite.plan.fingerprint import Fingerprints, mixed
from rgal.suite.plan.network import suite_dataset
from rgal.suite.plan.settings import NO_DATA, Suite
from rgal.suite.plan.trial import Trial, short_hash
from rgal.suite.plan.weights import weights_of
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.console import Console
from rgal.suite.running.engines import run_inline, run_jobs
from rgal.suite.running.held_out import has_held_out, held_out_folder
from rgal.suite.running.resources import HowToRun, share_cores, share_cores_of_teachers
from rgal.suite.running.teachers import build_net, import_teacher, teacher_files
from rgal.suite.running.work import HeldOutJob, Outcome, TeacherJob, TrialJob, WorkJob
from rgal.suite.store.folders import Store, read_json
from rgal.suite.task import tasks, trial_recipe

OURS = ("finished", "interrupted", "failed")  # statuses of trials that this version can read


@dataclass(frozen=True)
class Plan:
    """A suite, checked and expanded.

    Attributes:
        codes: fingerprint of the code that would make a trial's numbers now, by the trial's key.
        teacher_codes: of the code that would train a teacher now, by the teacher's key; "" for given ones.
        found: what was found in each network, in words, by its name.
    """

    suite: Suite
    dataset: Dataset
    device: str
    trials: list[Trial]
    codes: Mapping[str, str]
    teacher_codes: Mapping[str, str]
    found: Mapping[str, str] = field(default_factory=dict)

    def purpose(self, trial: Trial) -> Pretraining:
        """What a trial's teacher is trained for."""
        task = tasks()[self.suite.task]
        options = check_options(self.suite, task)
        return task.pretraining(self.dataset, trial_recipe(trial), self.suite.teacher_of(trial.seed), options)


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
    if suite.teacher_weights and not Path(suite.teacher_weights).exists():
        raise UserError(f"--teacher-weights {suite.teacher_weights}: no such file")
    task = tasks()[suite.task]
    if suite.dataset == NO_DATA and task.needs_data:
        raise UserError(
            f"task '{task.name}' learns from real images; --dataset none has none, give a data set"
        )
    dataset, given = suite_dataset(suite)
    domain = dataset.spec.domain
    names = {name for pair in suite.networks for name in (pair.teacher, pair.student) if name}
    built = {name: build_net(name, domain, torch.device("cpu"), 0) for name in sorted(names)}
    found = {name: str(found_in(net)) for name, net in built.items()}
    given |= calibration_fields(suite.calibration, task, domain)
    trials = expand(suite, task, dataset, device, given)
    check_networks(trials, task, domain, built)
    return _with_codes(Plan(suite, dataset, device, trials, {}, {}, found))


def _with_codes(plan: Plan) -> Plan:
    """Add the fingerprints. Seeds and cases are run by the same code: one is looked up for all of a method's."""
    fingerprints = Fingerprints()
    alike: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        alike.setdefault(short_hash([trial.method, trial.teacher, trial.student, trial.schedule]), []).append(
            trial
        )
    codes: dict[str, str] = {}
    teacher_codes: dict[str, str] = {}
    for first, *others in alike.values():
        own = plan.purpose(first).own
        of_trial, of_teacher = fingerprints.of_trial(first, own), fingerprints.of_teacher(first, own)
        for trial in (first, *others):
            codes[trial.key] = of_trial
            teacher_codes.setdefault(trial.teacher_key, of_teacher)
    return replace(plan, codes=codes, teacher_codes=teacher_codes)


def describe_plan(plan: Plan, store: Store) -> str:
    """List the trials with their keys, the steps each will take and what is done; then what the networks have."""
    settings = list(dict.fromkeys(trial.setting for trial in plan.trials))
    heading = "; ".join(settings)
    lines = [f"{len(plan.trials)} trials: {heading}, budget {plan.suite.budget}, on {plan.device}"]
    task = tasks()[plan.suite.task]
    times = task.repeats(plan.dataset, check_options(plan.suite, task))
    titles = [f"{t.setting}: {t.title}" if len(settings) > 1 else t.title for t in plan.trials]
    width = max(map(len, titles))
    entries = entries_taken(plan.suite, task, plan.dataset, plan.device)
    for title, stored in zip(titles, stored_trials(plan, store), strict=True):
        rounds = trial_recipe(stored.trial).rounds
        lines.append(
            f"  {stored.trial.key}  {title:<{width}}  "
            f"{rounds.count} rounds  {times * rounds.count * rounds.synthesis_steps:>7,} synthesis steps  "
            f"{times * rounds.total_student_steps():>7,} student steps  "
            f"{entries[stored.trial.teacher, stored.trial.student, stored.trial.method]}{stored.note}"
        )
    lines += [f"  {name}: {parts}" for name, parts in plan.found.items()]
    return "\n".join(lines)


def plan_warnings(plan: Plan) -> list[str]:
    """What a user should know of a plan before it runs, a line each."""
    suite, lines = plan.suite, []
    wanted = suite.asked_precision
    if wanted != runnable(wanted, plan.device):
        lines.append(
            f"warning: this processor has no instructions for {wanted}, which would be slower: fp32 instead"
        )
    names = untuned(suite, tasks()[suite.task], plan.dataset, plan.device)
    if not names:
        return lines
    run = f"{names[0]} runs" if len(names) == 1 else f"{', '.join(names)} run"
    return [
        *lines,
        f"warning: {run} what budget {suite.budget} says for all, beside methods with a schedule of their own; "
        f"--set budgets.{suite.budget}.methods.NAME='{{rounds: ...}}', or budgets= in a plug-in's @method",
    ]


@dataclass(frozen=True)
class StoredTrial:
    """What the store has of a trial.

    Attributes:
        folder: its folder, which may be missing.
        status: see `Store.status`.
        other_code: whether what is there was made by other code than today's.
    """

    trial: Trial
    folder: Path
    status: str
    other_code: bool

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def note(self) -> str:
        """For the list of trials; "" if nothing is there."""
        states = {"finished": "finished", "interrupted": "begun"}
        state = states.get(self.status, "")
        return f"  {state}{' by other code' if self.other_code else ''}" if state else ""


def stored_trials(plan: Plan, store: Store) -> list[StoredTrial]:
    """Look up what the store has of each trial of a plan."""
    stored = []
    for trial in plan.trials:
        folder = store.trial_folder(trial.name, trial.key)
        status = store.status(folder)
        other = status in OURS and store.fingerprint(folder) != plan.codes[trial.key]
        stored.append(StoredTrial(trial, folder, status, other))
    return stored


def ready_teachers(
    plan: Plan, store: Store, trials: list[Trial], fresh: bool
) -> tuple[list[TeacherJob], list[Trial]]:
    """Find the teachers that trials need and that are not there. Given weights are checked and imported right away.

    Args:
        plan, store: the plan, and where its teachers are.
        trials: those that are to run.
        fresh: whether a teacher that other code trained is trained again.

    Returns:
        The jobs that train them, and a trial each of the teachers that other code trained and that stay.
    """
    suite, jobs, kept = plan.suite, [], []
    task = tasks()[suite.task]
    images = images_of_teacher(suite, task, plan.dataset, check_options(suite, task))
    for trial in {trial.teacher_key: trial for trial in reversed(trials)}.values():
        purpose = plan.purpose(trial)
        if suite.teacher_weights:
            part, weights = purpose.part(plan.dataset), weights_of(suite.teacher_weights, trial.teacher)
            about = (trial.teacher, part, part.spec.domain, trial.teacher_key)
            import_teacher(store.root, *about, weights, suite.allow_weak_teacher)
            continue
        code, trained_by = plan.teacher_codes[trial.teacher_key], teacher_code(store.root, trial)
        if trained_by is not None and (trained_by == code or not fresh):
            kept += [trial] if trained_by != code else []
            continue
        recipe = teacher_recipe(suite, purpose, suite.teacher_of(trial.seed), images)
        title = purpose.title or f"(seed {recipe.seed})"
        jobs.append(TeacherJob(store.root, trial, recipe, code, title))
    return jobs[::-1], kept[::-1]


def teacher_code(root: Path, trial: Trial) -> str | None:
    """The fingerprint of the code that trained a trial's teacher, "" if it is not known; None: no teacher is there."""
    weights, record, _ = teacher_files(root, trial.teacher, trial.dataset, trial.teacher_key)
    content = read_json(record)
    return str(content.get("fingerprint", "")) if content and weights.exists() else None


def run_plan(plan: Plan, store: Store, how: HowToRun) -> tuple[int, list[tuple[WorkJob, Outcome]]]:
    """Run what is not finished, or with `how.fresh` all. Return the signal that stopped it, or 0, and the outcomes.

    Fresh trials lose what they had once their teachers are there. They are unfinished from then on, so that a plain
    run goes on with them. What today's code has begun is not begun again.
    """
    stored = stored_trials(plan, store)
    todo = [one for one in stored if how.fresh or not one.finished]
    trials = [one.trial for one in todo]
    teachers, kept = ready_teachers(plan, store, trials, how.fresh)
    slots, threads = share_cores(how, plan.device, len(todo))
    judging = _missing_held_out(store, trials, how.fresh)
    console = Console(len(todo) + len(teachers) + len(judging), slots)
    for line in (*image_lines(plan), *_notices(stored, kept, how.fresh)):
        console.write(line)
    outcomes: list[tuple[WorkJob, Outcome]] = []

    def on_outcome(job: WorkJob, outcome: Outcome) -> None:
        outcomes.append((job, outcome))
        console.outcome(job, outcome)

    def run(batch: Sequence[WorkJob], at_once: int, threads: int) -> int:
        if how.slots == 0:
            return run_inline(batch, console.report, on_outcome, how.threads)
        return run_jobs(batch, at_once, threads, console.report, on_outcome)

    pixels = plan.dataset.spec.shape[1] * plan.dataset.spec.shape[2]
    before: tuple[Sequence[WorkJob], Sequence[WorkJob]] = (teachers, judging)
    try:
        for jobs in filter(None, before):
            stopped = run(jobs, *share_cores_of_teachers(how, slots, len(jobs), pixels))
            if stopped or any(outcome.status != "finished" for _, outcome in outcomes):
                return stopped, outcomes
        for one in todo if how.fresh else ():
            if one.finished or one.other_code:
                store.discard(one.folder)
        stopped = run([_job(plan, store, trial, how, slots) for trial in trials], slots, threads)
        if stopped and how.fresh:
            console.write("to go on, leave --fresh out: with it, what has finished now is run again too")
        return stopped, outcomes
    finally:
        console.close()


def image_lines(plan: Plan) -> list[str]:
    """Say what images the networks take, and who says so; and what of the data set's files was left out."""
    name = plan.dataset.spec.name
    return [
        f"data set {name}: {text}" for text in (domain_text(plan.dataset.spec.domain), *plan.dataset.notes)
    ]


def _missing_held_out(store: Store, trials: list[Trial], fresh: bool) -> list[HeldOutJob]:
    """The jobs that make the held-out images which trials are judged on and which are not there, each once; with
    `fresh` all of them.
    """
    wanted = {held_out_folder(store.root, trial): trial for trial in trials if trial.held_out}
    missing = (trial for trial in wanted.values() if fresh or not has_held_out(store.root, trial))
    return [HeldOutJob(store.root, trial) for trial in missing]


def _notices(stored: list[StoredTrial], kept: list[Trial], fresh: bool) -> Iterator[str]:
    """What a user should know of what is there, before anything runs."""
    finished = [one for one in stored if one.finished]
    if finished and fresh:
        yield f"--fresh deletes {_count(finished, 'finished trial')} and runs what it deletes again"
    elif finished:
        yield f"{len(finished)} of {len(stored)} trials are finished already"
    if fresh:
        return
    if other := [one for one in finished if one.other_code]:
        yield (
            f"warning: {_count(other, 'finished trial')} made by other code than this, which may give other numbers; "
            "--fresh runs the trials of this command again"
        )
    if begun := [one for one in stored if one.status == "interrupted" and one.other_code]:
        yield (
            f"warning: {_count(begun, 'unfinished trial')} begun by other code than this, to be gone on with; "
            "--fresh begins anew"
        )
    for trial in kept:
        yield (
            f"warning: teacher {trial.teacher} on {trial.dataset} ({trial.teacher_key}) trained by other code than "
            "this; --fresh trains it again"
        )


def _count(things: Sequence[object], kind: str) -> str:
    return f"{len(things)} {kind}{'' if len(things) == 1 else 's'}"


def _job(plan: Plan, store: Store, trial: Trial, how: HowToRun, slots: int) -> TrialJob:
    code, teacher = plan.codes[trial.key], teacher_code(store.root, trial)
    if plan.teacher_codes[trial.teacher_key] and teacher is not None:
        code = code if teacher == plan.teacher_codes[trial.teacher_key] else mixed(teacher, code)
    label = f"{trial.teacher} -> {trial.student}" if len(plan.suite.networks) > 1 else ""
    return TrialJob(store.root, trial, code, label, how.tensorboard, slots)


def exit_code(stopped: int, outcomes: list[tuple[WorkJob, Outcome]]) -> int:
    """Return 0: all finished. 2: something the user gave is wrong. 1: a trial failed otherwise. 130, 143: stopped."""
    if stopped:
        return exit_code_of(stopped)
    faults = Counter(outcome.fault for _, outcome in outcomes if outcome.status == "failed")
    if faults["user"]:
        return 2
    return 1 if faults else 0
