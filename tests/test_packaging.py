"""What is installed: one package, `rgal`, that works beside a user's own `tasks.py`, `baselines/` and `benchmarks/`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from rgal import __version__, cli

ROOT = Path(cli.__file__).parents[1]
SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "run_suite.py",
    "setup.py",
)
LINKED = ("tasks", "baselines", "benchmarks")
WHEEL = f"rgal-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what earlier builds left there."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in ("rgal", *LINKED):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("dist"))


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build a "wheel" or an "sdist" of the project in `source` with the installed setuptools, into `folder`."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run([sys.executable, "-c", code, str(folder)], source)
    (built,) = folder.iterdir()
    return built


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that must succeed, run in `folder` with that folder's modules importable first."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(what: list[str], folder: Path) -> Path:
    """Make a fresh environment with rgal installed as pip's arguments `what` say, and return its folder of programs.

    Dependencies come from the environment that runs the tests. Its own rgal, which is often an editable install, does
    not: the hooks of such installs are read in the first folder of packages alone.
    """
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    python = str(programs / "python")
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--no-build-isolation", "--no-compile", *what], folder)
    return programs


def users_folder(folder: Path) -> Path:
    """A project of somebody who has never heard of ours; importing any of its modules by mistake is an error."""
    for name in ("tasks.py", "run_suite.py", "baselines/__init__.py", "benchmarks/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise RuntimeError(f'{__file__} is not a part of rgal')\n")
    return folder


def expected_files() -> set[str]:
    """Names in the wheel of all modules, suites, published numbers and templates."""
    files = [path for name in ("rgal", *LINKED) for path in (ROOT / name).rglob("*") if path.is_file()]
    names = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    return {name if name.startswith("rgal/") else f"rgal/{name}" for name in names}


def test_wheel_holds_every_file_of_rgal_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"rgal-{__version__}.dist-info/METADATA").decode()
    assert wheel.name == WHEEL
    assert {name for name in names if ".dist-info/" not in name} == expected_files()
    assert {
        "rgal/py.typed",
        "rgal/data/digits_split.npy",
        "rgal/benchmarks/kd.yaml",
        "rgal/benchmarks/reference/kd.yaml",
    } <= names
    assert "rgal/reporting/page/templates/report.html.j2" in names
    assert "\nLicense-Expression: MIT\n" in metadata and "\nProvides-Extra: onnx\n" in metadata


def test_a_wheel_built_from_the_source_archive_is_the_same(source: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(source, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / f"rgal-{__version__}", "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


IMPORT_ALL = """
import importlib, pkgutil, sys, rgal, rgal.cli, rgal.reporting.group
rgal.reporting.group.write_plots = lambda *_: []  # half of what is left to do
for module in pkgutil.walk_packages(rgal.__path__, "rgal."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(rgal.__file__)
sys.exit(rgal.cli.main(sys.argv[1:]))
"""


def check_every_module(programs: Path, folder: Path, *command: str) -> tuple[Path, str]:
    """Import every module of the installed rgal from `folder`, then run a command in the same process.

    Returns:
        The folder of the installed rgal, and what the command printed. The program `rgal` lists the suites.
    """
    init, printed = run([str(programs / "python"), "-c", IMPORT_ALL, *command], folder).split("\n", 1)
    suites = run([str(programs / "rgal"), "--list", "suites"], folder).splitlines()
    assert [line.split()[0] for line in suites] == sorted(
        p.name for p in (ROOT / "benchmarks").glob("*.yaml")
    )
    return Path(init).parent, printed


def test_the_wheel_runs_beside_a_users_own_tasks(wheel: Path, tmp_path: Path) -> None:
    programs = install([str(wheel)], tmp_path / "environment")
    folder = users_folder(tmp_path / "project")
    smoke = ["--task", "kd", "--budget", "smoke", "--methods", "plain", "--seeds", "0", "--jobs", "0"]
    package, printed = check_every_module(programs, folder, *smoke, "--set", "teacher_training.steps=2")
    assert package.is_relative_to(tmp_path / "environment") and "plain" in printed
    (result,) = (folder / "results" / "trials").glob("*/result.json")
    assert json.loads(result.read_text())["status"] == "finished"
    assert (folder / "results" / "report.html").is_file()


@pytest.mark.slow
def test_an_editable_install_runs_beside_a_users_own_tasks(source: Path, tmp_path: Path) -> None:
    programs = install(["--editable", str(source)], tmp_path / "environment")
    folder = users_folder(tmp_path / "project")
    package, printed = check_every_module(programs, folder, "--list", "tasks")
    assert package == source / "rgal" and "kd" in printed
