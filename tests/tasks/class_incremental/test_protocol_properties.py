"""Class-incremental protocols of any size: every class comes once, and its label says when."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from rgal.core.errors import UserError
from rgal.tasks.class_incremental.protocol import Protocol, make_protocol

ORDERS = st.sampled_from(["natural", "seed1993"]) | st.integers(0, 99).map("random:{}".format)
SIZES = st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)  # base, step, T


def protocol(base: int, step: int, phases: int, order: str) -> Protocol:
    return make_protocol(base + step * phases, base, step, order)


@given(*SIZES, ORDERS)
def test_the_phases_share_out_the_classes(base: int, step: int, phases: int, order: str) -> None:
    made = protocol(base, step, phases, order)
    assert made.phases == phases and made.sizes == (base, *[step] * phases)
    shares = [[made.order[label] for label in made.labels(phase)] for phase in range(phases + 1)]
    assert [len(share) for share in shares] == list(made.sizes)
    assert sorted(sum(shares, [])) == list(range(made.classes))
    assert [made.seen(phase) for phase in range(phases + 1)] == [
        sum(made.sizes[: phase + 1]) for phase in range(phases + 1)
    ]


@given(*SIZES, ORDERS)
def test_a_label_is_the_place_in_the_order(base: int, step: int, phases: int, order: str) -> None:
    made = protocol(base, step, phases, order)
    assert made.to_label[torch.tensor(made.order)].tolist() == list(range(made.classes))
    assert make_protocol(made.classes, base, step, order) == made


@given(classes=st.integers(1, 30), base=st.integers(-2, 32), step=st.integers(-2, 32))
def test_sizes_that_do_not_fit_are_refused_in_one_line(classes: int, base: int, step: int) -> None:
    fits = base >= 1 and step >= 1 and classes > base and (classes - base) % step == 0
    try:
        made = make_protocol(classes, base, step, "natural")
    except UserError as error:
        assert not fits and len(str(error).splitlines()) == 1
    else:
        assert fits and sum(made.sizes) == classes
