"""One pass of the model and one of the frozen old one in each step, whatever the terms are."""

from __future__ import annotations

import pytest
from torch import nn

from tests.helpers.necil_builders import SHORT, necil_methods, start


class Counter:
    """How often a net's forward was called, with and without gradient."""

    def __init__(self, net: nn.Module) -> None:
        self.calls: list[bool] = []
        net.register_forward_hook(lambda module, inputs, output: self.calls.append(output.requires_grad))


@pytest.mark.parametrize(
    "name", [f"{name}+rgal" for name in necil_methods() if name not in ("rgal", "fetril", "fecam", "acil")]
)
def test_every_term_shares_the_passes_of_a_step(name: str) -> None:
    going = start(name)
    while going.transfer is None or going.transfer.schedule.steps["student"] == 0:
        going.advance()
    transfer = going.transfer
    old, new = Counter(transfer.problem.teacher), Counter(transfer.student)
    before = transfer.schedule.steps["student"]
    going.advance()
    assert transfer.schedule.steps["student"] == before + 1 < SHORT.student_steps + 1
    # FCS contrasts the images with a second view of them, which takes a pass without gradients.
    assert new.calls == [True] + [False] * name.startswith("fcs")
    # ABD's generator keeps the last images to look at, under the old model's labels: one more pass a phase.
    assert old.calls in ([], [False], [False, False]) and len(old.calls) <= 1 + (
        transfer.recipe.source == "generator"
    )
