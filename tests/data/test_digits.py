"""rgal.data: the bundled digits, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rgal.core.errors import UserError
from rgal.data import digits, load, to_float
from tests.helpers.data_builders import fails, rows


def test_digits_are_all_scans_split_once() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (len(data.train), len(data.test)) == (1297, 500)
    assert data.spec.shape == (1, 8, 8) == tuple(data.train.images.shape[1:])
    bunch = load_digits()
    everything = Counter(np.round(scan * 255 / 16).astype(np.uint8).tobytes() for scan in bunch.images)
    assert rows(data.train) + rows(data.test) == everything
    assert not rows(data.train).keys() & rows(data.test).keys()
    assert data.train.images.max() == 255
    assert data.train.images.min() == 0
    # Stratified: every class has its share of the test split, to the nearest image.
    share = np.bincount(bunch.target) * 500 / 1797
    assert np.abs(data.test.labels.bincount().numpy() - share).max() <= 1


def test_digits_images_keep_their_labels() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    label_of = {
        np.round(scan * 255 / 16).astype(np.uint8).tobytes(): label
        for scan, label in zip(bunch.images, bunch.target, strict=True)
    }
    data = load("digits")
    for part in (data.train, data.test):
        assert [label_of[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def test_digits_are_the_same_every_time_and_their_constants_are_measured() -> None:
    first, second = load("digits"), load("digits")
    assert torch.equal(first.train.images, second.train.images)
    assert first.spec == second.spec
    assert (
        first.spec.fingerprint == "41ca7167b665"
    )  # stored results name it: a change makes them another data set
    values = to_float(first.train.images).double()
    assert first.spec.mean == pytest.approx((values.mean().item(),), abs=5e-5)
    assert first.spec.std == pytest.approx((values.std(correction=0).item(),), abs=5e-5)
    assert (first.spec.classes, first.spec.flip, first.spec.crop_padding) == (10, False, 1)
    assert first.spec.class_names == tuple("0123456789")


def test_digits_are_read_and_split_as_scikit_learn_does() -> None:
    """The file is read and the split is stored, so that scikit-learn is not imported: both are its own to the byte."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch, data = load_digits(), load("digits")
    images = (torch.from_numpy(bunch.images)[:, None] * 255 / 16).round().to(torch.uint8)
    positions = train_test_split(np.arange(len(images)), test_size=500, random_state=0, stratify=bunch.target)
    for part, at in zip((data.train, data.test), positions, strict=True):
        assert torch.equal(part.images, images[at])
        assert part.labels.tolist() == bunch.target[at].tolist()


def test_a_scikit_learn_without_its_digits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FILE", Path("datasets", "data", "gone.csv.gz"))
    with pytest.raises(UserError, match=r"data set 'digits': found no sklearn/datasets/data/gone.csv.gz"):
        digits._scans_file()


def test_digits_can_be_resized_but_take_no_folder(tmp_path: Path) -> None:
    assert load("digits", size=16).spec.shape == (1, 16, 16)
    assert load("digits", size=16).spec.fingerprint != load("digits").spec.fingerprint
    assert load("digits", size=8).spec == load("digits").spec
    fails("digits", str(tmp_path), name="digits", data_root=tmp_path)
    fails("-3", name="digits", size=-3)


def test_importing_and_the_digits_load_no_heavy_library() -> None:
    heavy = "pyarrow", "PIL", "sklearn", "torchvision", "scipy"
    code = f"import sys, rgal.data; rgal.data.load('digits'); print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
