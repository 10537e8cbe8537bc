"""Data-free by construction: real training images are read for teachers and reference rows, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rgal import cli
from rgal.data import DataFirewallError, Dataset, ImageSet
from tests.helpers import own_network
from tests.helpers.suites import DFQ_SUITE, SUITE

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")

ROOT = Path(cli.__file__).parents[1]
METHODS = ["plain", "rgal", "cmi", "deepinversion"]
QUANTIZED = [
    "naive",
    "zeroq",
    "gdfq",
    "qimera",
    "intraq",
    "hast",
    "synq",
    "adadfq",
    "ait",
    "rgal",
    "cmi",
    "deepinversion",
]


def call(folder: Path, *arguments: str, text: str = SUITE) -> int:
    suite = folder / "suite.yaml"
    suite.write_text(text + "\nteachers: 1\n")  # which the first call trains
    return cli.main(["--suite", str(suite), "--results", str(folder / "r"), "--jobs", "0", *arguments])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with every read of real training images."""
    names: list[str] = []
    original = Dataset.train.fget
    assert original is not None

    def watched(self: Dataset) -> ImageSet:
        names.append(self.spec.name)
        return original(self)

    monkeypatch.setattr(Dataset, "train", property(watched))
    return names


def test_only_the_teacher_and_reference_rows_read(reads: list[str], tmp_path: Path) -> None:
    assert call(tmp_path, "--methods", "plain") == 0
    assert reads == ["digits"]  # the teacher's training
    reads.clear()
    assert call(tmp_path, "--methods", *METHODS) == 0
    assert reads == []  # the teacher is there: no method needs an image
    assert call(tmp_path, "--methods", "scratch") == 0
    assert reads == ["digits"]


def test_methods_run_when_every_read_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(tmp_path, "--methods", "plain") == 0

    def closed(self: Dataset) -> ImageSet:
        raise DataFirewallError("closed")

    monkeypatch.setattr(Dataset, "train", property(closed))
    assert call(tmp_path, "--methods", *METHODS, "--seeds", "4") == 0
    assert call(tmp_path, "--methods", "scratch", "--seeds", "4") == 1


def test_quantization_runs_when_every_read_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(tmp_path, "--methods", "naive", text=DFQ_SUITE) == 0

    def closed(self: Dataset) -> ImageSet:
        raise DataFirewallError("closed")

    monkeypatch.setattr(Dataset, "train", property(closed))
    methods = [*QUANTIZED, "gdfq+rgal"]
    assert call(tmp_path, "--methods", *methods, "--seeds", "4", "--set", "warmup=0", text=DFQ_SUITE) == 0
    for reference in ("real_calibration", "real_finetune"):
        assert call(tmp_path, "--methods", reference, "--seeds", "4", text=DFQ_SUITE) == 1


def test_training_data_is_closed_before_a_method_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rgal.suite.running import work

    assert call(tmp_path, "--methods", "plain") == 0
    opened: list[Dataset] = []
    original = work.dataset_of
    monkeypatch.setattr(work, "dataset_of", lambda *args: opened.append(original(*args)) or opened[-1])
    assert call(tmp_path, "--methods", "rgal") == 0
    with pytest.raises(DataFirewallError):
        _ = opened[-1].train


def test_networks_without_data_run_when_nothing_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --dataset none no data set is opened at all, and no image of one read: neither to train on nor to test."""

    def closed(*_: object, **__: object) -> None:
        raise DataFirewallError("closed")

    monkeypatch.setattr("rgal.suite.plan.network.load", closed)
    for name in ("rgal.data.folder.read", "rgal.data.parquet.read", "rgal.data.digits.read"):
        monkeypatch.setattr(name, closed)
    monkeypatch.setattr(Dataset, "train", property(closed))
    monkeypatch.setattr(Dataset, "test", property(closed))
    with own_network.workplace(tmp_path):
        arguments = [*own_network.DESCRIBED, *own_network.TEACHER]
        short = ["--set", "rounds=1", "student_steps=1", "synthesis_steps=1"]
        assert own_network.run(*arguments, *own_network.STUDENT, *short, "--methods", "rgal", "cmi") == 0
        quantizing = [
            "naive",
            "zeroq",
            "gdfq",
            "rgal",
        ]  # given ranges, pixels, a generator, rounds into a pool
        assert own_network.run("--task", "dfq", *arguments, *short, "--methods", *quantizing) == 0


@pytest.mark.parametrize("folder", ["rgal/terms", "rgal/synthesis", "rgal/nets", "baselines"])
def test_no_way_to_data(folder: str) -> None:
    """Terms, synthesis, networks and methods import neither data sets nor the suite; see also test_structure."""
    forbidden = ("rgal.data", "rgal.suite", "torchvision", "sklearn")
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            names = [name for name in names if name != "torchvision.models"]  # networks, not images
            assert not [n for n in names if n.startswith(forbidden)], f"{path} imports {names}"
