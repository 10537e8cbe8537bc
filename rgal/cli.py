"""The command line: parse, expand trials, run, report. Knows no method and no task by name."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: spinning OpenMP barriers make two threads three times slower than one on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from typing import TYPE_CHECKING

from rgal.core.ending import NO_READER, WRONG_INPUT, guarded, printable, say
from rgal.core.errors import UserError, nearest
from rgal.core.stand_ins import COMPUTING, DRAWING, stand_ins
from rgal.suite.options import LISTS, parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rgal.suite.plan.settings import Suite
    from rgal.suite.store.folders import Store

OVERRIDES = (
    "task",
    "dataset",
    "data_root",
    "test_split",
    "calibration",
    "teacher",
    "student",
    "teacher_weights",
    "init_pool",
    "methods",
    "plugins",
    "seeds",
    "budget",
    "device",
    "precision",
)
OPTIONS = ("bits",)  # options of tasks that have a flag of their own; any other goes through --set
NETWORK = ("classes", "image", "mean", "std", "normalise", "flip")  # what is said of the networks' images
LINKS = ("tasks", "baselines", "benchmarks")  # parts of rgal that are folders at the top of a checkout


def main(argv: list[str] | None = None) -> int:
    """Run the command line, with `argv` or the process's own arguments, and return its exit code."""
    printable(sys.stdout, sys.stderr)
    return guarded(lambda: command(argv))


def command(argv: list[str] | None) -> int:
    """Do what the arguments say and return the exit code; errors of the user end in one line."""
    try:
        options = parser().parse_args(argv)
        check_links()
        if find_spec("torch") is None:
            raise UserError(f"{sys.executable} has no torch: activate the environment that rgal is in")
        if options.list is not None:
            print(
                listing(options.list[0], options.list[1:], options.plugins or (), options.task or ""),
                flush=True,
            )
            return 0
        if options.status or options.report_only:
            print(look(options))
            return 0
        if options.watch is not None:
            return watch(options.results, options.watch)
        return run(options)
    except UserError as error:
        say(f"error: {error}")
        return WRONG_INPUT
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say(f"error: standard output cannot be written: {error.strerror}")
        return WRONG_INPUT


def check_links() -> None:
    """Raise UserError if this is a checkout whose symbolic links were written as text files, as git does on Windows."""
    for name in LINKS:
        if (Path(__file__).parent / name).is_file():
            raise UserError(
                f"rgal/{name} is a text file, not a link to {name}/: allow symbolic links (on Windows: developer "
                "mode), then run `git config core.symlinks true` and `git checkout -- rgal`; or install a wheel"
            )


def run(options: argparse.Namespace) -> int:
    """Do what the options say: export, print the plan, or run it. Return the exit code."""
    from rgal.suite.running.exports import Exported, check_export, export_trials, find_trial
    from rgal.suite.running.resources import HowToRun
    from rgal.suite.running.runner import describe_plan, image_lines, make_plan, plan_warnings
    from rgal.suite.running.session import exit_code, run_plan
    from rgal.suite.running.sites import opened_site
    from rgal.suite.store.folders import Store
    from rgal.suite.tracking.tracker import check_trackers

    how = HowToRun(
        *(options.jobs, options.threads, tuple(dict.fromkeys(options.track)), options.fresh),
        *(options.devices, options.per_device, options.engine, options.address),
    )
    store = Store(options.results.absolute() if how.engine == "ray" else options.results)
    if options.export_only:
        return export_one(store, find_trial(store, options.export_only), options.export or "onnx")
    check_trackers(how.trackers)
    suite = load(options)
    with opened_site(how) as site:
        plan = make_plan(suite, site.choose_device, to_run=not options.dry_run)
        if options.export:
            check_export(plan.suite.task, options.export)
        if options.dry_run:
            print(*image_lines(plan), sep="\n", file=sys.stderr)
            print(describe_plan(plan, store))
            for line in plan_warnings(plan):
                print(line, file=sys.stderr)
            return 0
        store.prepare()
        store.remove_orphans()
        stopped, outcomes = run_plan(plan, store, how, site)
    if stopped:
        return exit_code(stopped, outcomes)
    folders = [store.trial_folder(trial.name, trial.key) for trial in plan.trials]
    exported = export_trials(store, folders, options.export) if options.export else Exported([], [])
    for line in (*exported.lines, *exported.failures):
        print(line, file=sys.stderr)
    if store.trial_folders():  # there is none if a teacher failed, whose reason has been said
        print(report(store, {trial.key for trial in plan.trials}))
    return exit_code(stopped, outcomes) or int(bool(exported.failures))


def export_one(store: Store, folder: Path, form: str) -> int:
    """Export one finished trial, and render the store. Return the exit code."""
    from rgal.suite.running.exports import export_trials

    exported = export_trials(store, [folder], form)
    if exported.failures:
        raise UserError(f"--export-only: {exported.failures[0]}")
    print(*exported.lines, sep="\n")
    report(store)
    return 0


def look(options: argparse.Namespace) -> str:
    """Return the status of a store, or render it and return its summary, without loading what trials compute with."""
    with stand_ins(*COMPUTING, *(DRAWING if options.status else ())):
        from rgal.suite.running.status import status_text
        from rgal.suite.store.folders import Store

        return status_text(options.results) if options.status else report(Store(options.results))


def watch(results: Path, port: int) -> int:
    """Serve the page of a results directory until somebody stops this process."""
    with stand_ins(*COMPUTING):
        from rgal.reporting.live.server import serve
        from rgal.suite.store.folders import Store

        serve(results, lambda: report(Store(results)), partial(print, flush=True), port)
    return 0


def report(store: Store, ran: set[str] | None = None) -> str:
    """Render a store, and return what its summary says: of the trials with the keys `ran`, or of all.

    Of several runners of the same trials that end together one renders.
    """
    # plotting and statistics, which nothing else here waits for
    from rgal.reporting.report import render, summary
    from rgal.suite.plan.trial import short_hash
    from rgal.suite.store.rendering import rendering

    title = f"report {short_hash(sorted(ran or ()))}"
    with rendering(store.root, title) as is_ours:
        if is_ours:
            return summary(render(store, ran))
    return f"tables and page: rendered by another runner: {store.root / 'report.html'}"


def load(options: argparse.Namespace) -> Suite:
    """Read the suite file that the options name or imply, and apply the options to it."""
    from rgal.methods.plugins import load_plugins
    from rgal.suite.plan.settings import load_suite
    from rgal.suite.task import tasks

    load_plugins(options.plugins or (), quiet=True)  # one of them may bring the task
    task = options.task or "kd"
    if options.task and not options.suite and task not in tasks():
        raise UserError(f"unknown task '{task}'; {nearest(task, tasks())}")
    path = named_suite(options.suite) if options.suite else default_suite(task, options.dataset)
    if options.teacher and not options.suite and not options.dataset:
        check_teacher_is_of(path, options.teacher)
    overrides = {name: getattr(options, name) for name in OVERRIDES}
    own = {name: getattr(options, name) for name in OPTIONS}
    network = {name: getattr(options, name) for name in NETWORK}
    return load_suite(path, overrides, tuple(options.set), own, network)


def suites_folder() -> Path:
    """Return the folder of the suites that come with rgal."""
    from rgal import benchmarks

    return Path(benchmarks.__file__).parent


def named_suite(path: Path) -> Path:
    """Return the file at `path`; if there is none, the suite of that name that comes with rgal.

    `benchmarks/plugin.yaml`, `plugin.yaml` and `plugin` name the same suite wherever rgal is installed.
    """
    if path.exists() or path.parent not in (Path(), Path("benchmarks")):
        return path
    own = suites_folder() / path.with_suffix(".yaml").name
    return own if own.is_file() else path


def default_suite(task: str, dataset: str | None) -> Path:
    """Return benchmarks/TASK_DATASET.yaml if it exists, else benchmarks/TASK.yaml. UserError if there is neither."""
    own, general = suites_folder() / f"{task}_{dataset}.yaml", suites_folder() / f"{task}.yaml"
    if not dataset or not own.is_file():
        own = general
    if not own.is_file():
        raise UserError(f"task '{task}' has no suite in {suites_folder()}; name one with --suite FILE")
    return own


def check_teacher_is_of(path: Path, teacher: str) -> None:
    """Refuse a teacher without a data set, unless it is the one that the task's own suite names with its data.

    `--teacher wrn16_1` alone is the project's network for the digits. Any other one may be for anything.
    """
    from rgal.suite.plan.settings import SAY_ON_WHAT
    from rgal.suite.plan.yaml_file import read_yaml

    suite = read_yaml(path)
    if teacher != suite.get("teacher"):
        raise UserError(
            f"--teacher {teacher}: on which images? {SAY_ON_WHAT}; for the digits: --dataset digits"
        )


def listing(what: str, names: Sequence[str] = (), plugins: Sequence[str] = (), task: str = "") -> str:
    """Return the text of `--list what`, with what the plug-in files add.

    Args:
        what: one of LISTS.
        names: the methods to describe, of the list of methods; none: list all of them.
        plugins: files with methods, data sets, networks and tasks.
        task: the one whose methods are listed; "": any.

    Raises:
        UserError: there is no such list, method or task, or a plug-in cannot be loaded.
    """
    if what not in LISTS:
        raise UserError(f"--list {what}: {nearest(what, LISTS)}")
    if names and what != "methods":
        raise UserError(f"--list {what} {names[0]}: expected no name; only methods are described one by one")
    # A plug-in may need whatever it imports; our own modules declare without it.
    spared = () if plugins or _plugins_installed() else (*COMPUTING, *DRAWING)
    with stand_ins(*spared):
        return _suites() if what == "suites" else _registered(what, names, plugins, task)


def _plugins_installed() -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group="rgal.methods"))


def _registered(what: str, names: Sequence[str], plugins: Sequence[str], task: str) -> str:
    from rgal import data, nets
    from rgal.methods.listing import list_methods
    from rgal.methods.plugins import load_plugins
    from rgal.suite.task import tasks

    load_plugins(plugins)
    if task and task not in tasks():
        raise UserError(f"unknown task '{task}'; {nearest(task, tasks())}")
    if what == "tasks":
        return "\n".join(f"{name:<8} {task.summary}" for name, task in tasks().items())
    if what == "methods":
        return list_methods(names, task)
    return "\n".join(data.names() if what == "datasets" else (*nets.names(), *nets.forms()))


def _suites() -> str:
    from rgal.suite.plan.yaml_file import read_yaml

    files = sorted(suites_folder().glob("*.yaml"))
    width = max(len(path.name) for path in files)
    return "\n".join(f"{path.name:<{width}} {read_yaml(path).get('title', '')}" for path in files)


if __name__ == "__main__":
    sys.exit(main())
