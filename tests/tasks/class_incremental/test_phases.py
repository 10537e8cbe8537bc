"""The firewall of class-incremental learning: one phase's real images at a time."""

from __future__ import annotations

import gc
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.data import DataFirewallError, Dataset, DataSpec, ImageSet, load
from rgal.tasks.class_incremental.phases import Phases, seen_test
from rgal.tasks.class_incremental.protocol import Protocol, make_protocol
from tests.helpers.data_builders import rows


@pytest.fixture
def protocol() -> Protocol:
    return make_protocol(10, 4, 2, "seed1993")


def with_markers(classes: int = 6, per_class: int = 5, size: int = 3) -> Dataset:
    """Images whose every byte says their class and number: 16 * class + number, shuffled; test ones + 8."""
    index = torch.randperm(classes * per_class, generator=torch.Generator().manual_seed(0))
    labels = index % classes
    values = (16 * labels + index // classes).to(torch.uint8)
    images = values[:, None, None, None].expand(-1, 3, size, size)
    train, test = ImageSet(images.clone(), labels), ImageSet(images + 8, labels)
    names = tuple("abcdefghij"[:classes])
    mean = (0.5, 0.5, 0.5)
    return Dataset(DataSpec("marked", classes, (3, size, size), mean, mean, True, 1, names, "0"), train, test)


def reachable(root: object) -> Iterator[Any]:
    """Every object that `root` holds on to: attributes, slots, containers, closures, frames; not its code."""
    code = (type, types.ModuleType, types.CodeType)
    visited: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in visited or isinstance(thing, code):
            continue
        visited.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            waiting += list(thing.__closure__ or ()) + list(thing.__defaults__ or ())
        else:
            waiting += gc.get_referents(thing) + list(getattr(thing, "__dict__", {}).values())


def marked_classes(thing: object) -> set[int]:
    """The classes whose images are in a tensor's whole storage, or in a buffer of bytes."""
    if isinstance(thing, Tensor) and thing.dtype == torch.uint8:
        thing = bytes(thing.untyped_storage().tolist())
    return {value // 16 for value in thing} if isinstance(thing, bytes | bytearray) else set()


def tensor_classes(phases: Phases) -> set[int]:
    """The classes that have an image in some tensor reachable from `phases`."""
    return set().union(*(marked_classes(thing) for thing in reachable(phases) if isinstance(thing, Tensor)))


def byte_classes(phases: Phases) -> set[int]:
    """The classes that have an image in anything at all reachable from `phases`."""
    return set().union(*(marked_classes(thing) for thing in reachable(phases)))


@pytest.mark.parametrize("order", ["natural", "seed1993", "random:2"])
def test_every_phase_has_the_images_of_its_classes_with_their_positions_as_labels(order: str) -> None:
    data = load("digits")
    train = data.train
    protocol = make_protocol(10, 4, 2, order)
    phases = Phases(data, protocol)
    assert phases.protocol is protocol
    total: Counter[bytes] = Counter()
    for phase in range(protocol.phases + 1):
        images = phases.open(phase)
        classes = [protocol.order[label] for label in protocol.labels(phase)]
        keep = torch.isin(train.labels, torch.tensor(classes))
        assert torch.equal(images.images, train.images[keep])  # in the order of the split
        assert images.labels.tolist() == [protocol.order.index(c) for c in train.labels[keep].tolist()]
        assert set(images.labels.tolist()) == set(protocol.labels(phase))
        total += rows(images)
    assert total == rows(train)  # every image once


def test_the_data_set_is_closed_and_its_images_are_let_go(protocol: Protocol) -> None:
    data = load("digits")
    watch = weakref.ref(data.train.images)
    Phases(data, protocol)
    assert watch() is None
    with pytest.raises(DataFirewallError, match="closed"):
        _ = data.train
    with pytest.raises(DataFirewallError, match="closed"):
        Phases(data, protocol)
    assert len(data.test) == 500


def test_any_read_but_the_current_phase_raises(protocol: Protocol) -> None:
    phases = Phases(load("digits"), protocol)
    for phase in range(4):
        images = phases.open(phase)
        for earlier in range(phase):
            with pytest.raises(DataFirewallError, match=f"phase {earlier} of 'digits' is closed"):
                phases.open(earlier)
        assert phases.open(phase) is images  # and a refused read changes nothing
    phases.close()
    phases.close()
    for phase in range(4):
        with pytest.raises(DataFirewallError, match="closed"):
            phases.open(phase)


def test_skipping_ahead_drops_what_is_skipped(protocol: Protocol) -> None:
    straight, resumed = Phases(load("digits"), protocol), Phases(load("digits"), protocol)
    straight.open(0)
    straight.open(1)
    for phase in (2, 3):
        one, other = straight.open(phase), resumed.open(phase)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        for skipped in (0, 1):
            with pytest.raises(DataFirewallError):
                resumed.open(skipped)


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("phase", [-1, 4, 100])
def test_a_phase_that_is_not_there(protocol: Protocol, phase: int, cumulative: bool) -> None:
    phases = Phases(load("digits"), protocol, cumulative)
    images = phases.open(0)
    with pytest.raises(ValueError, match="phases 0 to 3"):
        phases.open(phase)
    assert torch.equal(phases.open(0).images, images.images)  # nothing was dropped for it


def test_no_tensor_holds_images_of_another_phase() -> None:
    protocol = make_protocol(6, 2, 1, "random:3")
    phases = Phases(with_markers(), protocol)
    assert tensor_classes(phases) == set()  # nothing is open yet
    assert byte_classes(phases) == set(range(6))  # the inspection does see what is sealed
    for phase in range(protocol.phases + 1):
        phases.open(phase)
        assert tensor_classes(phases) == {protocol.order[label] for label in protocol.labels(phase)}
        # What was closed is gone in any form, bytes included; what is to come is bytes only.
        first = protocol.labels(phase)[0]
        assert byte_classes(phases) == set(protocol.order[first:])
    phases.close()
    assert byte_classes(phases) == set()


def test_skipped_and_closed_phases_are_gone_in_any_form() -> None:
    protocol = make_protocol(6, 2, 1, "natural")
    phases = Phases(with_markers(), protocol)
    phases.open(2)
    assert byte_classes(phases) == {3, 4, 5}
    phases.close()
    assert byte_classes(phases) == set()


def test_an_opened_phase_is_let_go_with_the_next() -> None:
    phases = Phases(with_markers(), make_protocol(6, 2, 1, "natural"))
    images = phases.open(0)
    watch = weakref.ref(images.images)
    phases.open(1)
    assert marked_classes(images.images) == {0, 1}  # what a caller took is its own to drop
    del images
    assert watch() is None


def test_the_images_are_in_memory_once() -> None:
    data = with_markers()
    size = data.train.images.numel()
    phases = Phases(data, make_protocol(6, 2, 1, "natural"))

    def held() -> int:
        stored = [part for part in reachable(phases) if isinstance(part, Tensor | bytearray)]
        storages = {
            part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
            for part in stored
            if isinstance(part, Tensor) and part.dtype == torch.uint8
        }
        return sum(len(part) for part in stored if isinstance(part, bytearray)) + sum(storages.values())

    assert held() == size
    phases.open(0)
    assert held() == size  # the open phase moved, it was not copied
    phases.open(1)
    assert held() == size - size // 3


def test_the_open_images_are_ordinary_tensors() -> None:
    phases = Phases(with_markers(), make_protocol(6, 2, 1, "natural"))
    images = phases.open(0).images
    assert images.is_contiguous()
    assert images.shape == (10, 3, 3, 3)
    assert torch.equal(images.clone().fill_(7), torch.full_like(images, 7))


def test_images_that_are_not_contiguous() -> None:
    data = with_markers()
    strided = data.train.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    strided[:, 0] += 1
    other = Dataset(data.spec, ImageSet(strided, data.train.labels), data.test)
    images = Phases(other, make_protocol(6, 3, 3, "natural")).open(0)
    assert torch.equal(images.images, strided[data.train.labels < 3])


def test_cumulative_has_all_phases_so_far() -> None:
    data = with_markers()
    train = data.train
    protocol = make_protocol(6, 2, 1, "random:3")
    phases = Phases(data, protocol, cumulative=True)
    with pytest.raises(DataFirewallError):
        _ = data.train
    single = Phases(with_markers(), protocol)
    parts = [single.open(phase) for phase in range(protocol.phases + 1)]
    for phase in range(protocol.phases + 1):
        images = phases.open(phase)
        assert torch.equal(images.images, torch.cat([part.images for part in parts[: phase + 1]]))
        assert torch.equal(images.labels, torch.cat([part.labels for part in parts[: phase + 1]]))
        classes = set(protocol.order[: protocol.seen(phase)])
        assert marked_classes(images.images) == classes  # the storage, too: no later class is in it
        assert len(phases.open(0)) == 10  # nothing is dropped
    assert rows(phases.open(protocol.phases)) == rows(train)
    phases.close()
    assert byte_classes(phases) == set()
    with pytest.raises(DataFirewallError, match="phase 0 of 'marked' is closed"):
        phases.open(0)


@pytest.mark.parametrize("cumulative", [False, True])
def test_a_class_without_training_images_is_named(cumulative: bool) -> None:
    data = with_markers()
    train = data.train.subset(data.train.labels != 2)
    data = Dataset(data.spec, train, data.test)
    with pytest.raises(UserError, match="class 'c' of 'marked' has no training image") as caught:
        Phases(data, make_protocol(6, 2, 1, "random:0"), cumulative)
    assert len(str(caught.value).splitlines()) == 1
    assert data.train is train  # still open: nothing was taken


def test_the_last_class_without_training_images_is_named() -> None:
    data = with_markers()
    data = Dataset(data.spec, data.train.subset(data.train.labels != 5), data.test)
    with pytest.raises(UserError, match="class 'f'"):
        Phases(data, make_protocol(6, 2, 1, "natural"))


def test_a_protocol_for_other_classes() -> None:
    data = with_markers()
    with pytest.raises(ValueError, match="'marked' has 6 classes, the protocol 10"):
        Phases(data, make_protocol(10, 4, 2, "natural"))
    assert len(data.train) == 30


def test_a_selection_can_be_split_into_phases() -> None:
    data = with_markers().select([5, 0, 3])
    phases = Phases(data, make_protocol(3, 1, 2, "natural"))
    assert marked_classes(phases.open(0).images) == {5}
    assert marked_classes(phases.open(1).images) == {0, 3}


def test_test_images_get_positions_as_labels_and_stay_in_order(protocol: Protocol) -> None:
    test = load("digits").test
    before = test.labels.clone()
    tested = seen_test(test, protocol)
    assert torch.equal(tested.images, test.images)
    assert tested.images.untyped_storage().data_ptr() == test.images.untyped_storage().data_ptr()
    assert tested.labels.tolist() == [protocol.order.index(c) for c in test.labels.tolist()]
    assert torch.equal(test.labels, before)
    first = tested.subset(tested.labels < protocol.seen(0))
    assert {protocol.order[label] for label in first.labels.tolist()} == set(protocol.order[:4])


def test_a_phase_without_test_images_is_named() -> None:
    test = with_markers().test
    protocol = make_protocol(6, 2, 2, "natural")
    assert len(seen_test(test.subset(test.labels != 3), protocol)) == 25  # the phase still has class 2
    part = test.subset((test.labels != 2) & (test.labels != 3))
    with pytest.raises(
        UserError, match="no test image of phase 1, classes 2, 3; expected one or more"
    ) as caught:
        seen_test(part, protocol)
    assert len(str(caught.value).splitlines()) == 1
