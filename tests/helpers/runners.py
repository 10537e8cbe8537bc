"""Real runners of the command line that share a results directory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from tests.helpers.stopped_runs import ROOT, SECONDS

# The command line without its figures, which take as long as small trials.
WITHOUT_PLOTS = """
import sys
from rgal import cli
from rgal.reporting import group
group.write_plots = lambda *_: []
sys.exit(cli.main(sys.argv[1:]))
"""


def runner(
    folder: Path,
    results: str,
    *arguments: str,
    lapse: float = 60.0,
    checkpoints: float = 20.0,
    plots: bool = True,
) -> subprocess.Popen[str]:
    """Start one in a process group of its own; what it says goes to a pipe.

    Args:
        folder: of suite.yaml.
        results: the name of the results below it.
        arguments: further ones.
        lapse: after how many seconds of silence it takes others for dead.
        checkpoints: seconds between two of them.
        plots: whether it draws figures.
    """
    program = [str(ROOT / "run_suite.py")] if plots else ["-c", WITHOUT_PLOTS]
    return subprocess.Popen(
        [
            *(sys.executable, *program, "--suite", str(folder / "suite.yaml")),
            *("--results", str(folder / results), "--threads", "1", *arguments),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RGAL_LAPSE_SECONDS": str(lapse),
            "RGAL_CHECKPOINT_SECONDS": str(checkpoints),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def own_work(said: str) -> list[str]:
    """Titles of what a runner did itself."""
    lines = re.findall(r"^\[\d+/\d+\] (.*?): (.*)$", said, flags=re.MULTILINE)
    return [title for title, how in lines if not how.endswith("(by another runner)")]


def done_once(said: list[str]) -> Counter[str]:
    """How often each piece of work was done by all runners together."""
    return Counter(title for text in said for title in own_work(text))


def numbers(results: Path) -> dict[str, str]:
    """The metrics and final numbers of every trial, and what tables say of accuracy; seconds left out."""
    found = {}
    for trial in sorted((results / "trials").iterdir()):
        rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        final = json.loads((trial / "result.json").read_text())
        for row in [*rows, final]:
            for name in SECONDS:
                row.pop(name, None)
        found[trial.name] = json.dumps([rows, final], sort_keys=True)
    for path in sorted((results / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        kept = [name for name in table.columns if "econds" not in name and "ime" not in name]
        found[path.name] = table[kept].to_csv()
    return found
