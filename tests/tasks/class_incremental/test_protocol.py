"""Class orders, class-incremental protocols and the mapping from classes to labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rgal.core.errors import UserError
from rgal.tasks.class_incremental.protocol import Protocol, class_order, make_protocol


def refused(call: object, *fragments: str) -> None:
    """The call raises a UserError of exactly one line that contains every fragment."""
    with pytest.raises(UserError) as caught:
        call()  # type: ignore[operator]
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} not in {message!r}"


@pytest.mark.parametrize(
    ("kind", "classes", "start"),
    [
        # Published orders: PASS's permutations, and the lists in the settings of ABD and R-DFCIL.
        ("seed1993", 100, [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]),
        ("seed1993", 200, [168, 136, 51, 9, 183]),
        ("random:0", 100, [23, 8, 11, 7, 48]),
        ("random:1", 100, [53, 37, 65, 51, 4]),
        ("random:2", 100, [0, 76, 61, 63, 1]),
        ("random:0", 200, [131, 181, 22]),
        ("random:1", 200, [33, 146, 79]),
        ("random:2", 200, [51, 94, 55]),
        ("natural", 100, [0, 1, 2, 3]),
    ],
)
def test_orders_are_the_published_ones(kind: str, classes: int, start: list[int]) -> None:
    np.random.seed(7)  # the global streams neither matter nor move
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    order = class_order(kind, classes)
    assert list(order[: len(start)]) == start
    assert sorted(order) == list(range(classes))
    assert all(type(label) is int for label in order)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]
    assert class_order(kind, classes) == order


def test_the_thousand_classes_of_imagenet() -> None:
    # R-DFCIL's ImageNet-100 list shuffles range(1000) in place: the same as a permutation.
    assert class_order("seed1993", 1000)[:5] == (54, 7, 894, 512, 126)


@pytest.mark.parametrize("kind", ["seed1992", "", "Natural", "random", "1993", "seed1993\nnatural"])
def test_unknown_orders(kind: str) -> None:
    refused(lambda: class_order(kind, 10), "unknown class order", "natural, random:<r>, seed1993")


def test_a_near_miss_is_named() -> None:
    refused(lambda: class_order("seed1994", 10), "did you mean 'seed1993'?")


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "x", " 1", "1 ", "1\n", "+1", "1_0", "٣", "9" * 5000])
def test_random_needs_a_non_negative_integer(seed: str) -> None:
    refused(
        lambda: class_order(f"random:{seed}", 10), "non-negative integer", "natural, random:<r>, seed1993"
    )


def test_large_random_seeds_are_fine() -> None:
    assert sorted(class_order("random:" + "9" * 18, 10)) == list(range(10))


@pytest.mark.parametrize(
    ("classes", "base", "step", "name", "phases"),
    [
        (100, 50, 10, "50+5x10", 5),
        (100, 50, 5, "50+10x5", 10),
        (100, 40, 3, "40+20x3", 20),
        (100, 40, 1, "40+60x1", 60),
        (200, 100, 20, "100+5x20", 5),
        (200, 100, 10, "100+10x10", 10),
        (200, 100, 5, "100+20x5", 20),
        (200, 100, 1, "100+100x1", 100),
        (100, 20, 20, "20+4x20", 4),
        (100, 10, 10, "10+9x10", 9),
        (100, 5, 5, "5+19x5", 19),
        (200, 20, 20, "20+9x20", 9),
        (10, 4, 2, "4+3x2", 3),
        (2, 1, 1, "1+1x1", 1),
    ],
)
def test_published_protocols(classes: int, base: int, step: int, name: str, phases: int) -> None:
    protocol = make_protocol(classes, base, step, "seed1993")
    assert protocol.name == name
    assert protocol.phases == phases
    assert protocol.classes == classes
    assert protocol.sizes == (base,) + (step,) * phases
    assert sum(protocol.sizes) == classes
    labels = [list(protocol.labels(phase)) for phase in range(phases + 1)]
    assert [len(part) for part in labels] == list(protocol.sizes)
    assert sum(labels, []) == list(range(classes))  # every label in one phase, in ascending order
    assert [protocol.seen(phase) for phase in range(phases + 1)] == [part[-1] + 1 for part in labels]


@pytest.mark.parametrize("phase", [-1, 6])
def test_phases_that_are_not_there(phase: int) -> None:
    protocol = make_protocol(100, 50, 10, "natural")
    for call in (protocol.seen, protocol.labels):
        with pytest.raises(ValueError, match="phases 0 to 5"):
            call(phase)


@pytest.mark.parametrize("kind", ["seed1993", "random:1", "natural"])
def test_a_label_is_the_position_in_the_order(kind: str) -> None:
    protocol = make_protocol(100, 50, 10, kind)
    assert protocol.to_label.dtype == torch.int64
    assert protocol.to_label.shape == (100,)
    for label in range(100):
        assert protocol.order.index(label) == int(protocol.to_label[label])
    assert protocol.to_label[torch.tensor(protocol.order)].tolist() == list(range(100))


def test_the_mapping_is_not_the_permutation() -> None:
    # order[c] as the label of c (mammoth) would put other classes into the base phase.
    protocol = make_protocol(100, 50, 10, "seed1993")
    assert int(protocol.to_label[68]) == 0
    assert int(protocol.to_label[0]) != 68
    assert not torch.equal(protocol.to_label, torch.tensor(protocol.order))
    base = {label for label in range(100) if int(protocol.to_label[label]) < 50}
    assert base == set(protocol.order[:50])
    assert base != {label for label in range(100) if protocol.order[label] < 50}


def test_to_label_cannot_be_spoilt() -> None:
    protocol = make_protocol(10, 4, 2, "random:0")
    protocol.to_label.zero_()
    assert sorted(protocol.to_label.tolist()) == list(range(10))
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.base = 6  # type: ignore[misc]
    assert protocol == make_protocol(10, 4, 2, "random:0")
    assert len({protocol, make_protocol(10, 4, 2, "random:0"), make_protocol(10, 4, 2, "random:1")}) == 2


@pytest.mark.parametrize(
    ("base", "step", "fragments"),
    [
        (0, 2, ["base=0", "at least 1 class"]),
        (-3, 2, ["base=-3"]),
        (4, 0, ["step=0", "at least 1 class"]),
        (4, -2, ["step=-2"]),
        (10, 2, ["base=10", "the data set has 10 classes"]),  # 10+0x2: nothing would be added
        (12, 2, ["base=12", "the data set has 10 classes"]),
        (2, 3, ["step=3", "10 classes", "base=2", "leave 8", "expected one of 1, 2, 4, 8"]),
        (4, 7, ["step=7", "leave 6", "expected one of 1, 2, 3, 6"]),
        (9, 2, ["step=2", "leave 1", "expected one of 1"]),
        (4, 2, ["unknown class order 'alphabetical'"]),
    ],
)
def test_bad_settings(base: int, step: int, fragments: list[str]) -> None:
    order = "alphabetical" if (base, step) == (4, 2) else "natural"
    refused(lambda: make_protocol(10, base, step, order), *fragments)


@pytest.mark.parametrize(
    ("order", "base", "step"),
    [((0, 2), 1, 1), ((0, 0, 1), 1, 1), ((), 1, 1), ((0, 1, 2), 0, 1), ((0, 1, 2), 3, 1), ((0, 1, 2), 1, 0)]
    + [((0, 1, 2, 3), 1, 2)],
)
def test_a_protocol_is_consistent_however_it_is_made(order: tuple[int, ...], base: int, step: int) -> None:
    with pytest.raises(ValueError, match="permutation|fit"):
        Protocol(order, base, step)


def test_phases_of_uneven_sizes() -> None:
    """Labels come one after the other; equal sizes in a list are those of a number."""
    protocol = make_protocol(10, 4, [3, 1, 2], "natural")
    assert (protocol.name, protocol.phases, protocol.sizes) == ("4+3,1,2", 3, (4, 3, 1, 2))
    assert [list(protocol.labels(phase)) for phase in range(4)] == [[0, 1, 2, 3], [4, 5, 6], [7], [8, 9]]
    even, listed = make_protocol(10, 4, 2, "natural"), make_protocol(10, 4, [2, 2, 2], "natural")
    assert even.sizes == listed.sizes and even.seen(2) == listed.seen(2) == 8


@pytest.mark.parametrize(
    ("step", "said"), [([3, 1], "add 4 classes"), ([3, 0, 3], "at least 1 class"), ([], "at least")]
)
def test_uneven_phases_that_do_not_fit(step: list[int], said: str) -> None:
    refused(lambda: make_protocol(10, 4, step, "natural"), said)
