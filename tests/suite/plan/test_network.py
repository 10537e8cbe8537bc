"""What images networks take, read before anything runs; and that a trial's key holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rgal import cli
from rgal.core.errors import UserError
from rgal.suite.plan.network import suite_dataset
from rgal.suite.plan.settings import load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running.runner import make_plan
from tests.helpers import own_network
from tests.helpers.suites import DFQ_SUITE, SUITE, trials
from tests.helpers.trials import TRIAL

OWN = """
task: {task}
teacher: my_nets:TwoBranch
teacher_weights: net.pth
methods: [{method}]
budget: smoke
network: {{classes: 7, image: 3x48x48, normalise: imagenet}}
budgets:
  smoke: {{rounds: 1, synthesis_steps: 1, student_steps: 1, held_out: {{images: 8, steps: 1, batch: 8}}}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    with own_network.workplace(tmp_path):
        yield tmp_path


def planned(
    folder: Path, *assignments: str, task: str = "kd", method: str = "rgal", **said: Any
) -> list[Trial]:
    """The trials of the suite above, with what the command line says of the network."""
    text = OWN.format(task=task, method=method) + ("student: my_nets:small\n" if task == "kd" else "")
    (folder / "suite.yaml").write_text(text)
    overrides = {"calibration": said.pop("calibration", None)}
    return make_plan(load_suite(folder / "suite.yaml", overrides, assignments, {}, said)).trials


def test_a_trial_holds_all_that_was_said(own: Path) -> None:
    (trial,) = planned(own)
    assert trial.dataset == "none" and trial.evaluate_on == "held-out images"
    assert trial.network == {
        "image": [3, 48, 48], "classes": 7, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "flip": True,
    }  # fmt: skip
    assert trial.network_source == "ImageNet's" and trial.held_out == {"images": 8, "steps": 1, "batch": 8}


def test_the_key_holds_the_numbers_and_not_who_says_so(own: Path) -> None:
    (first,) = planned(own)
    same = planned(own, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    assert same[0].key == first.key and same[0].network_source == "as given"
    others = [
        planned(own, mean=[0.5], std=[0.5]),
        planned(own, flip=False),
        planned(own, image="3x48x40"),
        planned(own, "held_out={images: 8, steps: 2, batch: 8}"),
    ]
    keys = {trial.key for one in others for trial in one}
    assert len(keys) == 4 and first.key not in keys


def test_a_guess_is_called_one(own: Path) -> None:
    (own / "suite.yaml").write_text(
        OWN.format(task="dfq", method="rgal").replace(", normalise: imagenet", "")
    )
    (trial,) = make_plan(load_suite(own / "suite.yaml", {}, ("bits=w8a8",))).trials
    assert trial.network["mean"] == [0.5, 0.5, 0.5] and trial.network_source.startswith("a guess")


def test_a_library_says_what_nobody_else_does(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    text = OWN.format(task="dfq", method="rgal").replace("my_nets:TwoBranch", "torchvision:resnet18")
    text = text.replace("net.pth", str(tmp_path / "w.pth"))
    text = text.replace("network: {classes: 7, image: 3x48x48, normalise: imagenet}", "dataset: none")
    (tmp_path / "suite.yaml").write_text(text)
    dataset, given = suite_dataset(load_suite(tmp_path / "suite.yaml", {}))
    assert dataset.spec.shape == (3, 224, 224) and dataset.spec.classes == 1000
    assert given["network_source"] == "torchvision's configuration of resnet18"


FAULTS = {
    "no classes": ({"classes": None}, (), "--classes N missing"),
    "no image": ({"image": None}, (), "--image CxHxW missing"),
    "no weights": ({}, ("teacher_weights=null",), "give --teacher-weights FILE"),
    "data root": ({}, ("data_root=somewhere",), "--dataset none has no images"),
    "image size": ({}, ("image_size=32",), "no images to resize; give --image"),
    "validation": ({}, ("evaluate_on=validation",), "no images to hold out"),
    "a reference": (
        {},
        ("methods=[real_kd]",),
        "'real_kd' trains on real images, and data set 'none' has none",
    ),
    "typing error": ({}, ("network.clases=7",), "did you mean 'classes'?"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_is_a_line(fault: str, own: Path) -> None:
    missing, assignments, words = FAULTS[fault]
    text = OWN.format(task="kd", method="rgal") + "student: my_nets:small\n"
    for name, written in (("classes", "classes: 7, "), ("image", "image: 3x48x48, ")):
        text = text.replace(written, "") if name in missing else text
    (own / "suite.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        make_plan(load_suite(own / "suite.yaml", {}, assignments))
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_classes_phase_by_phase_need_images(own: Path) -> None:
    with pytest.raises(UserError, match="'necil' learns from real images; --dataset none has none"):
        planned(own, task="necil", method="finetune")


def test_all_leaves_out_what_needs_real_images(own: Path) -> None:
    methods = {trial.method for trial in planned(own, method="all")}
    assert "deepinversion" in methods and not {"real_kd", "scratch"} & methods


# With a data set -----------------------------------------------------------------------------------------------------


def test_a_data_set_is_normalised_as_the_user_says(tmp_path: Path) -> None:
    (plain,) = trials(tmp_path)
    assert plain.network == {} and plain.held_out == {}
    (same,) = trials(tmp_path, SUITE + "network: {mean: [0.3053], std: [0.3758], flip: false}\n")
    assert same.key == plain.key and same.teacher_key == plain.teacher_key
    (other,) = trials(tmp_path, SUITE + "network: {mean: [0.5], std: [0.5]}\n")
    assert other.network == {"mean": [0.5], "std": [0.5]}
    assert other.key != plain.key and other.teacher_key != plain.teacher_key
    with pytest.raises(UserError, match="has images and classes of its own"):
        trials(tmp_path, SUITE + "network: {classes: 7}\n")


def test_a_key_is_what_it_was_before_these_settings_were_there() -> None:
    """Fields that say nothing are not in it."""
    assert TRIAL.key == "fe987298c19d"
    assert replace(TRIAL, network_source="somebody", calibration="somewhere").key == TRIAL.key
    assert replace(TRIAL, calibration_key="c0ffee").key != TRIAL.key


# Real images without labels ------------------------------------------------------------------------------------------


def pictures(folder: Path, count: int = 3, shade: int = 0) -> Path:
    for number in range(count):
        below = folder / "any" / str(number % 2)
        below.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 50 + number), (shade, 40 * number, 99)).save(below / f"{number}.png")
    return folder


def test_given_images_are_a_row_and_in_the_key(own: Path) -> None:
    first, row = planned(own, "bits=w8a8", task="dfq", calibration=str(pictures(own / "cal")))
    assert (first.method, row.method) == ("rgal", "calibration")
    (without,) = planned(own, "bits=w8a8", task="dfq")
    changed, _ = planned(own, "bits=w8a8", task="dfq", calibration=str(pictures(own / "other", shade=9)))
    moved, _ = planned(own, "bits=w8a8", task="dfq", calibration=str(pictures(own / "moved")))
    assert len({first.key, without.key, changed.key}) == 3 and moved.key == first.key


def test_distillation_has_no_row_of_them(own: Path) -> None:
    assert [trial.method for trial in planned(own, calibration=str(pictures(own / "cal")))] == ["rgal"]


def test_the_row_needs_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'calibration' works on given real images; give --calibration DIR"):
        trials(tmp_path, DFQ_SUITE, methods=["calibration"])
    assert "calibration" not in {trial.method for trial in trials(tmp_path, DFQ_SUITE, methods=["all"])}


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--teacher", "resnet18"], ["--teacher", "torchvision:resnet18"]])
def test_a_teacher_alone_is_not_one_of_digits(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "on which images?" in error and "--dataset none with --classes N --image CxHxW" in error


def test_the_suites_own_teacher_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--methods", "plain", "--seeds", "0", "--budget", "smoke", "--dry-run"]
    assert cli.main(["--teacher", "wrn16_1", *arguments]) == 0
    assert "digits wrn16_1 -> wrn10_1" in capsys.readouterr().out


def test_a_suite_that_says_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset: missing; give a data set"):
        trials(tmp_path, SUITE.replace("dataset: digits\n", ""))
