"""rgal.data: names, statistics, fingerprint, firewall, hold-out and batches."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from rgal.core.errors import UserError
from rgal.data import DataFirewallError, Dataset, ImageSet, evaluate_batches, load, names, to_float
from rgal.data.dataset import stratified_split
from tests.helpers.data_builders import encoded, fails, pixels, rows, shard, tiny


def test_names_and_unknown_names() -> None:
    assert names() == ("digits", "cifar10", "cifar100", "mnist")
    fails("unknown data set 'cifar11'", "did you mean 'cifar10'?", "--data-root", name="cifar11")


@pytest.mark.parametrize(
    ("name", "mean", "flip"),
    [
        ("mine", (0.5, 0.5, 0.5), True),
        ("tiny_imagenet_100", (0.485, 0.456, 0.406), True),
        ("imagenet_dogs", (0.485, 0.456, 0.406), True),
    ],
)
def test_statistics_go_by_name(tmp_path: Path, name: str, mean: tuple[float, ...], flip: bool) -> None:
    spec = load(name, tiny(tmp_path / "set")).spec
    assert (spec.name, spec.mean, spec.flip, spec.classes) == (name, mean, flip, 2)
    assert spec.crop_padding == 1
    assert len(spec.std) == 3


def test_known_name_with_other_classes_or_channels(tmp_path: Path) -> None:
    assert load("svhn", tiny(tmp_path / "ten", classes=10)).spec.flip is False
    assert load("cifar10", tmp_path / "ten").spec.std == (0.2023, 0.1994, 0.2010)
    fails("cifar100", "found 10 classes", "expected 100", name="cifar100", data_root=tmp_path / "ten")
    fails("mnist", "found 3 channels", "expected 1", name="mnist", data_root=tmp_path / "ten")


def test_fingerprint_changes_with_any_label_or_pixel(tmp_path: Path) -> None:
    images = [encoded(pixels(index)) for index in range(4)]
    other = pixels(0)
    other[0, 0, 0] ^= 1
    cases = {
        "same": (images, [0, 1, 0, 1], images[:2], [0, 1]),
        "again": (images, [0, 1, 0, 1], images[:2], [0, 1]),
        "train label": (images, [0, 1, 1, 1], images[:2], [0, 1]),
        "test label": (images, [0, 1, 0, 1], images[:2], [0, 0]),
        "train pixel": ([encoded(other), *images[1:]], [0, 1, 0, 1], images[:2], [0, 1]),
        "test pixel": (images, [0, 1, 0, 1], [encoded(other), images[1]], [0, 1]),
    }
    prints = {}
    for case, (train, train_labels, test, test_labels) in cases.items():
        shard(tmp_path / case / "train.parquet", train, train_labels)
        shard(tmp_path / case / "test.parquet", test, test_labels)
        prints[case] = load("mine", tmp_path / case).spec.fingerprint
    assert prints["same"] == prints["again"]
    assert len(set(prints.values())) == 5
    assert all(len(value) == 12 and int(value, 16) >= 0 for value in prints.values())


def test_closed_training_data_is_gone(tmp_path: Path) -> None:
    root = tiny(tmp_path / "set")
    for data in (load("digits"), load("mine", root), load("mine", root)):  # the last one from the cache
        watch = weakref.ref(data.train.images)
        data.close_training_data()
        data.close_training_data()
        with pytest.raises(DataFirewallError, match="closed"):
            _ = data.train
        with pytest.raises(DataFirewallError):
            data.hold_out()
        assert watch() is None, "something still holds the training images"
        test = data.test.images
        assert test.untyped_storage().nbytes() == test.numel(), "the test images share memory with others"
    assert not isinstance(DataFirewallError(), UserError)


def test_hold_out_is_a_fixed_stratified_part_of_the_training_images() -> None:
    data = load("digits")
    train, test = rows(data.train), rows(data.test)
    held = data.hold_out(0.2)
    assert rows(held.train) + rows(held.test) == train
    assert not rows(held.test).keys() & (test.keys() | rows(held.train).keys())
    counts = data.train.labels.bincount()
    assert held.test.labels.bincount().tolist() == [round(0.2 * count) for count in counts.tolist()]
    torch.manual_seed(123)
    np.random.seed(5)
    again = load("digits").hold_out(0.2)
    assert torch.equal(again.test.images, held.test.images)
    assert again.spec == held.spec
    assert len({data.spec.fingerprint, held.spec.fingerprint, data.hold_out(0.1).spec.fingerprint}) == 3
    assert held.spec.name == "digits"
    assert held.spec.mean == data.spec.mean


def test_hold_out_cannot_reach_the_real_test_images() -> None:
    data = load("digits")
    held = data.hold_out()
    real = data.test.images.untyped_storage().data_ptr()
    reachable = [part.images for part in (held.train, held.test)]
    assert all(images.untyped_storage().data_ptr() != real for images in reachable)
    assert all(value is not data and value is not data.test for value in vars(held).values())
    held.close_training_data()
    assert len(data.train) == 1297  # closing the one leaves the other


def test_hold_out_of_few_images() -> None:
    labels = torch.tensor([0] * 1 + [1] * 2 + [2] * 10)
    rest, held = stratified_split(labels, 0.01, 0)
    assert labels[held].tolist() == [1, 2]  # at least one of each class, but never the last one
    assert sorted(torch.cat([rest, held]).tolist()) == list(range(13))
    rest, held = stratified_split(labels, 0.99, 0)
    assert set(labels[rest].tolist()) == {0, 1, 2}
    assert rest.tolist() == sorted(rest.tolist())
    assert held.tolist() == sorted(held.tolist())


def test_hold_out_errors() -> None:
    data = load("digits")
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(UserError, match="between 0 and 1"):
            data.hold_out(fraction)
    single = ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="nothing to hold out"):
        Dataset(data.spec, single, single).hold_out()


def test_select_restricts_both_splits_and_renumbers() -> None:
    data = load("digits")
    classes = [7, 0, 3]
    part = data.select(classes)
    for whole, selected in ((data.train, part.train), (data.test, part.test)):
        keep = torch.isin(whole.labels, torch.tensor(classes))
        assert torch.equal(selected.images, whole.images[keep])  # in the order of the split
        assert selected.labels.tolist() == [classes.index(label) for label in whole.labels[keep].tolist()]
    assert part.spec.classes == 3
    assert part.spec.class_names == ("7", "0", "3")
    kept = ("name", "shape", "mean", "std", "flip", "crop_padding")
    assert all(getattr(part.spec, name) == getattr(data.spec, name) for name in kept)


def test_select_has_a_fingerprint_of_its_own() -> None:
    data = load("digits")
    choices: list[list[int]] = [[7, 0, 3], [0, 7, 3], [0, 3], list(range(10))]
    prints = [data.select(classes).spec.fingerprint for classes in choices]
    prints.append(data.hold_out().select([7, 0, 3]).spec.fingerprint)
    assert len({data.spec.fingerprint, *prints}) == 6
    assert all(len(value) == 12 and int(value, 16) >= 0 for value in prints)
    assert data.select((7, 0, 3)).spec == data.select([7, 0, 3]).spec
    assert data.select(np.array([7, 0, 3])).spec == data.select([7, 0, 3]).spec  # type: ignore[arg-type]


def test_select_shares_no_memory() -> None:
    data = load("digits")
    part = data.select(range(10))
    for selected in (part.train, part.test):
        assert selected.images.untyped_storage().nbytes() == selected.images.numel()
    assert torch.equal(part.train.images, data.train.images)
    watch = weakref.ref(part.train.images)
    part.close_training_data()
    assert watch() is None
    assert len(data.train) == 1297  # closing the one leaves the other
    other = data.select([1])
    data.close_training_data()
    assert set(other.train.labels.tolist()) == {0}
    with pytest.raises(DataFirewallError):
        data.select([1])


def test_select_of_any_image_size(tmp_path: Path) -> None:
    data = load("mine", tiny(tmp_path / "set", classes=5), size=17)
    part = data.select([4, 1])
    assert part.train.images.shape == (6, 3, 17, 17)
    assert part.test.images.shape == (2, 3, 17, 17)
    assert part.test.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("classes", "fragment"),
    [
        ([], "no class of 'digits' selected"),
        ([1, 10], "'digits' has no class 10; expected 0 to 9"),
        ([-1], "'digits' has no class -1; expected 0 to 9"),
        ([2, 5, 2], "class 2 of 'digits' is selected twice"),
    ],
)
def test_select_errors(classes: list[int], fragment: str) -> None:
    with pytest.raises(UserError, match=fragment) as caught:
        load("digits").select(classes)
    assert len(str(caught.value).splitlines()) == 1


def test_evaluate_batches_gives_every_image_once_in_order() -> None:
    images = ImageSet(torch.arange(7 * 12).reshape(7, 3, 2, 2).to(torch.uint8), torch.arange(7))
    parts = list(evaluate_batches(images, 3, "cpu"))
    assert [len(labels) for _, labels in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([labels for _, labels in parts]), images.labels)
    values = torch.cat([batch for batch, _ in parts])
    assert values.dtype == torch.float32
    assert torch.equal((values * 255).round().to(torch.uint8), images.images)
    with pytest.raises(ValueError, match="batch"):
        next(evaluate_batches(images, 0, "cpu"))


def test_to_float_spans_zero_to_one() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])
    with pytest.raises(ValueError, match="uint8"):
        to_float(torch.ones(2))


def test_image_set_checks_and_subset_copies() -> None:
    images = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    part = images.subset(torch.tensor([2, 0]))
    assert part.labels.tolist() == [2, 0]
    assert len(part) == 2
    part.images.fill_(9)
    assert images.images.sum() == 0
    for pixels_, labels in ((torch.zeros(3, 1, 2, 2), torch.arange(3)), (images.images, torch.arange(2))):
        with pytest.raises(ValueError, match="not"):
            ImageSet(pixels_, labels)
