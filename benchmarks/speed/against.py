"""Compare the steps of this checkout with those of another revision's: trials on the digits, in turn.

    git worktree add /tmp/before 97f6926
    python -m rgal.benchmarks.speed.against /tmp/before --json docs/speed_before.json
    python -m rgal.benchmarks.speed.table docs/speed_before.json docs/speed.md

Each measurement is a process of one thread with the same teacher and the same settings, the digits' small budget in
one short round. A ratio is that of two processes, one after the other; the rows have its median, least and most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import rgal
from rgal.benchmarks.speed import checkout

HERE = Path(rgal.__file__).resolve().parents[1]
STEPS = (40, 48)  # of synthesis and of the student, in a process
KINDS = ("synthesis", "student")


def teacher(folder: Path) -> Path:
    """Train the teacher of the digits' suite and return the file of its weights."""
    settings = ["--set", "rounds=1", "synthesis_steps=1", "student_steps=1"]
    command = ["-m", "rgal.cli", "--task", "kd", "--methods", "plain", "--seeds", "0", "--jobs", "0"]
    run([*command, *settings, "--results", str(folder)], HERE)
    return next((folder / "teachers").glob("*.safetensors"))


def run(arguments: list[str], place: Path) -> str:
    """Run Python with one thread in a checkout and return what it prints."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(place),
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{place}: {' '.join(done.stderr.splitlines()[-1:])}")
    return done.stdout


def measured(place: Path, method: str, weights: Path, steps: tuple[int, int]) -> dict[str, Any]:
    """Time a method's steps in a checkout: `seconds` by kind of step, and `peak_mib`."""
    with tempfile.TemporaryDirectory() as results:
        arguments = [checkout.__file__, str(place), method, str(weights), results, *map(str, steps)]
        found: dict[str, Any] = json.loads(run(arguments, place))
    return found


def rows(method: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Make a row for each kind of step of pairs of measurements, the other checkout's first."""
    made = []
    for kind in KINDS:
        before, now = ([one["seconds"][kind] for one in side] for side in zip(*pairs, strict=True))
        ratios = [a / b for a, b in zip(before, now, strict=True)]
        peaks = [statistics.median(one["peak_mib"] for one in side) for side in zip(*pairs, strict=True)]
        made.append(
            {
                "case": f"kd {method}, wrn16_1 -> wrn10_1, 8 px",
                "step": kind,
                "before_seconds": statistics.median(before),
                "now_seconds": statistics.median(now),
                "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
                "before_mib": peaks[0],
                "now_mib": peaks[1],
            }
        )
    return made


def main(argv: list[str] | None = None) -> None:
    """Measure both checkouts in turn and write the rows."""
    asked = argparse.ArgumentParser(prog="python -m rgal.benchmarks.speed.against", description=__doc__)
    asked.add_argument("checkout", type=Path, help="folder of the other revision")
    asked.add_argument("--methods", nargs="+", default=["rgal", "plain", "cmi", "deepinversion"])
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--steps", type=int, nargs=2, default=STEPS, help="of synthesis and of the student")
    asked.add_argument("--revision", default="", help="what the other checkout is called in the table")
    asked.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = asked.parse_args(argv)
    found: list[dict[str, Any]] = []
    environment = {
        "before": options.revision or options.checkout.name,
        "repeats": options.repeats,
        "threads": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = teacher(Path(folder))
        for method in options.methods:
            pairs = []
            for _ in range(options.repeats):
                sides = (options.checkout.resolve(), HERE)
                before, now = (measured(place, method, weights, tuple(options.steps)) for place in sides)
                pairs.append((before, now))
            found += rows(method, pairs)
            options.json.write_text(json.dumps({"environment": environment, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
