"""Whatever a user gets wrong: one line that helps, exit code 2, and nothing that was finished is lost."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rgal import nets
from tests.helpers.suites import SUITE, call, fails, snapshot

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite file and a results directory that holds one finished trial."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "suite.yaml").write_text(SUITE)
    assert call(folder) == 0
    return folder


COMMAND_LINE = {
    "unknown method": (["--methods", "rgall"], "did you mean 'rgal'"),
    "unknown parameter": (["--methods", "rgal[sprad=1]"], "did you mean 'spread'"),
    "bad number": (["--methods", "rgal[spread=abc]"], "expected float, found 'abc'"),
    "bad choice": (["--methods", "rgal[follows=papr]"], "did you mean 'paper'"),
    "bad truth value": (["--methods", "rgal[pairs=maybe]"], "expected true or false"),
    "bad feature": (["--methods", "rgal[feature=gobal]"], "expected any of layers, global, logits"),
    "unknown plug-in": (["--methods", "cmi+rgl"], "valid: +rgal"),
    "rgal twice": (["--methods", "rgal+rgal"], "already has it"),
    "rgal plugged twice": (["--methods", "cmi+rgal+rgal"], "already has it"),
    "unclosed bracket": (["--methods", "cmi[adv=1"], "cannot read method"),
    "parameter without value": (["--methods", "cmi[adv]"], "expected param=value"),
    "parameter twice": (["--methods", "cmi[adv=1,adv=2]"], "given twice"),
    "method twice": (["--methods", "rgal", "rgal[spread=0.1]"], "listed twice"),
    "unknown data set": (["--dataset", "digit"], "did you mean 'digits'"),
    "unknown task": (["--task", "kdd"], "did you mean 'kd'"),
    "unknown teacher": (["--teacher", "resnet21"], "unknown net 'resnet21'; did you mean"),
    "impossible depth": (["--student", "wrn15_1"], "wrn15_1"),
    "unknown budget": (["--budget", "smal"], "no budget 'smal'; valid: smoke"),
    "unknown setting": (["--set", "rouns=3"], "--set rouns=3: unknown key 'rouns', did you mean 'rounds'"),
    "setting without value": (["--set", "rounds"], "expected key=value"),
    "setting of wrong type": (["--set", "rounds=abc"], "--set rounds=abc: budgets.smoke.rounds"),
    "setting inside a value": (["--set", "dataset.rounds=3"], "'dataset' holds a value"),
    "no round": (["--set", "rounds=0"], "greater than or equal to 1"),
    "batch of one": (
        ["--set", "batch=1"],
        "--set batch=1: budgets.smoke.batch: Input should be greater than or equal to 2",
    ),
    "only warm-up": (["--set", "warmup=1"], "leaves no round for the student"),
    "negative learning rate": (["--set", "student_lr=-0.1"], "greater than 0"),
    "seed twice": (["--seeds", "1", "1"], "given twice: 1"),
    "unknown device": (["--device", "tpu"], "expected auto, cpu, cuda or cuda:n"),
    "missing device": (["--device", "cuda:77"], "CUDA devices"),
    "unknown precision": (["--precision", "fp8"], "'fp32' or 'bf16'"),
    "negative jobs": (["--jobs", "-1"], "expected 0 or more"),
    "unknown list": (["--list", "method"], "did you mean 'methods'"),
    "missing weights": (["--teacher-weights", "nowhere.pth"], "nowhere.pth: no such file"),
    "missing data root": (["--dataset", "mine", "--data-root", "/nowhere"], "does not exist"),
}


@pytest.mark.parametrize("name", COMMAND_LINE)
def test_command_line(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = COMMAND_LINE[name]
    assert expected in fails(workplace, capsys, *arguments)


SUITES = {
    "malformed": ("task: [kd\n", "not valid YAML in line"),
    "no mapping": ("- kd\n", "expected a mapping"),
    "duplicate key": (SUITE + "task: kd\n", "key 'task' stands twice (line"),
    "unknown key": (SUITE + "rounds: 3\n", "unknown key 'rounds'"),
    "unknown budget key": (SUITE.replace("rounds: 1", "rouns: 1"), "did you mean 'rounds'"),
    "unknown teacher key": (SUITE.replace("{steps: 2,", "{step: 2,"), "did you mean 'steps'"),
    "missing key": (
        SUITE.replace("teacher: wrn10_1\n", ""),
        "networks: expected a teacher (and student), or pairs of them",
    ),
    "no methods": (SUITE.replace("[plain]", "[]"), "at least one is needed"),
    "truth value as a number": (SUITE.replace("rounds: 1", "rounds: yes"), "found True"),
    "binary": ("\x00\x01", "not valid YAML"),
}


@pytest.mark.parametrize("name", SUITES)
def test_suite_files(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = SUITES[name]
    (workplace / "bad.yaml").write_text(text)
    line = fails(workplace, capsys, suite="bad.yaml")
    assert expected in line and "bad.yaml" in line


def test_missing_student(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "bad.yaml").write_text(SUITE.replace("student: resnet8\n", ""))
    assert "task 'kd' needs a student network" in fails(workplace, capsys, suite="bad.yaml")


def test_exception_for_no_method(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "bad.yaml").write_text(SUITE + "    methods: {rgall: {rounds: 2}}\n")
    line = fails(workplace, capsys, suite="bad.yaml")
    assert "budgets.smoke.methods: unknown method 'rgall'; did you mean 'rgal'" in line


def test_missing_suite_file(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in fails(workplace, capsys, suite="none.yaml")


def weights(**changes: object) -> dict[str, torch.Tensor]:
    net = nets.build("wrn10_1", 10, 1, 8)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


class Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def _corrupt(path: Path) -> None:
    path.write_bytes(b"not a checkpoint at all")


def _truncated(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(weights(), buffer)
    path.write_bytes(buffer.getvalue()[:2000])


def _harmful(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Harmful(path.with_name("executed"))}))


def _class_count(path: Path) -> None:
    torch.save(nets.build("wrn10_1", 100, 1, 8).state_dict(), path)


def _channels(path: Path) -> None:
    torch.save({"state_dict": nets.build("wrn10_1", 10, 3, 8).state_dict()}, path)


def _not_finite(path: Path) -> None:
    state = weights()
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, path)


def _other_net(path: Path) -> None:
    torch.save(nets.build("resnet8", 10, 1, 8).state_dict(), path)


CHECKPOINTS = {
    "corrupt": (_corrupt, "teacher.pth"),
    "truncated": (_truncated, "teacher.pth"),
    "harmful": (_harmful, "system"),
    "class count": (_class_count, "100"),
    "channels": (_channels, "3 input channels"),
    "not finite": (_not_finite, "fc.weight"),
    "other net": (_other_net, "missing"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_teacher_weights(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, expected = CHECKPOINTS[name]
    path = workplace / "teacher.pth"
    make(path)
    line = fails(workplace, capsys, "--teacher-weights", str(path), "--seeds", "5")
    assert expected in line and "teacher.pth" in line
    assert not path.with_name("executed").exists()


def test_truncated_safetensors(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace / "teacher.safetensors"
    save_file(weights(), str(path))
    path.write_bytes(path.read_bytes()[:1000])
    assert "teacher.safetensors" in fails(workplace, capsys, "--teacher-weights", str(path), "--seeds", "5")


def test_teacher_without_batch_norm(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is trained, with every method that is concerned."""
    teachers = sorted((workplace / "results" / "teachers").iterdir())
    methods = ["plain", "plain[bn=0]", "cmi"]
    line = fails(workplace, capsys, "--teacher", "lenet5", "--methods", *methods)
    assert "method 'plain' cannot run with lenet5 and resnet8" in line
    assert "no BatchNorm2d layer" in line and "bn=0" in line and line.endswith("Neither can: cmi")
    assert sorted((workplace / "results" / "teachers").iterdir()) == teachers
    assert call(workplace, "--teacher", "lenet5", "--methods", "plain[bn=0]") == 0


def parquet(folder: Path, rows: int = 20, labels: bool = True) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(buffer, "PNG")
    columns: dict[str, list[object]] = {"image": [{"bytes": buffer.getvalue(), "path": ""}] * rows}
    if labels:
        columns["label"] = [i % 10 for i in range(rows)]
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), folder / f"{split}-0.parquet")
    return folder


def test_truncated_parquet(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = parquet(workplace / "cut")
    file = root / "train-0.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    assert "train-0.parquet" in fails(workplace, capsys, "--dataset", "mine", "--data-root", str(root))


def test_parquet_without_labels(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = parquet(workplace / "nolabel", labels=False)
    assert "label" in fails(workplace, capsys, "--dataset", "mine", "--data-root", str(root))


def test_fewer_samples_than_classes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """cifar10 is known to have ten classes; five images cannot cover them."""
    root = parquet(workplace / "few", rows=5)
    assert "found 5 classes, expected 10" in fails(
        workplace, capsys, "--dataset", "cifar10", "--data-root", str(root)
    )


def test_colour_teacher_for_grey_images(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = parquet(workplace / "colour")
    path = workplace / "grey.pth"
    torch.save(weights(), path)
    arguments = ["--dataset", "mine", "--data-root", str(root), "--teacher-weights", str(path)]
    assert "1 input channel" in fails(workplace, capsys, *arguments)


def test_batch_smaller_than_the_class_count_runs(workplace: Path) -> None:
    """More classes than samples in a batch is no mistake: pairs are few, and that is all."""
    assert call(workplace, "--methods", "rgal", "--set", "synthesis_batch=4", "batch=2") == 0


def test_results_directory_that_cannot_be_one(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(workplace, capsys, "--results", str(workplace / "suite.yaml" / "results"))
    assert "cannot be written" in line


def test_nothing_to_report(workplace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fails(workplace, capsys, "--results", str(tmp_path), "--report-only")
    assert "no trial in it" in line


@pytest.mark.parametrize("text", ["soon", "0", "nan"])
def test_nonsense_in_the_environment(
    text: str, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RGAL_LAPSE_SECONDS", text)
    assert f"RGAL_LAPSE_SECONDS='{text}'" in fails(workplace, capsys)


def test_full_disk(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space left: one line, exit code 2, finished trials intact; with space again the same command finishes."""
    before = snapshot(workplace)

    def full(path: str | Path, target: str | Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert call(workplace, "--seeds", "3") == 2
    printed = capsys.readouterr().err
    assert "No space left on device" in printed and "Traceback" not in printed
    assert before.items() <= snapshot(workplace).items()
    assert not list((workplace / "results").rglob("*.tmp"))
    assert call(workplace, "--seeds", "3") == 0
