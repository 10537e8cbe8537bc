"""What commands that compute nothing load, and what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rgal import cli
from tests.helpers.store_builders import add_trial, settings

HEAVY = (
    "torch",
    "torchvision",
    "kornia",
    "sklearn",
    "scipy.stats",
    "pandas",
    "matplotlib",
    "matplotlib.pyplot",
    "numpy",
)
REPORTING = ("pandas", "matplotlib", "numpy")
# Runs the commands of its arguments, then writes the heavy packages they loaded and its seconds of the processor.
CODE = f"""
import json, sys, time
from rgal import cli
code, commands = 0, " ".join(sys.argv[1:]).split(" + ")
for command in commands:
    try:
        code = code or cli.main(command.split())
    except SystemExit as stop:
        code = stop.code
loaded = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([code, loaded, time.process_time()]), file=sys.stderr)
"""
MOST_SECONDS = 3.0  # of the processor; a quiet machine takes 0.1 to 0.8


def run(*arguments: str) -> tuple[str, list[str], float]:
    """The output of commands, "+" between them, in one process, the heavy packages that it loaded, and its seconds."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True
    )
    code, loaded, seconds = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return done.stdout, loaded, seconds


def test_help_loads_nothing() -> None:
    text, loaded, seconds = run("--help")
    assert "--list" in text and loaded == [] and seconds < MOST_SECONDS


def test_the_status_loads_nothing(tmp_path: Path) -> None:
    add_trial(tmp_path, "aa", settings())
    text, loaded, seconds = run("--results", str(tmp_path), "--status")
    assert text.startswith("1 trial: 1 finished") and loaded == [] and seconds < MOST_SECONDS


def test_lists_load_no_library_and_say_what_they_say_with_them() -> None:
    """All in one process; that of the tests has loaded torch: there nothing stands in for it."""
    lists = [[name] for name in cli.LISTS] + [["methods", "cmi", "rgal", "pass"], ["methods", "nayer"]]
    text, loaded, seconds = run(*" + ".join(f"--list {' '.join(words)}" for words in lists).split())
    assert text == "".join(cli.listing(kind, names) + "\n" for kind, *names in lists)
    assert loaded == [] and seconds < MOST_SECONDS


def test_a_report_loads_what_draws_only_and_writes_what_it_writes_with_torch(
    tmp_path: Path, no_plots: Any
) -> None:
    for root in (tmp_path / "alone", tmp_path / "with_torch"):
        for seed in range(3):
            for method in ("cmi", "cmi+rgal"):
                add_trial(root, f"{seed}{len(method):02}" * 4, settings(method, seed), last=90.0 + seed)
    _, loaded, _ = run("--report-only", "--results", str(tmp_path / "alone"))
    assert set(loaded) == set(REPORTING)
    assert cli.main(["--report-only", "--results", str(tmp_path / "with_torch")]) == 0
    ours = sorted((tmp_path / "alone" / "tables").iterdir())
    assert ours
    for path in ours:
        assert path.read_bytes() == (tmp_path / "with_torch" / "tables" / path.name).read_bytes()


def test_plug_ins_are_listed_with_the_libraries_they_import(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import torch\nfrom rgal.nets import net\nWIDTH = int(torch.tensor(3).item())\n\n"
        "@net(f'mine{WIDTH}')\ndef mine(classes, channels, size):\n    return torch.nn.Linear(classes, 2)\n"
    )
    text, loaded, _ = run("--list", "nets", "--plugin", str(plugin))
    assert "mine3" in text.splitlines() and "torch" in loaded


@pytest.mark.slow
def test_the_digits_and_a_plan_load_torch_and_numpy_only() -> None:
    _, loaded, _ = run("--budget", "smoke", "--dry-run", "--results", "no/such/folder")
    assert set(loaded) <= {"torch", "numpy"}
