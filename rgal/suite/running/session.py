"""Runs a plan: the teachers that are missing, held-out images, then trials; alone or beside other runners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rgal.core.ending import exit_code_of
from rgal.suite.plan.expansion import check_options, images_of_teacher, teacher_recipe
from rgal.suite.plan.fingerprint import mixed
from rgal.suite.plan.trial import Trial
from rgal.suite.plan.weights import weights_of
from rgal.suite.running.console import Console
from rgal.suite.running.held_out import has_held_out, held_out_folder
from rgal.suite.running.jobs import (
    HeldOutJob,
    Outcome,
    TeacherJob,
    TrialJob,
    WorkJob,
    teacher_claim,
    version,
)
from rgal.suite.running.resources import HowToRun
from rgal.suite.running.runner import (
    Plan,
    StoredTrial,
    estimates,
    image_lines,
    stored_trials,
    what_is_left,
)
from rgal.suite.running.scheduler import Listener, Scheduler
from rgal.suite.running.sites import Site
from rgal.suite.running.teachers import import_teacher, teacher_files
from rgal.suite.store.checkpoint import interval_seconds
from rgal.suite.store.claims import ClaimLost, Claims, lapse_seconds
from rgal.suite.store.folders import Store, read_json, trial_claim
from rgal.suite.task import tasks


def run_plan(
    plan: Plan, store: Store, how: HowToRun, site: Site
) -> tuple[int, list[tuple[WorkJob, Outcome]]]:
    """Run what is not finished, or with `how.fresh` all. Return the signal that stopped it, or 0, and the outcomes.

    Other runners may work on the same results directory: each job is done by one of them, and this returns when all of
    the plan are done. Fresh trials lose what they had once their teachers are there. They are unfinished from then on,
    so that a plain run goes on with them. What today's code has begun is not begun again.
    """
    for check in (lapse_seconds, interval_seconds):  # whatever is wrong with them is said now
        check()
    site.prepare(plan, store)
    claims = Claims(store.root)
    claims.remove_dead()
    stored = stored_trials(plan, store)
    todo = [one for one in stored if how.fresh or not one.finished or one.undrawn]
    trials = [one.trial for one in todo]
    slots, threads = site.share(len(todo))
    teachers, kept = ready_teachers(plan, store, trials, how.fresh)
    judging = _missing_held_out(store, trials, how.fresh)
    console = Console(len(todo) + len(teachers) + len(judging), slots)
    heading = _heading(plan, store, stored, todo, slots)
    for line in (*image_lines(plan), *_notices(stored, kept, how.fresh), *heading):
        console.write(line)
    outcomes: list[tuple[WorkJob, Outcome]] = []

    def on_outcome(job: WorkJob, outcome: Outcome) -> None:
        outcomes.append((job, outcome))
        console.outcome(job, outcome)

    def run(batch: Sequence[WorkJob], at_once: int, threads: int) -> int:
        listener = Listener(console.report, on_outcome, console.write)
        return Scheduler(claims, site.engine(), site.places(at_once), threads, listener).run(batch)

    pixels = plan.dataset.spec.shape[1] * plan.dataset.spec.shape[2]
    before: tuple[Sequence[WorkJob], Sequence[WorkJob]] = (teachers, judging)
    try:
        for jobs in filter(None, before):
            stopped = run(jobs, *site.share_of_teachers(slots, len(jobs), pixels))
            if stopped or any(outcome.status != "finished" for _, outcome in outcomes):
                return stopped, outcomes
        for one in todo if how.fresh else ():
            if one.finished or one.other_code:
                _discard(store, claims, one)
        stopped = run([_job(plan, store, one, how, slots) for one in todo], slots, threads)
        if stopped and how.fresh:
            console.write("to go on, leave --fresh out: with it, what has finished now is run again too")
        return stopped, outcomes
    finally:
        console.close()


def _discard(store: Store, claims: Claims, one: StoredTrial) -> None:
    """Delete what is stored of a trial, unless another runner works on it, or has made it anew since."""
    if claim := claims.try_to_claim(trial_claim(one.folder), one.trial.title):
        with suppress(ClaimLost), claim.kept():
            if version(one.folder / "result.json") == one.version:
                store.discard(one.folder)


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
            with Claims(store.root).held(teacher_claim(store.root, trial), f"teacher {trial.teacher}"):
                import_teacher(store.root, *about, weights, suite.allow_weak_teacher)
            continue
        code, trained_by = plan.teacher_codes[trial.teacher_key], teacher_code(store.root, trial)
        if trained_by is not None and (trained_by == code or not fresh):
            kept += [trial] if trained_by != code else []
            continue
        recipe = teacher_recipe(suite, purpose, suite.teacher_of(trial.seed), images)
        title = purpose.title or f"(seed {recipe.seed})"
        job = TeacherJob(store.root, trial, recipe, code, title)
        jobs.append(replace(job, before=version(job.product)))
    return jobs[::-1], kept[::-1]


def teacher_code(root: Path, trial: Trial) -> str | None:
    """The fingerprint of the code that trained a trial's teacher, "" if it is not known; None: no teacher is there."""
    weights, record, _ = teacher_files(root, trial.teacher, trial.dataset, trial.teacher_key)
    content = read_json(record)
    return str(content.get("fingerprint", "")) if content and weights.exists() else None


def _missing_held_out(store: Store, trials: list[Trial], fresh: bool) -> list[HeldOutJob]:
    """The jobs that make the held-out images which trials are judged on and which are not there, each once; with
    `fresh` all of them.
    """
    wanted = {held_out_folder(store.root, trial): trial for trial in trials if trial.held_out}
    missing = (trial for trial in wanted.values() if fresh or not has_held_out(store.root, trial))
    jobs = (HeldOutJob(store.root, trial) for trial in missing)
    return [replace(job, before=version(job.product)) for job in jobs]


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


def _heading(
    plan: Plan, store: Store, stored: list[StoredTrial], todo: list[StoredTrial], slots: int
) -> Iterator[str]:
    """What is going to run, where, and about how long that takes."""
    if todo:
        settings = "; ".join(dict.fromkeys(one.trial.setting for one in todo))
        left = what_is_left(len(stored), estimates(plan, store, stored, todo), slots)
        yield f"{settings}, budget {plan.suite.budget}, on {plan.device}: {left}"


def _count(things: Sequence[object], kind: str) -> str:
    return f"{len(things)} {kind}{'' if len(things) == 1 else 's'}"


def _job(plan: Plan, store: Store, one: StoredTrial, how: HowToRun, slots: int) -> TrialJob:
    trial = one.trial
    code, teacher = plan.codes[trial.key], teacher_code(store.root, trial)
    if plan.teacher_codes[trial.teacher_key] and teacher is not None:
        code = code if teacher == plan.teacher_codes[trial.teacher_key] else mixed(teacher, code)
    label = f"{trial.teacher} -> {trial.student}" if len(plan.suite.networks) > 1 else ""
    return TrialJob(store.root, trial, code, label, how.trackers, slots, one.version)


def exit_code(stopped: int, outcomes: list[tuple[WorkJob, Outcome]]) -> int:
    """Return 0: all finished. 2: something the user gave is wrong. 1: a trial failed otherwise. 130, 143: stopped."""
    if stopped:
        return exit_code_of(stopped)
    faults = Counter(outcome.fault for _, outcome in outcomes if outcome.status == "failed")
    if faults["user"]:
        return 2
    return 1 if faults else 0
