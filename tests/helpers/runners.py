"""Real runners of the command line that share a results directory."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd

from rgal.suite.running.engines import PRELOAD, PRELOAD_ON_CPU
from tests.helpers.stopped_runs import ROOT, SECONDS


def runner(
    folder: Path,
    results: str,
    *arguments: str,
    lapse: float = 60.0,
    checkpoints: float = 20.0,
) -> subprocess.Popen[str]:
    """Start one in a process group of its own; what it says goes to a pipe.

    Args:
        folder: of suite.yaml.
        results: the name of the results below it.
        arguments: further ones.
        lapse: after how many seconds of silence it takes others for dead.
        checkpoints: seconds between two of them.
    """
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "run_suite.py"), "--suite", str(folder / "suite.yaml")),
            *("--results", str(folder / results), "--threads", "1", *arguments),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RGAL_LAPSE_SECONDS": str(lapse),
            "RGAL_CHECKPOINT_SECONDS": str(checkpoints),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


@dataclass(frozen=True)
class Forked:
    """A runner without figures, forked by the server that has all libraries loaded; what it says goes to a file."""

    process: BaseProcess
    output: Path

    def communicate(self) -> str:
        """Wait for its end, and return what it said."""
        self.process.join(300)
        assert self.process.exitcode is not None, self.output.read_text()
        return self.output.read_text()


def forked_runner(folder: Path, results: str, output: str) -> Forked:
    """Start one on `folder`/suite.yaml that writes below `results` of that folder, and what it says into `output`."""
    arguments = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / results)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, *PRELOAD_ON_CPU])
    fixed = [*arguments, "--jobs", "0", "--threads", "1"]
    process = context.Process(target=_command, args=(fixed, str(folder / output)))
    process.start()
    return Forked(process, folder / output)


def _command(arguments: list[str], output: str) -> None:
    from rgal import cli
    from rgal.reporting import group

    with open(output, "w", buffering=1) as said:
        sys.stdout = sys.stderr = said
        group.write_plots = lambda *_: []
        code = cli.main(arguments)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.exit(code)


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
