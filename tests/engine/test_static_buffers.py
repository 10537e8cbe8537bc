"""Inside a round, a step writes into the tensors that it found: what a captured graph would replay on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.engine.run import TransferRun
from rgal.terms.contrastive import Contrastive
from rgal.terms.intra_class import MarginalDistance
from tests.helpers.runs import make_run, named

METHODS = ("plain", "rgal", "cmi[bank=16]", "deepinversion", "adaptive_deepinversion", "nayer", "cmi+rgal")


def within(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dictionaries, lists and modules, by where they stand."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from (*value.named_parameters(f"{name} "), *value.named_buffers(f"{name} "))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from within(f"{name} {key if isinstance(key, str) else ''}", part)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from within(f"{name} {place}", part)


def held(run: TransferRun) -> dict[str, int]:
    """Where in memory everything lies that a step leaves for the next one."""
    inversion = run.inversion
    assert inversion is not None
    parts: dict[str, Any] = {
        "best": inversion.best,
        "least loss": inversion.best_loss,
        "targets": inversion.targets,
        "images": inversion.images.parameters(),
        "moments of images": list(inversion.images.optimiser.state.values()),
        "terms": [inversion.objective, run.loop.objective],
        "moments of terms": list(inversion.term_optimiser.state.values()) if inversion.term_optimiser else [],
        "student": run.student,
        "moments of the student": list(run.loop.optimiser.state.values()),
        "sums": [inversion.meter._sums, run.loop.meter._sums],
        "features": [
            term.kept_features
            for term in inversion.objective.terms.values()
            if isinstance(term, Contrastive | MarginalDistance)
        ],
    }
    return {name: tensor.data_ptr() for name, tensor in within("", parts)}


def step(run: TransferRun, kind: str) -> None:
    """Go on until a step of this kind is done."""
    while run.mode != kind or run.schedule.due() != kind:
        run.advance()
    run.advance()


@pytest.mark.parametrize("kind", ["synthesis", "student"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_writes_into_what_it_found(method: str, kind: str) -> None:
    """From the second step of a kind in a round on; the first makes moments and sums."""
    run = make_run(named(method))
    step(run, kind)
    before = held(run)
    values = {name: tensor.clone() for name, tensor in within("", run.state_dict())}
    step(run, kind)
    after = held(run)
    assert after == before
    changed = [name for name, tensor in within("", run.state_dict()) if not torch.equal(values[name], tensor)]
    assert any(("loop" if kind == "student" else "inversion") in name for name in changed), (
        "the step did nothing"
    )


@pytest.mark.parametrize("method", ["cmi[bank=16]", "deepinversion"])
def test_a_stored_state_does_not_follow_the_next_step(method: str) -> None:
    """Since steps write in place, what was stored must be a copy."""
    run = make_run(named(method))
    step(run, "synthesis")
    assert run.inversion is not None
    stored = {key: run.inversion.state_dict()[key] for key in ("best", "best_loss", "meter")}
    copies = {name: tensor.clone() for name, tensor in within("", stored)}
    step(run, "synthesis")
    assert all(torch.equal(copies[name], tensor) for name, tensor in within("", stored))
