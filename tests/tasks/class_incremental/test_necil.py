"""Class-incremental learning through the command line: a base model for many, tables, files, what can go wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rgal import cli
from rgal.data import DataFirewallError, Dataset, ImageSet, load
from rgal.suite.plan.settings import load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running import engines as executors
from rgal.suite.running.runner import make_plan
from rgal.tasks.class_incremental.metrics import summary
from tests.helpers.data_builders import encoded, no_shared_cache, pixels, shard
from tests.helpers.necil_builders import SUITE, necil_methods
from tests.helpers.reporting_builders import count_drawings
from tests.helpers.suites import fails, snapshot

METHODS = ("finetune", "joint", "pass", "abd", "rgal")
READERS = ("dataset.py", "teachers.py", "phases.py")  # select, the base model's training, and the phases


@dataclass
class Job:
    """A piece of work, and who read the training images of which data set for it."""

    title: str
    readers: list[str] = field(default_factory=list)
    read: list[Dataset] = field(default_factory=list)


def call(folder: Path, *arguments: str) -> int:
    fixed = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / "results"), "--jobs", "0"]
    return cli.main([*fixed, *arguments])


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return []


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, jobs: list[Job]) -> Path:
    """A suite file and a results directory with five finished trials. Every read of training images is noted; one that
    nobody should make raises."""
    folder = tmp_path_factory.mktemp("necil")
    (folder / "suite.yaml").write_text(SUITE)
    read, perform = Dataset.train.fget, executors.perform  # type: ignore[attr-defined]

    def watched(self: Dataset) -> ImageSet:
        reader = Path(sys._getframe(1).f_code.co_filename).name
        if reader not in READERS:
            raise DataFirewallError(f"{reader} reads training images")
        jobs[-1].readers.append(reader)
        jobs[-1].read.append(self)
        return read(self)

    def performed(job: Any, *more: Any) -> Any:
        jobs.append(Job(job.title))
        return perform(job, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "train", property(watched))
        patch.setattr(executors, "perform", performed)
        count_drawings(patch)
        assert call(folder, "--methods", *METHODS) == 0
    return folder


def test_one_base_model_for_all_but_pass(workplace: Path, jobs: list[Job]) -> None:
    """A trial's training images are read once, by its phases, and closed behind them."""
    bases, trials = jobs[:2], jobs[2:]
    assert [job.title for job in bases] == [
        "teacher resnet8 on digits (4 classes, rotations, temperature 0.1, Adam 0.001, seed 0)",
        "teacher resnet8 on digits (4 classes, seed 0)",
    ]
    assert [job.title for job in trials] == [f"{name} seed 0" for name in METHODS]
    assert all(job.readers == ["dataset.py", "teachers.py"] for job in bases)
    for job in trials:
        assert job.readers == ["phases.py"]
        with pytest.raises(DataFirewallError):
            _ = job.read[0].train


def plan(
    workplace: Path, *settings: str, methods: tuple[str, ...], seeds: tuple[int, ...] = (0,)
) -> list[Trial]:
    overrides = {"methods": methods, "seeds": seeds}
    return make_plan(load_suite(workplace / "suite.yaml", overrides, settings)).trials


def test_who_shares_a_base_model(workplace: Path) -> None:
    """Everybody of a seed and a protocol that asks for none of their own; who asks for the same shares that."""
    sharing = ("finetune", "cmi+rgal", "fetril", "r_dfcil")
    keys = [trial.teacher_key for trial in plan(workplace, methods=sharing, seeds=(0, 1))]
    assert keys == 4 * keys[:2] and keys[0] != keys[1]
    own = ("pass", "pass[kd=5]", "pass+rgal", "pass[temperature=0.2]")
    one, *same, other = (trial.teacher_key for trial in plan(workplace, methods=own))
    assert same == [one, one] and len({one, other, *keys}) == 4
    for change in ("order=natural", "base=7", "evaluate_on=validation"):
        (trial,) = plan(workplace, change, methods=("finetune",))
        assert trial.teacher_key not in keys
    (trial,) = plan(workplace, "step=2", methods=("finetune",))  # the first phase is the same
    assert trial.teacher_key == keys[0]


def trials(folder: Path, results: str = "results") -> dict[str, Path]:
    """Folder of every trial by its method."""
    folders = sorted((folder / results / "trials").iterdir())
    return {json.loads((t / "trial.json").read_text())["settings"]["method"]: t for t in folders}


def test_a_trial_leaves_what_people_look_at(workplace: Path) -> None:
    for method, folder in trials(workplace).items():
        result = json.loads((folder / "result.json").read_text())
        stored = json.loads((folder / "phases.json").read_text())
        assert [phase["classes"] for phase in stored["phases"]] == [4, 7, 10]
        assert summary([phase["tasks"] for phase in stored["phases"]]).items() <= result.items()
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        shown = [(row["phase"], row["top1"]) for row in rows if row["kind"] == "evaluation"]
        assert [phase for phase, _ in shown] == [0, 1, 2] and shown[-1][1] == result["last"]
        assert (folder / "student.safetensors").exists() and not (folder / "checkpoint.pt").exists()
        assert (folder / "samples.png").exists() == (method in ("abd", "rgal"))
    bases = [json.loads((t / "result.json").read_text())["base_top1"] for t in trials(workplace).values()]
    assert len(set(bases)) == 2  # that of pass, and the others'


def test_tables_and_plots(workplace: Path) -> None:
    results = workplace / "results"
    (table,) = (results / "tables").glob("*.md")
    text = table.read_text()
    assert "AIA (%)" in text and "Protocol 4+2x3" in text and "joint †" in text
    assert all(f"| {method}" in text for method in METHODS)
    plots = {path.name.rpartition("_smoke")[2] for path in (results / "plots").glob("*.png")}
    assert plots == {"_phases.png", "_old_new.png", "_abd.png", "_rgal.png"}


def test_nothing_is_run_twice(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command does nothing again; --report-only renders what was lost."""
    before = snapshot(workplace)
    for path in [*(workplace / "results").glob("tables/*"), *(workplace / "results").glob("plots/*")]:
        path.unlink()
    capsys.readouterr()
    count_drawings(monkeypatch)
    assert call(workplace, "--methods", *METHODS, "--report-only") == 0
    assert "AIA (%)" in capsys.readouterr().out
    test_tables_and_plots(workplace)
    assert call(workplace, "--methods", *METHODS) == 0
    assert capsys.readouterr().err.strip().splitlines()[-1] == "5 of 5 trials are finished already"
    assert snapshot(workplace) == before


def test_dry_run_counts_the_steps_of_all_phases(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three phases, each of 2 synthesis and 2 student steps."""
    capsys.readouterr()
    assert call(workplace, "--methods", "rgal", "finetune", "fetril", "--set", "step=2", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 trials: digits resnet8, 4 classes then 2 a phase, budget smoke")
    steps = [line.split("rounds")[1].split() for line in lines[1:4]]
    assert [(row[0], row[3]) for row in steps] == [("6", "6"), ("0", "6"), ("0", "0")]


@pytest.mark.usefixtures("no_plots")
def test_phases_of_uneven_sizes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(workplace, "--methods", "finetune", "rgal", "--set", "step=[3,1,2]") == 0
    paths = list((workplace / "results" / "trials").glob("*s0*/result.json"))
    results = [json.loads(path.read_text()) for path in paths]
    uneven = [result for result in results if result.get("protocol") == "4+3,1,2"]
    assert len(uneven) == 2 and all(0 <= result["aia"] <= 100 for result in uneven)


def test_the_suite_that_comes_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`--task necil` alone: every method is planned in every budget."""
    for budget in ("smoke", "small", "paper"):
        arguments = ["--methods", "all", "--seeds", "0", "--budget", budget, "--dry-run"]
        assert cli.main(["--task", "necil", *arguments]) == 0
        planned = [line for line in capsys.readouterr().out.splitlines() if " rounds " in line]
        assert sorted(line.split()[1] for line in planned) == sorted(necil_methods())


@pytest.mark.usefixtures("no_report")
def test_given_weights(workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stored base model serves others as --teacher-weights, but not a method that trains one of its own."""
    (base,) = {trial.teacher_key for trial in plan(workplace, methods=("finetune",))}
    (weights,) = (workplace / "results" / "teachers").glob(f"*{base}.safetensors")
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert call(tmp_path, "--teacher-weights", str(weights), "--set", "allow_weak_teacher=true") == 0
    one, other = (
        json.loads((trials(folder)["finetune"] / "result.json").read_text())
        for folder in (workplace, tmp_path)
    )
    for name in ("aia", "last", "base_top1"):
        assert one[name] == other[name]
    line = fails(tmp_path, capsys, "--teacher-weights", str(weights), "--methods", "finetune", "pass")
    assert "trains a first model of its own" in line
    line = fails(tmp_path, capsys, "--teacher-weights", str(weights), "--set", "base=7")
    assert weights.name in line and "4 outputs, expected 7" in line


@pytest.mark.usefixtures("no_plots")
def test_on_validation_images(workplace: Path) -> None:
    """Held-out training images stand for the test images of every phase; the table says so."""
    assert call(workplace, "--methods", "fetril", "--set", "evaluate_on=validation") == 0
    stored = json.loads((trials(workplace)["fetril"] / "phases.json").read_text())
    measured = [total for _, total in stored["phases"][-1]["tasks"]]
    data = load("digits")
    order = torch.tensor(stored["order"])
    held = torch.bincount(data.hold_out().test.labels, minlength=10)[order].split([4, 3, 3])
    assert measured == [int(part.sum()) for part in held]
    tables = [path.read_text() for path in (workplace / "results" / "tables").glob("necil_*.md")]
    assert [", on validation images" in text for text in tables].count(True) == 1


BAD = {
    "step that does not divide": (["--set", "step=4"], "step=4: 10 classes without the base=4 leave 6"),
    "step 0": (["--set", "step=0"], "step: Input should be greater than or equal to 1, found 0"),
    "all classes at once": (["--set", "base=10"], "base=10: the data set has 10 classes"),
    "no base": (["--set", "base=0"], "base: Input should be greater than or equal to 1, found 0"),
    "half a class": (["--set", "base=2.5"], "base: Input should be a valid integer, found 2.5"),
    "unknown order": (["--set", "order=randm:1"], "did you mean 'random:<r>'"),
    "bad random order": (["--set", "order=random:x"], "class order 'random:x': expected random:<r>"),
    "unknown option": (["--set", "stp=3"], "did you mean 'step'?"),
    "option of another task": (["--bits", "w4a4"], "options of task 'necil': base, step, order"),
    "student": (["--student", "resnet8"], "leave out --student resnet8"),
    "kd method": (["--methods", "scratch"], "method 'scratch' is not for task 'necil'; it is for: kd"),
    "game as a source": (["--methods", "abd[source=dafl]"], "source=dafl: a source of replayed images"),
    "source without images": (["--methods", "abd[source=finetune]"], "source=finetune: a source of replayed"),
    "unknown source": (["--methods", "abd[source=nosuch]"], "unknown method 'nosuch'"),
    "near source": (["--methods", "r_dfcil[source=deepinversio]"], "did you mean 'deepinversion'"),
    "bad classifier": (["--methods", "fetril[classifier=svm]"], "did you mean 'svc'"),
    "pairs": (["--methods", "rgal[pairs=true]"], "pairs=true is not for task 'necil'"),
    "fmix": (["--methods", "lwf+rgal[fmix=true]"], "fmix=true is not for task 'necil'"),
    "export": (["--export", "onnx"], "task 'necil' has nothing to export"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[name]
    assert expected in fails(workplace, capsys, *arguments)


def test_images_from_a_net_without_batch_norm(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The method that needs it is refused before anything is trained, and the line says what to set."""
    line = fails(workplace, capsys, "--teacher", "lenet5", "--methods", "abd", "finetune")
    assert "method 'abd' cannot run with lenet5: the term 'bn'" in line and "bn=0" in line


def parquet(root: Path, height: int, width: int, tested: tuple[int, ...] = (0, 1, 2, 3)) -> list[str]:
    """Arguments that choose a data set of four classes, with test images of those `tested`."""
    for split, labels in (("train", [0, 1, 2, 3] * 2), ("test", list(tested))):
        images = [encoded(pixels(index, height, width)) for index in range(len(labels))]
        shard(root / f"{split}-0.parquet", images, labels)
    return ["--dataset", "mine", "--data-root", str(root), "--set", "base=2", "step=1", "order=natural"]


def test_rotations_need_square_images(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_shared_cache(tmp_path, monkeypatch)
    oblong = parquet(tmp_path / "oblong", 8, 12)
    line = fails(workplace, capsys, *oblong, "--methods", "finetune", "pass")
    assert "needs square ones, these are 12x8; give --set image_size=..." in line
    assert call(workplace, *oblong, "--methods", "finetune", "fetril", "--dry-run") == 0
    assert call(workplace, *oblong, "image_size=8", "--methods", "pass", "--dry-run") == 0


@pytest.mark.parametrize("missing", [0, 3])
def test_a_phase_without_test_images(
    missing: int,
    workplace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told before the base model is trained, even if it is that model's phase."""
    no_shared_cache(tmp_path, monkeypatch)
    tested = (2, 3) if missing == 0 else (0, 1, 2)
    line = fails(workplace, capsys, *parquet(tmp_path / "few", 8, 8, tested))
    assert f"no test image of phase {2 if missing else 0}" in line


def test_a_class_without_training_images(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_shared_cache(tmp_path, monkeypatch)
    for split, names in (("train", "abc"), ("test", "abcd")):
        for name in names:
            path = tmp_path / "folder" / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels(ord(name))).save(path)
    data_set = ["--dataset", "mine", "--data-root", str(tmp_path / "folder"), "--set", "base=2", "step=1"]
    assert "found class 'd', expected one of the 3 training classes" in fails(workplace, capsys, *data_set)
