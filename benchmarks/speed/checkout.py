"""Time the steps of a trial on the digits in a checkout, as a program of its own: `against` runs it in two in turn.

It imports nothing of the checkout that runs it, but what `argv[1]` names: its suite, and the class that does steps,
whatever the revision calls it. Prints JSON: CPU seconds of a step of each kind (the mean without the slowest and the
fastest tenth), and the most memory that the process had, in MiB.

    python checkout.py CHECKOUT METHOD TEACHER_WEIGHTS RESULTS SYNTHESIS_STEPS STUDENT_STEPS
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

WARM = 4  # steps of each kind that are not counted
# What does a step: module, class, and its name for the kind that is under way; the newest revision first.
MACHINES = (("rgal.engine.run", "TransferRun", "mode"), ("rgal.stage", "Stage", "phase"))
COMMANDS = ("rgal.cli", "run_suite")


def first_of(names: tuple[str, ...]) -> Any:
    """Import the first of these modules that there is."""
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise SystemExit(f"no module of {', '.join(names)} in {Path.cwd()}")


def cpu_seconds() -> float:
    """Return the seconds of the processor that this process has spent."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def trimmed(seconds: list[float]) -> float:
    """Return the mean of all but the slowest and the fastest tenth."""
    cut = len(seconds) // 10
    kept = sorted(seconds)[cut : len(seconds) - cut]
    return sum(kept) / len(kept)


def watch(steps: dict[str, int], done: Any) -> None:
    """Have every step timed, and `done` called with the seconds by kind once there are `steps` of each."""
    module = first_of(tuple(name for name, _, _ in MACHINES))
    _, machine, kind_of = next(each for each in MACHINES if each[0] == module.__name__)
    run = getattr(module, machine)
    advance, spent = run.advance, {kind: [] for kind in steps}  # type: ignore[var-annotated]

    def timed(self: Any) -> Any:
        kind, begun = getattr(self, kind_of), cpu_seconds()
        rows = advance(self)
        if not rows and getattr(self, kind_of) == kind:
            spent[kind].append(cpu_seconds() - begun)
        if all(len(spent[kind]) >= count - 1 for kind, count in steps.items()):
            done({kind: trimmed(seconds[WARM:]) for kind, seconds in spent.items()})
        return rows

    run.advance = timed


def main(checkout: str, method: str, weights: str, results: str, synthesis: str, student: str) -> None:
    """Start a trial, time its first round, and leave."""
    os.chdir(checkout)
    sys.path[0] = str(Path(checkout).resolve())

    def done(seconds: dict[str, float]) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(1, json.dumps({"seconds": seconds, "peak_mib": peak}).encode())
        os._exit(0)

    watch({"synthesis": int(synthesis), "student": int(student)}, done)
    lengths = ["rounds=1", f"synthesis_steps={synthesis}", f"student_steps={student}"]
    with contextlib.redirect_stdout(io.StringIO()):
        command = ["--task", "kd", "--methods", method, "--seeds", "0", "--jobs", "0", "--results", results]
        code = first_of(COMMANDS).main([*command, "--teacher-weights", weights, "--set", *lengths])
    raise SystemExit(f"{checkout}: the trial ended with {code} before it had been timed")


if __name__ == "__main__":
    main(*sys.argv[1:])
