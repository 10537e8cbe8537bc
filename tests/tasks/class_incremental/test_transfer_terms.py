"""FCS's terms: the layer that carries old features over, and contrast against old classes, against loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.optimiser import SGD
from rgal.core.seeding import Streams
from rgal.engine.batches import StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.tasks.class_incremental.groups import IncrementalAugmentation, IncrementalTermData, grouped
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.tasks.class_incremental.transfer_terms import (
    TransferredPrototypes,
    supervised_contrast,
    supervised_contrast_loss,
)
from rgal.terms.objective import TermContext
from tests.helpers import naive, small
from tests.helpers.two_phase_builders import STILL, step_context, two_phases

OLD, WIDTH = 4, 5


def looped(similarities: Tensor, positives: list[list[int]]) -> Tensor:
    """positives: the columns of each row, one as often as it counts."""
    total = 0.0 * similarities.sum()
    for row, columns in zip(similarities, positives, strict=True):
        others = sum(torch.exp(s) for j, s in enumerate(row) if j not in columns)
        total = total + sum(torch.log(1 + torch.exp(-row[p]) * others) for p in columns) / len(columns)
    return total / len(similarities)


def weights(positives: list[list[int]], columns: int) -> Tensor:
    found = torch.zeros(len(positives), columns)
    for i, row in enumerate(positives):
        for p in row:
            found[i, p] += 1
    return found


def test_contrast_by_hand_and_by_loops() -> None:
    s = torch.tensor([[1, 0.5, -0.5, 0], [0.8, -0.2, 0.6, 0.1]])
    which = [[0, 1], [0, 2]]
    assert supervised_contrast_loss(s, weights(which, 4)).item() == pytest.approx(0.62208, abs=2e-5)
    twice = [[0, 0, 1], [1, 1, 2], [3, 3]]  # an image's own key counts twice
    small.assert_twins(
        lambda x: supervised_contrast_loss(x, weights(twice, 6)),
        lambda x: looped(x, twice),
        3 * small.randn(3, 6),
    )


def test_the_layer_starts_as_the_identity_and_prototypes_go_through_it() -> None:
    nets = two_phases(OLD, 2, 1, WIDTH)
    kept = ClassStatistics(2 * small.rand(OLD, WIDTH, seed=1), radius=torch.tensor(0.3))
    term = TransferredPrototypes(TermContext(STILL, nets, 0, IncrementalTermData(kept)), 6, 10.0, 0.1)
    assert torch.equal(term.layer.weight, torch.eye(WIDTH)) and term.layer.bias.abs().max() == 0
    with torch.no_grad():
        term.layer.weight.add_(0.2 * small.randn(WIDTH, WIDTH))
        term.layer.bias.fill_(0.1)
    f, g = small.randn(3, WIDTH), small.randn(3, WIDTH, seed=2)
    ctx = step_context(nets, f.requires_grad_(), g, torch.tensor([4, 5, 4]), 3)
    found = term(ctx)
    rng = Streams("cpu", "step").get("transfer draws")
    classes = torch.randint(0, OLD, (6,), generator=rng)
    z = kept.means[classes] + 0.3 * torch.randn(6, WIDTH, generator=rng)
    moved = [sum((a - term.layer(b)) ** 2).sqrt() for a, b in zip(f, g, strict=True)]
    logits = growing_head(nets["student"])(term.layer(z)).double() / 0.1
    expected = sum(moved) / 3 + 10 * naive.cross_entropy(logits, classes)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    wanted = torch.autograd.grad(sum(moved) / 3, term.layer.weight)[0]  # none by the prototypes
    torch.testing.assert_close(term.layer.weight.grad, wanted)
    assert growing_head(nets["student"]).parts[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("old", [False, True])
def test_a_step_contrasts_two_views_and_old_means(old: bool) -> None:
    """Of still images without crops' draws the loop can be made by hand: the second view is drawn from its stream."""
    from rgal.tasks.class_incremental.transfer_terms import SECOND_VIEW

    nets = two_phases(OLD, 2, 1, WIDTH)
    nets["student"].eval()
    kept = (
        ClassStatistics(2 * small.rand(OLD, WIDTH, seed=1), radius=torch.tensor(0.3))
        if old
        else ClassStatistics()
    )
    spec = StudentSpec(
        (supervised_contrast(1.0, draws=3),), SGD(0.0, 0.0, "constant"), 1, IncrementalAugmentation(),
        IncrementalTermData(kept),
    )  # fmt: skip
    loop = StudentLoop(nets, STILL, spec, Streams("cpu", "contrast"))
    images, labels = small.rand(5, *STILL.shape), torch.tensor([4, 5, 4, 5, 5])
    loop.step(StudentBatch(images, labels, grouped(5, 5)))
    found = loop.meter.peek("total")
    streams = Streams("cpu", "contrast")
    second = SECOND_VIEW(images, STILL, streams.get("contrast view"))
    with torch.no_grad():
        queries, keys = (nets["student"].feature(STILL.normalise(x)) for x in (images, second))
    if old:
        rng = streams.get("contrast draws")
        classes = torch.randint(0, OLD, (3,), generator=rng)
        keys = torch.cat([keys, kept.means[classes] + 0.3 * torch.randn(3, WIDTH, generator=rng)])
    similarities = F.normalize(queries.double(), dim=1) @ F.normalize(keys.double(), dim=1).T / 0.07
    positives = [[j for j in range(5) if labels[i] == labels[j]] + [i] for i in range(5)]
    assert found is not None and math.isfinite(found)
    assert found == pytest.approx(looped(similarities, positives).item(), rel=1e-4)
