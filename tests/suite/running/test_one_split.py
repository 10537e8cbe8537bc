"""A data set with one split: a test split is evaluated on, a training split trains a teacher; the rest is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rgal import nets
from rgal.core.errors import UserError
from rgal.data import Splits, data_source, load
from rgal.nets.checkpoint import save_weights
from tests.helpers.data_builders import encoded, no_shared_cache, pixels, shard
from tests.helpers.suites import DFQ_SUITE, SUITE, call, fails

HELD_OUT = "    held_out: {images: 8, steps: 1, batch: 8}\n"
EACH = 12  # images of each of two classes


def folders(root: Path, name: str) -> None:
    for position, kind in enumerate(("ant", "cat")):
        for index in range(EACH):
            path = root / name / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(100 * position + index, channels=1)).save(path)


def shards(root: Path, name: str) -> None:
    images = [encoded(pixels(index, channels=1)) for index in range(2 * EACH)]
    shard(
        root / f"{name}-00000-of-00001.parquet",
        images,
        [i % 2 for i in range(2 * EACH)],
        class_names=["ant", "cat"],
    )


KINDS: list[Callable[[Path, str], None]] = [folders, shards]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    no_shared_cache(tmp_path, monkeypatch)
    for name, text in (("kd", SUITE), ("dfq", DFQ_SUITE)):
        text = text.replace("dataset: digits", f"dataset: mine\ndata_root: {tmp_path / 'data'}")
        (tmp_path / f"{name}.yaml").write_text(text + HELD_OUT)
    for name in ("wrn10_1", "resnet8"):
        save_weights(nets.build(name, 2, 1, 8), tmp_path / f"{name}.safetensors")
    return tmp_path


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What finished trials say, by method."""
    found = {}
    for path in (folder / "results" / "trials").glob("*/result.json"):
        settings = json.loads((path.parent / "trial.json").read_text())["settings"]
        found[settings["method"]] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("write", KINDS)
def test_splits_that_are_there(write: Callable[[Path, str], None], place: Path) -> None:
    """Decoded, and from the cache; the fingerprints of the same images as one split and as the other differ."""
    prints = set()
    for name in ("train", "test", "validation"):
        write(place / name, name)
        for _ in range(2):
            data = load("mine", place / name)
            assert (data.has_train, data.has_test) == (name == "train", name != "train")
            assert len(data.train if data.has_train else data.test) == 2 * EACH
            assert data.spec.class_names == ("ant", "cat") and data.spec.classes == 2
            (note,) = data.notes
            assert ("no training split" if data.has_test else "evaluate_on=validation") in note
        prints.add(data.spec.fingerprint)
        if data.has_train:
            assert len(data.hold_out().test) == 2 and data.select([1]).has_test is False
    assert len(prints) == 2


@pytest.mark.parametrize(("write", "task"), [(folders, "kd"), (shards, "dfq")])
@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_test_split_alone(
    write: Callable[[Path, str], None], task: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place / "data", "test")
    given = ("--teacher-weights", str(place / "wrn10_1.safetensors"), "--set", "allow_weak_teacher=true")
    assert call(place, *given, suite=f"{task}.yaml") == 0
    (result,) = results(place).values()
    assert 0 <= result["last"] <= 100 and result["test_images"] == 2 * EACH and "agreement" not in result
    assert "there is no training split" in capsys.readouterr().err
    line = fails(place, capsys, suite=f"{task}.yaml")
    assert "has no training split to train a teacher on; give --teacher-weights" in line
    reference = "real_kd" if task == "kd" else "real_finetune"
    line = fails(place, capsys, *given, "--methods", reference, suite=f"{task}.yaml")
    assert f"'{reference}' trains on real images, and data set 'mine' has none" in line
    line = fails(place, capsys, *given, "--set", "evaluate_on=validation", suite=f"{task}.yaml")
    assert "has no training images" in line


@pytest.mark.parametrize(("write", "task"), [(folders, "kd"), (shards, "dfq")])
@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_training_split_alone(
    write: Callable[[Path, str], None], task: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its teacher is trained, or given; agreement takes the place of accuracy, unless images are kept for it."""
    write(place / "data", "train")
    reference = "scratch" if task == "kd" else "real_finetune"
    assert call(place, "--methods", "plain", reference, suite=f"{task}.yaml") == 0
    for result in results(place).values():
        assert "last" not in result and "teacher_top1" not in result
        assert 0 <= result["agreement"] <= 100 and result["held_out_images"] == 8
    assert "no test images to measure it on" in capsys.readouterr().err
    record = next((place / "results" / "teachers").glob("*.json")).read_text()
    assert "top1" not in json.loads(record) and not any(math.isnan(x) for x in _numbers(record))
    assert call(place, suite=f"{task}.yaml") == 0  # all of it is found again
    assert (
        call(place, "--set", "evaluate_on=validation", "--results", str(place / "kept"), suite=f"{task}.yaml")
        == 0
    )
    found = json.loads(next((place / "kept" / "trials").glob("*/result.json")).read_text())
    assert found["test_images"] == 2 and "last" in found


@pytest.mark.usefixtures("nothing_stays")
def test_one_split_of_a_plug_in() -> None:
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])

    @data_source("tested")
    def tested(root: Path | None) -> Splits:
        return Splits(None, None, images, labels)

    @data_source("empty")
    def empty(root: Path | None) -> Splits:
        return Splits(None, None, None, None)

    data = load("tested")
    assert (data.has_train, len(data.test), data.spec.classes) == (
        False,
        4,
        2,
    ) and "no training" in data.notes[0]
    with pytest.raises(UserError, match="found neither training nor test images"):
        load("empty")


def _numbers(text: str) -> list[float]:
    return [value for value in json.loads(text).values() if isinstance(value, float)]


@pytest.mark.parametrize(
    ("name", "says"), [("test", "no training split, which"), ("train", "evaluate_on=validation")]
)
def test_class_incremental_learning_needs_both(
    name: str, says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(place / "data", name)
    text = (place / "dfq.yaml").read_text().replace("task: dfq", "task: necil").replace("[plain]", "[lwf]")
    (place / "necil.yaml").write_text(text.replace("options: {bits: [w4a4]}", "options: {base: 1, step: 1}"))
    assert says in fails(place, capsys, suite="necil.yaml")
