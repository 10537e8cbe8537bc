"""Measure what the suite's steps cost: `python -m rgal.benchmarks.speed`.

Prints seconds of the processor and of the clock and page faults of each synthesis step and each student step, and the
ratio to a floor: what the same networks' passes cost alone in their cheapest exact form, without page faults, measured
in turn in the same run (`rgal.benchmarks.speed.measure`). A ratio is the median over the repeats, with the least and
the most in brackets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from rgal import __version__
from rgal.benchmarks.speed.cases import CASES
from rgal.benchmarks.speed.measure import measure
from rgal.benchmarks.speed.table import line


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rgal.benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch", type=int, default=256, help="images in a synthesis and in a student step")
    parser.add_argument("--repeats", type=int, default=7, help="how often steps and floor are timed in turn")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cases whose title has it: 'kd rgal', '8 px'"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure the chosen cases, print a line for each kind of step, and write them where asked to."""
    asked = parser()
    options = asked.parse_args(argv)
    if options.batch < 2 or options.repeats < 1:
        asked.error("--batch is at least 2 and --repeats at least 1")
    chosen = [case for case in CASES if options.only in case.title]
    if not chosen:
        asked.error(
            f"--only '{options.only}': in none of the titles {', '.join(case.title for case in CASES)}"
        )
    device = torch.device(options.device)
    environment = {
        "batch": options.batch, "repeats": options.repeats, "device": options.device,
        "precision": options.precision, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "rgal": __version__, "processor": platform.processor() or platform.machine(),
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    rows: list[dict[str, Any]] = []
    for case in chosen:
        for row in measure(case, options.batch, options.repeats, device, options.precision):
            rows.append(row)
            print(line(row), flush=True)
        if options.json:  # after every case: what was measured stays when it is stopped
            options.json.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
