"""The command line: parse, expand trials, run, report. Knows no method and no task by name."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: spinning OpenMP barriers make two threads three times slower than one on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from typing import TYPE_CHECKING

from rgal import benchmarks
from rgal.core.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rgal.suite.plan.settings import Suite

OVERRIDES = (
    "task",
    "dataset",
    "data_root",
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
LISTS = ("tasks", "methods", "datasets", "nets", "suites")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="run_suite.py" if Path(sys.argv[0]).name == "run_suite.py" else "rgal",
        description="Run a suite of data-free knowledge transfer trials and render its tables and plots.",
        epilog="Finished trials are kept; run the same command again to add, resume or only render.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=100),
    )
    p.add_argument("--task", metavar="NAME", help="kd (default), ...: see --list tasks")
    p.add_argument(
        "--suite", metavar="FILE", type=Path, help="settings; default benchmarks/TASK[_DATASET].yaml"
    )
    p.add_argument(
        "--methods", nargs="+", metavar="M", help="name, name[param=value], name+rgal; or all, all+rgal"
    )
    p.add_argument(
        "--plugin", nargs="+", metavar="FILE", dest="plugins", help="Python files with methods, data, nets"
    )
    p.add_argument("--dataset", metavar="NAME", help="digits, cifar10, ..., or any name with --data-root")
    p.add_argument("--data-root", metavar="DIR", help="folder of parquet shards or image folders")
    p.add_argument("--teacher", metavar="NET", help="teacher network")
    p.add_argument("--student", metavar="NET", help="student network")
    p.add_argument("--teacher-weights", metavar="FILE", help=".safetensors or .pth; otherwise trained once")
    p.add_argument("--init-pool", metavar="PATH", help="images that the pools start with: a kept pool, PNGs")
    p.add_argument("--seeds", nargs="+", type=int, metavar="N", help="the seeds themselves, e.g. 0 1 2")
    p.add_argument("--budget", metavar="NAME", help="smoke, small or paper: a budget in the suite file")
    p.add_argument("--device", metavar="DEV", help="auto (default), cpu, cuda or cuda:N")
    p.add_argument("--precision", metavar="P", help="fp32 or bf16")
    p.add_argument("--bits", nargs="+", metavar="wKaK", help="dfq: bit widths, e.g. w8a8 w4a4 w3a3")
    p.add_argument("--export", metavar="FORMAT", help="dfq: export and measure the students; onnx")
    p.add_argument("--export-only", metavar="TRIAL", help="export one finished trial: its key or folder")
    p.add_argument("--results", metavar="DIR", type=Path, default=Path("results"), help="default results/")
    p.add_argument(
        "--set", nargs="+", metavar="K=V", default=[], help="any setting, e.g. rounds=5 student_lr=0.05"
    )
    p.add_argument(
        "--jobs", type=int, metavar="N", help="trials at a time (0: in this process, for debugging)"
    )
    p.add_argument(
        "--threads", type=int, metavar="N", help="threads of each trial (default: the cores shared out)"
    )
    p.add_argument("--tensorboard", action="store_true", help="also write event files: results/tensorboard/")
    p.add_argument("--dry-run", action="store_true", help="print trials, keys and steps; run nothing")
    p.add_argument("--report-only", action="store_true", help="render what is stored; run nothing")
    p.add_argument("--list", metavar="WHAT", help=f"what there is: {', '.join(LISTS)}")
    return p


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        if find_spec("torch") is None:
            raise UserError(f"{sys.executable} has no torch: activate the environment that rgal is in")
        if options.list is not None:
            print(listing(options.list, options.plugins or ()))
            return 0
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(options: argparse.Namespace) -> int:
    from rgal.reporting.report import render, summary
    from rgal.suite.running.exports import check_export, export_trials, find_trial
    from rgal.suite.running.runner import HowToRun, describe_plan, exit_code, make_plan, run_plan
    from rgal.suite.running.tensorboard import check_tensorboard
    from rgal.suite.store.folders import Store

    how = HowToRun(options.jobs, options.threads, options.tensorboard)
    store = Store(options.results)
    if options.report_only:
        print(summary(render(store)))
        return 0
    if options.export_only:
        with store.lock():
            print(export_trials(store, [find_trial(store, options.export_only)], options.export or "onnx"))
            render(store)
        return 0
    if options.tensorboard:
        check_tensorboard()
    plan = make_plan(load(options))
    if options.export:
        check_export(plan.suite.task, options.export)
    if options.dry_run:
        print(describe_plan(plan))
        return 0
    store.prepare()
    with store.lock():
        complete, outcomes = run_plan(plan, store, how)
        if complete:
            if options.export:
                folders = [store.trial_folder(trial.name, trial.key) for trial in plan.trials]
                print(export_trials(store, folders, options.export), file=sys.stderr)
            print(summary(render(store, {trial.key for trial in plan.trials})))
    return exit_code(complete, outcomes)


def load(options: argparse.Namespace) -> Suite:
    """The suite file the options name or imply, with the options applied."""
    from rgal.suite.plan.settings import load_suite
    from rgal.suite.task import tasks

    task = options.task or "kd"
    if options.task and task not in tasks():
        raise UserError(f"unknown task '{task}'; {nearest(task, tasks())}")
    path = options.suite or default_suite(task, options.dataset)
    overrides = {name: getattr(options, name) for name in OVERRIDES}
    own = {name: getattr(options, name) for name in OPTIONS}
    return load_suite(path, overrides, tuple(options.set), own)


def default_suite(task: str, dataset: str | None) -> Path:
    """benchmarks/TASK_DATASET.yaml if there is one, else benchmarks/TASK.yaml."""
    folder = Path(benchmarks.__file__).parent
    own = folder / f"{task}_{dataset}.yaml"
    return own if dataset and own.is_file() else folder / f"{task}.yaml"


def listing(what: str, plugins: Sequence[str] = ()) -> str:
    from rgal import data, nets
    from rgal.methods.plugins import load_plugins
    from rgal.methods.registry import methods, parameters
    from rgal.suite.plan.settings import read_yaml
    from rgal.suite.task import tasks

    if what not in LISTS:
        raise UserError(f"--list {what}: {nearest(what, LISTS)}")
    load_plugins(plugins)
    if what == "tasks":
        return "\n".join(f"{name:<8} {task.summary}" for name, task in tasks().items())
    if what == "methods":
        lines = []
        for name, method in methods().items():
            chosen = ", ".join(f"{key}={default}" for key, (_, default) in parameters(method.recipe).items())
            lines.append(f"{name:<14} [{', '.join(method.tasks)}] {method.reference}\n{'':<15}{chosen}")
        return "\n".join(lines)
    if what == "suites":
        files = sorted(Path(benchmarks.__file__).parent.glob("*.yaml"))
        width = max(len(p.name) for p in files)
        return "\n".join(f"{p.name:<{width}} {read_yaml(p).get('title', '')}" for p in files)
    return "\n".join(data.names() if what == "datasets" else (*nets.names(), *nets.forms()))


if __name__ == "__main__":
    sys.exit(main())
