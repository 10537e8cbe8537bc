"""Results of code that was edited since are kept, with a word; `--fresh` makes them anew.

The fingerprints are those of a copy of the package, which the tests edit; what runs is the package itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rgal
from rgal import cli
from rgal.suite.plan import fingerprint
from rgal.suite.plan.fingerprint import Fingerprints, mixed
from rgal.suite.running import work
from tests.helpers.suites import SUITE
from tests.helpers.trials import TRIAL

WARNING = "made by other code"
TRIPLET, FLIPPED = "F.relu(sign * (near - far) + margin)", "F.relu(margin - sign * (near - far))"


def copy_of_the_package(folder: Path) -> Path:
    def others(_: str, names: list[str]) -> list[str]:
        return [name for name in names if "." in name and not name.endswith(".py")]

    return Path(shutil.copytree(Path(rgal.__file__).parent, folder / "rgal", ignore=others))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that tests may edit if they leave it as it was: parsing another one takes two seconds."""
    return copy_of_the_package(tmp_path_factory.mktemp("copy"))


class Workplace:
    """A suite of a method with RGAL and one without, results, and a copy of the package to edit."""

    def __init__(self, folder: Path, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.results = folder, capsys, folder / "r"
        self.code, self.edited = package, set[str]()
        (folder / "suite.yaml").write_text(SUITE.replace("[plain]", "[plain, plain+rgal]"))

    def edit(self, module: str, old: str, new: str) -> None:
        path = self.code / module
        text = path.read_text()
        assert old in text
        self.edited.add(module)
        path.write_text(text.replace(old, new, 1))

    def restore(self) -> None:
        for module in self.edited:
            shutil.copy2(Path(rgal.__file__).parent / module, self.code / module)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What is said on a run that ends with this exit code."""
        fixed = ["--suite", str(self.folder / "suite.yaml"), "--results", str(self.results), "--jobs", "0"]
        self.capsys.readouterr()
        assert cli.main([*fixed, *arguments]) == code
        printed = self.capsys.readouterr()
        return printed.out if "--dry-run" in arguments else printed.err

    def records(self) -> dict[str, dict[str, Any]]:
        """trial.json by method."""
        every = [json.loads(path.read_text()) for path in self.results.glob("trials/*/trial.json")]
        return {record["settings"]["method"]: record for record in every}

    def fingerprints(self) -> dict[str, str]:
        return {method: record["fingerprint"] for method, record in self.records().items()}

    def result(self, method: str) -> Path:
        (path,) = self.results.glob(f"trials/*-{method.replace('+', '-')}-s0-*/result.json")
        return path


@pytest.fixture
def place(
    package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_report: None,
    no_pictures: None,
) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path, package, capsys)
    monkeypatch.setattr(fingerprint, "ROOT", package)
    yield workplace
    workplace.restore()


def test_an_edited_loss_is_told_and_run_again_when_asked(place: Workplace) -> None:
    place.run()
    first = place.fingerprints()
    assert first["plain"] != first["plain+rgal"]

    place.edit("terms/relation.py", "Return the mean over ordered", "Return the average over ordered")
    place.edit("terms/relation.py", "def triplet(", "\n\n\n# A comment.\ndef triplet(")
    said = place.run()
    assert "2 of 2 trials are finished already" in said and "warning" not in said

    place.edit("terms/relation.py", TRIPLET, FLIPPED)
    written = place.result("plain+rgal").stat().st_mtime_ns
    (line,) = [line for line in place.run().splitlines() if WARNING in line]
    assert line.startswith("warning: 1 finished trial made") and "--fresh" in line
    assert place.result("plain+rgal").stat().st_mtime_ns == written and place.fingerprints() == first
    plain, with_rgal = (line for line in place.run("--dry-run").splitlines() if " seed " in line)
    assert plain.endswith("finished") and with_rgal.endswith("finished by other code")

    said = place.run("--fresh", "--methods", "plain+rgal")
    assert "--fresh deletes 1 finished trial and" in said and "teacher" not in said
    assert place.result("plain+rgal").stat().st_mtime_ns != written
    now = place.fingerprints()
    assert now["plain"] == first["plain"] and now["plain+rgal"] != first["plain+rgal"]
    assert "warning" not in place.run()


def test_a_record_without_a_fingerprint_is_of_other_code(place: Workplace) -> None:
    place.run("--methods", "plain")
    (path,) = place.results.glob("trials/*/trial.json")
    record = json.loads(path.read_text())
    del record["fingerprint"]
    path.write_text(json.dumps(record))
    assert WARNING in place.run("--methods", "plain")


def test_a_teacher_of_other_code(place: Workplace) -> None:
    """It stays, with a word, and what it teaches is marked; `--fresh` trains it again."""
    place.run("--methods", "plain")
    (weights,) = place.results.glob("teachers/*.safetensors")
    before = weights.stat().st_mtime_ns
    place.edit("engine/student.py", "class StudentLoop", "LIMIT = 1\n\n\nclass StudentLoop")
    place.edit("engine/student.py", "self.steps += 1", "self.steps += LIMIT")
    said = place.run()
    assert WARNING in said and "teacher wrn10_1 on digits" in said and "trained by other code" in said
    assert weights.stat().st_mtime_ns == before
    assert "+" in place.fingerprints()["plain+rgal"]
    assert "warning: 2 finished trials made" in place.run()

    said = place.run("--fresh")
    assert "[1/3] teacher wrn10_1" in said and weights.stat().st_mtime_ns != before
    assert "warning" not in place.run() and "+" not in "".join(place.fingerprints().values())
    assert "[1/2]" in place.run("--fresh")  # the teacher is this code's


def stopped_at_once(*_: object) -> bool:
    return False


def test_what_fresh_trials_had_is_never_taken_for_new(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or stopped at any time, they are unfinished, and a plain run goes on with them."""
    place.run()
    with monkeypatch.context() as patched:
        patched.setattr(work, "drive", stopped_at_once)
        place.run("--fresh")
    assert not list(place.results.glob("trials/*/result.json"))
    assert not list(place.results.glob("trials/*/student.safetensors"))
    said = place.run("--methods", "plain")
    assert "finished already" not in said and "[1/1] plain" in said

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)  # the folder has its new name, its files are there
        place.run("--fresh", "--methods", "plain", code=130)
    assert "[1/1] plain" in place.run("--methods", "plain")
    place.run("--fresh", "--methods", "plain")
    assert not list(place.results.glob(".discarded*"))


def test_a_trial_begun_by_other_code(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with a word, and its record names both; `--fresh` begins it anew."""
    original = work.drive

    def impatient(run, folder, device, report, stop, watch):  # type: ignore[no-untyped-def]
        return original(run, folder, device, report, lambda: True, watch)

    arguments = ("--methods", "plain+rgal", "--set", "rounds=3")
    with monkeypatch.context() as patched:
        patched.setattr(work, "drive", impatient)
        place.run(*arguments)
    (old,) = place.fingerprints().values()
    place.edit("terms/relation.py", TRIPLET, FLIPPED)
    assert "begun by other code" in place.run(*arguments, "--dry-run")
    said = place.run(*arguments)
    assert "warning: 1 unfinished trial begun by other code" in said
    (both,) = place.fingerprints().values()
    assert both.startswith(f"{old}+") and WARNING in place.run(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(work, "drive", impatient)
        place.run(*arguments, "--fresh")
    place.edit("terms/relation.py", FLIPPED, TRIPLET)
    place.run(*arguments, "--fresh")
    assert list(place.fingerprints().values()) == [old]


@pytest.mark.parametrize(
    ("former", "now", "expected"),
    [("a", "a", "a"), ("a", "b", "a+b"), ("a+b", "b", "a+b"), ("", "b", "unknown+b")],
)
def test_mixed(former: str, now: str, expected: str) -> None:
    assert mixed(former, now) == expected


# What concerns whom ---------------------------------------------------------------------------------------------

TRIALS = {
    "plain": replace(TRIAL, method="plain"),
    "plain+rgal": replace(TRIAL, method="plain+rgal"),
    "dafl": replace(TRIAL, method="dafl"),
    "dfq": replace(TRIAL, task="dfq", student="wrn16_1", method="gdfq"),
    "abd": replace(TRIAL, task="necil", student="wrn16_1", method="abd"),
    "abd of cmi": replace(TRIAL, task="necil", student="wrn16_1", method="abd[source=cmi]"),
    "given": replace(TRIAL, method="plain", teacher_key="given-1"),
}
EVERY = set(TRIALS)


def prints() -> dict[str, str]:
    fingerprints = Fingerprints()
    teachers = {f"teacher of {name}": fingerprints.of_teacher(trial) for name, trial in TRIALS.items()}
    return teachers | {name: fingerprints.of_trial(trial) for name, trial in TRIALS.items()}


@pytest.mark.parametrize(
    ("module", "concerned"),
    [
        ("nets/wrn.py", {*EVERY, *(f"teacher of {name}" for name in EVERY - {"given"})}),
        ("terms/transfer.py", {*EVERY, *(f"teacher of {name}" for name in EVERY - {"given"})}),
        ("nets/vgg.py", set()),
        ("baselines/plain.py", {"plain", "plain+rgal", "given"}),
        ("baselines/cmi.py", {"abd of cmi"}),
        ("baselines/rgal.py", set()),
        ("tasks/distillation.py", {"plain", "plain+rgal", "dafl", "given"}),
        ("tasks/quantization/task.py", {"dfq"}),
        ("reporting/statistics.py", set()),
        ("suite/running/engines.py", set()),
        ("suite/store/folders.py", set()),
        ("core/files.py", set()),
        ("__init__.py", set()),
    ],
)
def test_an_edit_concerns_those_that_use_the_file(
    module: str, concerned: set[str], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of a statement that runs on import."""
    monkeypatch.setattr(fingerprint, "ROOT", package)
    before, path = prints(), package / module
    text = path.read_text()
    path.write_text(f"{text}\nprint(1)\n")
    try:
        after = prints()
    finally:
        path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == concerned
