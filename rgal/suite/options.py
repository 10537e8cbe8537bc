"""The options of the command line, in groups. Nothing here is imported that takes time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Of options of many values: given again, they add to what was given before.
MANY: Any = {"nargs": "+", "action": "extend"}
LISTS = ("tasks", "methods", "datasets", "nets", "suites")
DESCRIPTION = """\
Run a suite of data-free knowledge transfer trials and render its tables and plots.
Finished trials are kept; run the same command again to add, resume or only render.
"""
EXAMPLES = """\
examples:
  %(prog)s --budget smoke                                 the bundled digits, in seconds
  %(prog)s --methods cmi cmi+rgal --seeds 0 1 2           what RGAL adds to CMI
  %(prog)s --task dfq --bits w8a8 w4a4 --export onnx      quantize without data, export, measure
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="run_suite.py" if Path(sys.argv[0]).name == "run_suite.py" else "rgal",
        usage="%(prog)s [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        allow_abbrev=False,
        add_help=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=100
        ),
    )
    what = parser.add_argument_group("what to run").add_argument
    for add in (_add_methods, _add_data, _add_numbers):
        add(what)
    _add_how(parser.add_argument_group("how to run it").add_argument)
    _add_output(parser.add_argument_group("what comes out").add_argument)
    return parser


def _add_methods(add: Callable[..., object]) -> None:
    add("--task", metavar="NAME", help="kd (default), ...: see --list tasks")
    add(
        "--suite",
        metavar="FILE",
        type=Path,
        help="settings, or a name of --list suites; default TASK[_DATASET]",
    )
    add(
        "--methods",
        **MANY,
        metavar="M",
        help="name, name[param=value], name+rgal; or all, all+rgal",
    )


def _add_data(add: Callable[..., object]) -> None:
    add("--dataset", metavar="NAME", help="digits, ...; any name with --data-root; none: there is no data")
    add("--data-root", metavar="DIR", help="folder of parquet shards or image folders")
    add("--test-split", metavar="NAME", help="test or validation: which split of DIR is evaluated on")
    add("--classes", type=int, metavar="N", help="--dataset none: classes of your network")
    add("--image", metavar="CxHxW", help="--dataset none: images of your network, e.g. 3x48x48")
    add(
        "--mean",
        **MANY,
        type=float,
        metavar="X",
        help="normalisation of pixels in [0,1], a number a channel",
    )
    add("--std", **MANY, type=float, metavar="X", help="the same; or")
    add("--normalise", metavar="NAME", help="imagenet, cifar10 or none")
    add(
        "--no-flip",
        dest="flip",
        action="store_const",
        const=False,
        help="a mirrored image is of another class",
    )
    add("--calibration", metavar="DIR", help="a few real images without labels: for ranges, and to judge on")


def _add_numbers(add: Callable[..., object]) -> None:
    add("--teacher", metavar="NET", help="teacher network")
    add("--student", metavar="NET", help="student network")
    add("--teacher-weights", metavar="FILE", help=".safetensors or .pth, or a folder; else trained once")
    add("--init-pool", metavar="PATH", help="images that the pools start with: a kept pool, PNGs")
    add("--seeds", **MANY, type=int, metavar="N", help="the seeds themselves, e.g. 0 1 2")
    add("--budget", metavar="NAME", help="smoke, small or paper: a budget in the suite file")
    add("--bits", **MANY, metavar="wKaK", help="dfq: bit widths, e.g. w8a8 w4a4 w3a3")
    add(
        "--set",
        **MANY,
        metavar="K=V",
        default=[],
        help="any setting, e.g. rounds=5 student_lr=0.05",
    )
    add(
        "--plugin",
        **MANY,
        metavar="FILE",
        dest="plugins",
        help="Python files with methods, data, nets, tasks",
    )


def _add_how(add: Callable[..., object]) -> None:
    add("--device", metavar="DEV", help="auto (default), cpu, cuda (all visible GPUs) or cuda:N")
    add("--devices", metavar="N,N", help="which GPUs, e.g. 0,1,3")
    add("--per-device", type=int, metavar="N", help="trials that share a GPU (default: as memory allows)")
    add("--engine", metavar="NAME", default="local", help="local (default), or ray: a cluster")
    add("--address", metavar="ADDR", default="auto", help="of the Ray cluster")
    add("--precision", metavar="P", help="fp32 or bf16")
    add("--jobs", type=int, metavar="N", help="trials at a time (0: in this process, for debugging)")
    add("--threads", type=int, metavar="N", help="threads of each trial (default: the cores shared out)")
    add("--fresh", action="store_true", help="run finished trials again, retrain teachers of other code")
    add("--dry-run", action="store_true", help="print trials, keys, steps, what is done; run nothing")


def _add_output(add: Callable[..., object]) -> None:
    add("--results", metavar="DIR", type=Path, default=Path("results"), help="default results/")
    add("--status", action="store_true", help="print who works on what, how far, and what failed")
    add("--report-only", action="store_true", help="render what is stored; run nothing")
    add("--watch", nargs="?", type=int, const=0, metavar="PORT", help="serve the page here while trials run")
    add("--export", metavar="FORMAT", help="export and measure the students of kd and dfq; onnx")
    add("--export-only", metavar="TRIAL", help="export one finished trial: its key or folder")
    add(
        "--track",
        **MANY,
        metavar="NAME",
        default=[],
        help="also tell tensorboard, mlflow, wandb of the numbers",
    )
    add("--tensorboard", dest="track", action="append_const", const="tensorboard", help=argparse.SUPPRESS)
    add(
        "--list",
        **MANY,
        metavar="WHAT",
        help=f"{', '.join(LISTS)}; or methods and names of some",
    )
    add("-h", "--help", action="help", help="print this text")
