"""Names of networks from elsewhere, and whole runs with them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal import cli, nets
from rgal.core.errors import UserError
from rgal.core.observe import WHAT, batch_norms, observe
from rgal.core.optimiser import SGD
from rgal.core.seeding import Streams, global_seed
from rgal.engine.batches import Augmentation, StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.suite.store.folders import key_of
from rgal.synthesis.views import identity
from rgal.terms.transfer import cross_entropy
from tests.helpers import foreign_builders as build
from tests.helpers import small
from tests.helpers.suites import SUITE, fails

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")

# Names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a module `foreign_mine`, which is the current one."""
    (tmp_path / "foreign_mine.py").write_text(build.FACTORY)
    (tmp_path / "foreign_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("foreign_")]:
        del sys.modules[name]


NAMES = {
    "torchvision:resnet1": "unknown net 'torchvision:resnet1'; did you mean 'torchvision:resnet18'?",
    "torchvision:quantized_resnet": "unknown net 'torchvision:quantized_resnet'",
    "torchvison:resnet18": "no module 'torchvison'.* did you mean 'torchvision:resnet18'?",
    "nowhere.at_all:net": "no module 'nowhere' in .*valid: torchvision:NAME, timm:NAME, MODULE:FACTORY",
    "foreign_mine:plane": "'plane' does not exist in .*foreign_mine.py; did you mean 'plain'?",
    "foreign_mine:SETTING": "'SETTING' is no function or class",
    "foreign_mine:width": "expected a parameter num_classes, and defaults for all others; 'width' has none",
    "foreign_mine:broken": r"cannot be built: NameError: name 'undefined_name' .*foreign_mine.py, line \d+",
    "foreign_mine:number": "is a int, expected a torch.nn.Module",
    "foreign_broken:net": "importing it failed: .*nowhere_to_be_found",
    ":net": "unknown net ':net'",
}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_names(name: str, factories: Path) -> None:
    with pytest.raises(UserError, match=NAMES[name]) as refusal:
        nets.build(name, 4)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_bare_unknown_name_shows_how_others_are_named() -> None:
    with pytest.raises(UserError, match="valid: MODULE:FACTORY, .*timm:NAME, torchvision:NAME"):
        nets.build("mobilenet_v2", 4)


def test_missing_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="^net 'timm:resnet18': the package timm is not installed; `pip"):
        nets.build("timm:resnet18", 4)


def test_timm() -> None:
    pytest.importorskip("timm")
    net = nets.build("timm:mobilenetv3_small_050", 7, 1, 32).eval()
    observed = observe(net, small.randn(2, 1, 32, 32), WHAT)
    torch.testing.assert_close(net.get_submodule(net.head_name)(observed.feature), observed.logits)
    assert len(observed.bn) == 34 and len(observed.layers) == 4  # they are a subclass of BatchNorm2d
    with pytest.raises(UserError, match="did you mean 'timm:resnet18'"):
        nets.build("timm:resnet19", 4)
    assert (
        nets.build("timm:vit_tiny_patch16_224", 4).pos_embed.shape[1] == 5
    )  # made for 32 pixels: 2x2 patches


def test_a_factory_is_given_what_it_has_parameters_for(factories: Path) -> None:
    assert nets.build("foreign_mine:plain", 5, 2, 8)(torch.zeros(2, 2, 8, 8)).shape == (2, 5)
    grey = nets.build("foreign_mine:bare", 5, 1, (8, 12))
    assert grey(torch.zeros(2, 1, 8, 12)).shape == (2, 5) and not batch_norms(grey)


def test_the_code_of_a_factory_is_that_of_its_module_and_what_it_uses(factories: Path) -> None:
    """Comments change nothing; a neighbour's number does; what it does not use does not."""
    main, part = factories / "foreign_main.py", factories / "foreign_part.py"
    main.write_text("from foreign_part import width\ndef make(num_classes): return width()\n")

    def code(text: str) -> str:
        part.write_text(text)
        for name in ("foreign_main", "foreign_part"):
            sys.modules.pop(name, None)
        return nets.code_of("foreign_main:make")

    first = code("def width(): return 10\n")
    assert first and code("# A remark\n\ndef width(): return 10\n") == first
    assert code("def width(): return 100\n") != first
    (factories / "foreign_other.py").write_text("x = 1\n")
    assert code("def width(): return 10\n") == first
    assert nets.code_of("torchvision:resnet18") == nets.code_of("wrn10_1") == ""


# Whole runs -----------------------------------------------------------------------------------------------------


def call(folder: Path, *arguments: str, jobs: str = "0") -> int:
    fixed = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / "results"), "--jobs", jobs]
    return cli.main([*fixed, *arguments])


@pytest.mark.slow
def test_a_run_in_a_worker_process(factories: Path) -> None:
    """A factory in the current directory, with a weights file, as the teacher and as the student."""
    teacher = nets.build("foreign_mine:plain", 10, 1, 8)
    torch.save({"state_dict": teacher.state_dict()}, factories / "mine.pth")
    nets_given = ["--teacher", "foreign_mine:plain", "--student", "foreign_mine:bare"]
    arguments = [*nets_given, "--teacher-weights", str(factories / "mine.pth"), "--methods", "rgal"]
    arguments += ["--set", "allow_weak_teacher=true"]  # it is not trained
    assert call(factories, *arguments, jobs="1") == 0
    (folder,) = (factories / "results" / "trials").iterdir()
    record = json.loads((folder / "trial.json").read_text())
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert folder.name == f"kd-digits-foreign_mine-plain-foreign_mine-bare-rgal-s0-{key_of(folder)}"
    assert key_of(folder) == record["key"] and len(record["settings"]["code"].split("-")) == 2
    stored = [path.name for path in (factories / "results" / "teachers").glob("*.safetensors")]
    name = (
        r"digits-foreign_mine-plain-given-[0-9a-f]{12}-[0-9a-f]{6}\.safetensors"  # of the file, of the code
    )
    assert len(stored) == 1 and re.fullmatch(name, stored[0])


def test_an_edited_net_is_trained_anew(factories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = []
    for text in (build.FACTORY, build.FACTORY + "# A remark\n", build.FACTORY.replace("0.5", "0.1")):
        (factories / "foreign_mine.py").write_text(text)
        sys.modules.pop("foreign_mine", None)
        capsys.readouterr()
        assert call(factories, "--teacher", "foreign_mine:plain", "--dry-run") == 0
        keys.append(capsys.readouterr().out.splitlines()[1].split()[0])
    assert keys[0] == keys[1] != keys[2]


def test_what_a_net_lacks_is_said_before_anything_runs(
    factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (factories / "results" / "trials").mkdir(parents=True)
    arguments = ["--teacher", "foreign_mine:bare", "--methods", "plain", "dafl", "cmi"]
    line = fails(factories, capsys, *arguments)
    assert "method 'plain' cannot run with foreign_mine:bare and resnet8: the term 'bn'" in line
    assert line.endswith("bn=0. Neither can: cmi")
    assert not (factories / "results" / "teachers").exists()
    line = fails(factories, capsys, "--teacher", "torchvision:squeezenet1_1")
    assert "cannot take images of 1x8x8" in line and "--set image_size=32" in line


def module_of(folder: Path, kind: str) -> str:
    """A module in a folder whose factory makes this network of the builders."""
    pixels = "image_size ** 2" if kind == "Flat" else ""
    (folder / "foreign_kind.py").write_text(
        f"from tests.helpers.foreign_builders import {kind}\n"
        f"def make(num_classes, image_size): return {kind}(num_classes, {pixels})\n"
    )
    return "foreign_kind:make"


LACKING = {
    "rgal[bn=0]": "the term 'spread' reads the student's layers, .* target=teacher, if .*; or spread=0",
    "rgal[bn=0,spread=0]": "the term 'cd' reads the student's layers, .* parameter cd=0",
    "rgal[bn=0,cd=0,spread=0,feature=layers]": "the term 'gather' reads .* feature=global; or gather=0",
    "zskt[follows=paper]": "the term 'at' reads the student's layers",
}


@pytest.mark.parametrize("method", LACKING)
def test_a_net_without_layers(method: str, factories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (factories / "results" / "trials").mkdir(parents=True)
    name = module_of(factories, "Flat")
    line = fails(factories, capsys, "--teacher", name, "--student", name, "--methods", method)
    assert re.search(LACKING[method], line), line


@pytest.mark.parametrize(("kind", "method"), [("Flat", "rgal[bn=0,cd=0]"), ("GreyTokens", "rgal[bn=0]")])
def test_nets_without_layers_or_of_tokens_are_inverted(kind: str, method: str, factories: Path) -> None:
    name = module_of(factories, kind)
    arguments = ["--teacher", name, "--student", "resnet8", "--methods", method]
    assert call(factories, *arguments) == 0


def test_weights_for_colour_are_refused_on_grey_images(
    factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (factories / "results" / "trials").mkdir(parents=True)
    torch.save(nets.build("foreign_mine:bare", 10, 3, 8).state_dict(), factories / "colour.pth")
    arguments = ["--teacher", "foreign_mine:bare", "--methods", "dafl"]
    line = fails(factories, capsys, *arguments, "--teacher-weights", str(factories / "colour.pth"))
    assert "first convolution '0' has 3 input channels, expected 1" in line


@pytest.mark.parametrize(
    ("task", "options", "methods"),
    [
        ("dfq", "options: {bits: [w4a4]}", ["rgal", "gdfq"]),
        ("necil", "options: {base: 4, step: 3}", ["rgal", "pass+rgal", "fetril"]),
    ],
)
def test_other_tasks_take_a_factory(task: str, options: str, methods: list[str], factories: Path) -> None:
    text = SUITE.replace("task: kd", f"task: {task}").replace("student: resnet8", options)
    (factories / "suite.yaml").write_text(text)
    assert call(factories, "--teacher", "foreign_mine:plain", "--methods", *methods) == 0
    assert len(list((factories / "results" / "trials").glob("*/student.safetensors"))) == len(methods)


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        ("dfq", "options: {bits: [w4a4]}", "cannot be quantized: its forward cannot be followed"),
        ("necil", "options: {base: 4, step: 3}", "the classifier 'classifier' is Conv2d, expected Linear"),
    ],
)
def test_other_tasks_refuse_in_one_line(
    task: str, options: str, expected: str, factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (factories / "results" / "trials").mkdir(parents=True)
    text = SUITE.replace("task: kd", f"task: {task}").replace("student: resnet8", options)
    (factories / "suite.yaml").write_text(text)
    (factories / "foreign_odd.py").write_text(ODD)
    line = fails(factories, capsys, "--teacher", f"foreign_odd:{task}", "--methods", "rgal")
    assert line.startswith(f"error: task '{task}' with foreign_odd:{task}: ") and expected in line


ODD = """
from torch import nn

class Dfq(nn.Sequential):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)  # a branch on values

def dfq(num_classes):
    return Dfq(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

class necil(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8, num_classes, 1)

    def forward(self, x):
        return self.classifier(self.body(x)).mean((2, 3))
"""


def test_list_shows_how_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "nets"]) == 0
    assert {"torchvision:NAME", "timm:NAME", "MODULE:FACTORY"} <= set(capsys.readouterr().out.splitlines())


# Dropout --------------------------------------------------------------------------------------------------------


def dropping() -> nn.Module:
    with global_seed("dropping"):
        head = nn.Sequential(nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
        return nn.Sequential(build.stage(3, 6), head)


def trained(steps: int, state: dict[str, Any] | None = None) -> tuple[StudentLoop, list[Tensor]]:
    """A loop after `steps` more steps, whatever torch's own random stream is up to."""
    student, streams = dropping().train(), Streams("cpu", "dropout")
    spec = StudentSpec((cross_entropy(),), SGD(0.1), 6, Augmentation(identity))
    loop = StudentLoop({"student": student}, small.COLOUR, spec, streams)
    if state is not None:
        loop.load_state_dict(state)
    for step in range(loop.steps, loop.steps + steps):
        torch.rand(step + 3 * steps)
        loop.step(StudentBatch(small.rand(8, *small.COLOUR.shape, seed=step), torch.arange(8) % 5))
    return loop, list(small.snapshot(loop.student).values())


def test_dropout_is_drawn_alike_after_a_stop() -> None:
    """Each step's draws are a function of its number, and of nothing else that draws."""
    _, whole = trained(4)
    half, _ = trained(2)
    _, resumed = trained(2, small.reloaded(half.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
