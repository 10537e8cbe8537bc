"""Plans for well-known data sets that are not on disk: their published size, no download, and no run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rgal import cli
from rgal.data.specs import properties_of
from rgal.data.unread import SIZES, is_missing, unread


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is on disk, and no network is there."""
    monkeypatch.setenv("RGAL_DATA", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plan looks into the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", SIZES)
def test_it_has_the_published_numbers_and_no_memory(name: str) -> None:
    dataset, size = unread(name), SIZES[name]
    assert dataset.spec.shape == size.shape and dataset.spec.classes == size.classes
    assert dataset.spec.mean == properties_of(name, size.shape[0]).mean
    counts = dataset.train.labels.bincount()
    assert len(counts) == size.classes and counts.max() - counts.min() <= 1 and counts.sum() == size.train
    assert len(dataset.test) == size.test
    assert dataset.train.images.untyped_storage().nbytes() == 1
    assert unread(name, 8).spec.shape[1:] == (8, 8)


def test_it_is_missing_only_where_nothing_was_given(tmp_path: Path) -> None:
    assert is_missing("cifar10", None) and not is_missing("cifar10", tmp_path)
    assert not is_missing("digits", None) and is_missing("imagenet", None)
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert not is_missing("cifar10", None)


def test_a_dry_run_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results", str(tmp_path / "r"), "--seeds", "0", "--methods", "rgal"]
    assert cli.main(["--suite", "necil_cifar100", *arguments, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "not on disk" in said.err and "  -  rgal seed 0  " in said.out and "1 trial: cifar100" in said.out
    own = ["--set", "evaluate_on=validation"]
    assert cli.main(["--task", "dfq", "--dataset", "cifar10", *arguments, *own, "--dry-run"]) == 0
    assert "validation" in capsys.readouterr().out
    assert not (tmp_path / "r").exists()


def test_what_does_not_fit_is_still_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--suite", "necil_cifar100", "--set", "base=400", "--dry-run"]) == 2
    assert cli.main(["--dataset", "nothing_known", "--dry-run"]) == 2
    assert "unknown data set 'nothing_known'" in capsys.readouterr().err
    assert cli.main(["--dataset", "cifar10", "--data-root", str(tmp_path / "no"), "--dry-run"]) == 2
    assert "does not exist" in capsys.readouterr().err
