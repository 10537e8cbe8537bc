"""Plans a suite: check everything first, and see what the store has of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rgal.core.cores import instead_of, runnable
from rgal.core.domain import domain_text
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
    untuned,
)
from rgal.suite.plan.fingerprint import Fingerprints
from rgal.suite.plan.network import is_on_disk, suite_dataset
from rgal.suite.plan.settings import NO_DATA, Suite
from rgal.suite.plan.trial import Trial, short_hash
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.console import clock
from rgal.suite.running.devices import choose_device
from rgal.suite.running.estimates import Work, speeds_of
from rgal.suite.running.jobs import version
from rgal.suite.running.teachers import build_net
from rgal.suite.store.folders import CHECKPOINT, Store
from rgal.suite.store.index import Index
from rgal.suite.store.records import Record
from rgal.suite.task import Task, tasks, trial_recipe

OURS = ("finished", "interrupted", "failed")  # statuses of trials that this version can read


@dataclass(frozen=True)
class Plan:
    """A suite, checked and expanded.

    Attributes:
        codes: fingerprint of the code that would make a trial's numbers now, by the trial's key.
        teacher_codes: of the code that would train a teacher now, by the teacher's key; "" for given ones.
        found: what was found in each network, in words, by its name.
        read: whether the data set was read; else keys are not those of the trials to come.
    """

    suite: Suite
    dataset: Dataset
    device: str
    trials: list[Trial]
    codes: Mapping[str, str]
    teacher_codes: Mapping[str, str]
    found: Mapping[str, str] = field(default_factory=dict)
    read: bool = True

    def purpose(self, trial: Trial) -> Pretraining:
        """What a trial's teacher is trained for."""
        task = tasks()[self.suite.task]
        options = check_options(self.suite, task)
        return task.pretraining(self.dataset, trial_recipe(trial), self.suite.teacher_of(trial.seed), options)


def make_plan(suite: Suite, choose: Callable[[str], str] = choose_device, to_run: bool = True) -> Plan:
    """Check names, data, networks and weights before anything runs.

    Args:
        suite: what is asked for.
        choose: finds the device that the suite names.
        to_run: False if the plan is only looked at: then a well-known data set need not be on disk.
    """
    suite = suite.model_copy(update={"plugins": load_plugins(suite.plugins)})
    if suite.task not in tasks():
        raise UserError(f"unknown task '{suite.task}'; {nearest(suite.task, tasks())}")
    suite.chosen_budget()
    device = choose(suite.device)
    if suite.teacher_weights and not Path(suite.teacher_weights).exists():
        raise UserError(f"--teacher-weights {suite.teacher_weights}: no such file")
    task = tasks()[suite.task]
    if suite.dataset == NO_DATA and task.needs_data:
        raise UserError(
            f"task '{task.name}' learns from real images; --dataset none has none, give a data set"
        )
    read = to_run or is_on_disk(suite)
    dataset, given = suite_dataset(suite, read)
    _check_splits(suite, task, dataset)
    domain = dataset.spec.domain
    names = {name for pair in suite.networks for name in (pair.teacher, pair.student) if name}
    built = {name: build_net(name, domain, torch.device("cpu"), 0) for name in sorted(names)}
    found = {name: str(found_in(net)) for name, net in built.items()}
    given |= calibration_fields(suite.calibration, task, domain)
    trials = expand(suite, task, dataset, device, given)
    check_networks(trials, task, domain, built)
    return _with_codes(Plan(suite, dataset, device, trials, {}, {}, found, read))


def _check_splits(suite: Suite, task: Task, dataset: Dataset) -> None:
    """Refuse what cannot be done with the one split that a data set has.

    Raises:
        UserError: the task needs the split that is missing, or a teacher would be trained on it.
    """
    where = f"data set '{suite.dataset}' has no"
    if task.needs_data and not (dataset.has_train and dataset.has_test):
        kind, hint = ("training split", "give a data set that has one")
        if dataset.has_train:
            kind, hint = "labelled test split", "--set evaluate_on=validation keeps training images for it"
        raise UserError(f"{where} {kind}, which task '{task.name}' needs; {hint}")
    if not dataset.has_train and not suite.teacher_weights:
        raise UserError(f"{where} training split to train a teacher on; give --teacher-weights FILE")


def _with_codes(plan: Plan) -> Plan:
    """Add the fingerprints. Seeds and cases are run by the same code: one is looked up for all of a method's."""
    fingerprints = Fingerprints()
    alike: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        alike.setdefault(_same_work(trial), []).append(trial)
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
    """List the trials with their keys, the steps each will take, about how long, and what is done; then what the
    networks have.
    """
    stored = stored_trials(plan, store)
    headings = list(dict.fromkeys(trial.setting for trial in plan.trials))
    titles = [f"{t.setting}: {t.title}" if len(headings) > 1 else t.title for t in plan.trials]
    width = max(map(len, titles))
    entries = entries_taken(plan.suite, tasks()[plan.suite.task], plan.dataset, plan.device)
    works = works_of(plan, plan.trials)
    seconds = estimates(plan, store, stored, [one for one in stored if not one.finished])
    count = f"{len(stored)} trial{'' if len(stored) == 1 else 's'}"
    lines = [f"{count}: {'; '.join(headings)}, budget {plan.suite.budget}, on {plan.device}"]
    for title, one in zip(titles, stored, strict=True):
        trial, work = one.trial, works[one.trial.key]
        lines.append(
            f"  {trial.key if plan.read else '-'}  {title:<{width}}  {work.rounds} rounds  "
            f"{work.synthesis:>7,} synthesis steps  {work.student:>7,} student steps  "
            f"{entries[trial.teacher, trial.student, trial.method]}{one.note}{_about(seconds.get(trial.key))}"
        )
    lines += [f"  {name}: {parts}" for name, parts in plan.found.items()]
    return "\n".join([*lines, what_is_left(len(stored), seconds)])


def works_of(plan: Plan, trials: Sequence[Trial]) -> dict[str, Work]:
    """Count the steps that each trial takes in all, by its key. Seeds and cases of a method take the same."""
    task = tasks()[plan.suite.task]
    times = task.repeats(plan.dataset, check_options(plan.suite, task))
    alike: dict[str, Work] = {}
    works: dict[str, Work] = {}
    for trial in trials:
        same = _same_work(trial)
        if same not in alike:
            rounds = trial_recipe(trial).rounds
            synthesis = times * rounds.count * rounds.synthesis_steps
            alike[same] = Work(rounds.count, synthesis, times * rounds.total_student_steps())
        works[trial.key] = alike[same]
    return works


def _same_work(trial: Trial) -> str:
    """Return what is the same of trials that differ in their seed or case alone."""
    return short_hash([trial.method, trial.teacher, trial.student, trial.schedule])


def estimates(
    plan: Plan, store: Store, stored: Sequence[StoredTrial], todo: Sequence[StoredTrial]
) -> dict[str, float]:
    """Estimate the seconds of each trial that is to run, by its key; NaN where nothing is known."""
    if not todo:
        return {}
    speeds, works = speeds_of(store, stored), works_of(plan, [one.trial for one in todo])
    return {one.trial.key: speeds.seconds(one.trial, works[one.trial.key]) for one in todo}


def what_is_left(planned: int, seconds: Mapping[str, float], slots: int = 1) -> str:
    """Say in a line how many trials are to run, and about how long that takes, so many at a time.

    Trials that were begun count as whole, and the training of teachers is not in the time.
    """
    if not seconds:
        return f"all {planned} trials are finished"
    text = f"{len(seconds)} of {planned} trials to run, {'one' if slots == 1 else slots} at a time"
    known = [value for value in seconds.values() if not math.isnan(value)]
    if not known:
        return f"{text}; how long is not known yet: nothing of this setting has finished here"
    unknown = len(seconds) - len(known)
    beside = f", and {unknown} of which nothing is known" if unknown else ""
    return f"{text}: about {clock(math.fsum(known) / slots)}{beside}, as finished trials here took"


def _about(seconds: float | None) -> str:
    return "" if seconds is None or math.isnan(seconds) else f"  about {clock(seconds)}"


def plan_warnings(plan: Plan) -> list[str]:
    """What a user should know of a plan before it runs, a line each."""
    suite, lines = plan.suite, []
    wanted = suite.asked_precision
    taken = runnable(wanted, plan.device)
    if taken != wanted:
        lines.append(f"warning: {instead_of(wanted, taken)}")
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
        record: what is in it; None where it is missing.
        other_code: whether what is there was made by other code than today's.
        version: of its result.
    """

    trial: Trial
    folder: Path
    record: Record | None
    other_code: bool
    version: str

    @property
    def status(self) -> str:
        return self.record.status if self.record else "missing"

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def undrawn(self) -> bool:
        """Whether it is finished but lacks its pictures: its process died over them."""
        return self.finished and (self.folder / CHECKPOINT).exists()

    @property
    def note(self) -> str:
        """For the list of trials; "" if nothing is there."""
        states = {"finished": "finished", "interrupted": "begun"}
        state = states.get(self.status, "")
        return f"  {state}{' by other code' if self.other_code else ''}" if state else ""


def stored_trials(plan: Plan, store: Store) -> list[StoredTrial]:
    """Look up what the store has of each trial of a plan."""
    stored, index = [], Index(store.root)
    for trial in plan.trials:
        folder = store.trial_folder(trial.name, trial.key)
        record = index.record(folder) if folder.is_dir() else None
        other = record is not None and record.status in OURS and record.fingerprint != plan.codes[trial.key]
        stored.append(StoredTrial(trial, folder, record, other, version(folder / "result.json")))
    return stored


def image_lines(plan: Plan) -> list[str]:
    """Say what images the networks take, and who says so; and what of the data set's files was left out."""
    name = plan.dataset.spec.name
    return [
        f"data set {name}: {text}" for text in (domain_text(plan.dataset.spec.domain), *plan.dataset.notes)
    ]
