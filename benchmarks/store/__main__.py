"""Measure what a store of many finished trials costs: `python -m rgal.benchmarks.store`.

Makes up stores of finished trials of the digits (nothing is trained) and prints, for each size, seconds of the
processor and of the clock and the memory of the commands that a user waits for: the first render of all tables,
figures and the page, a render of an unchanged store, one after a single new trial, and `--dry-run` of the command that
has all the trials. Each runs in a process of its own; processes that draw are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rgal.benchmarks.store.made_up import METHODS, STUDENTS, TEACHERS, write_suite, write_trials
from rgal.suite.plan.settings import load_suite
from rgal.suite.running.runner import make_plan

STEPS = ("first render", "unchanged", "one new trial", "dry run")
HEAD = f"{'trials':>7} {'settings':>8}  {'command':<14} {'CPU s':>8} {'clock s':>8} {'MB':>6}"


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rgal.benchmarks.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[200, 1000, 5000], help="sizes of the stores"
    )
    parser.add_argument(
        "--a-setting",
        type=int,
        default=500,
        help=f"trials of one pair of networks: {len(METHODS)} methods x seeds",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made and stay; default: removed at the end"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure stores of the sizes that are asked for, and print a line for each command."""
    asked = parser()
    options = asked.parse_args(argv)
    for trials in options.trials:
        a_setting = min(trials, options.a_setting)
        pairs = trials // max(1, a_setting)
        if a_setting < 1 or a_setting % len(METHODS) or trials % a_setting:
            asked.error(
                f"--trials and --a-setting: expected multiples of {len(METHODS)}, and the first of the second"
            )
        if pairs > len(TEACHERS) * len(STUDENTS):
            asked.error("--trials: at most 20 times --a-setting")
    rows: list[dict[str, Any]] = []
    print(HEAD)
    with tempfile.TemporaryDirectory() as temporary:
        for trials in options.trials:
            folder = (options.folder or Path(temporary)) / f"{trials}"
            for row in measure(folder, trials, min(trials, options.a_setting)):
                rows.append(row)
                print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(folder: Path, trials: int, a_setting: int) -> list[dict[str, Any]]:
    """Make a store and run the commands on it.

    Args:
        folder: where the suite file and the results directory are made.
        trials: finished trials of the store.
        a_setting: how many of them each pair of networks has.

    Returns:
        A row for each command: seconds of the processor and of the clock, and the most memory in MB.
    """
    folder.mkdir(parents=True)
    suite, results = write_suite(folder / "suite.yaml", trials, a_setting), folder / "results"
    plan = make_plan(load_suite(suite, {}))
    codes = dict(plan.codes)
    *before, late = plan.trials
    write_trials(results, before, codes)
    rendered, planned = ("--report-only",), ("--suite", str(suite), "--dry-run")
    rows = []
    for name, arguments in zip(STEPS, (rendered, rendered, rendered, planned), strict=True):
        if name == "one new trial":
            write_trials(results, [late], codes)
        cost = run([*arguments, "--results", str(results)])
        rows.append({"trials": trials, "settings": trials // a_setting, "command": name, **cost})
    return rows


def run(arguments: list[str]) -> dict[str, float]:
    """Run the command line in a process of its own; return what that cost.

    Raises:
        RuntimeError: it ended with another exit code than 0.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "rgal.cli", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"rgal {' '.join(arguments)} ended with exit code {process.returncode}")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def line(row: dict[str, Any]) -> str:
    """Write a row for the terminal."""
    return (
        f"{row['trials']:>7,} {row['settings']:>8}  {row['command']:<14} {row['cpu_seconds']:>8.2f} "
        f"{row['wall_seconds']:>8.2f} {row['peak_mb']:>6,}"
    )


if __name__ == "__main__":
    main()
