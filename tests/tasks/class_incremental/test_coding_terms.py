"""NAPA-VQ's coding vectors against loops: the graph of neighbours, the margin, mixtures of means, the test's angle."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import Observation
from rgal.core.seeding import Streams
from rgal.tasks.class_incremental import coding_terms
from rgal.tasks.class_incremental.coding_terms import CodingVectors, followed, near, neighbour_margin_loss
from rgal.tasks.class_incremental.groups import IncrementalTermData
from rgal.tasks.class_incremental.head import NearestRow, growing_head
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.terms.objective import TermContext
from tests.helpers import naive, small
from tests.helpers.two_phase_builders import STILL, Tiny, step_context, two_phases

OLD, WIDTH, T = 3, 5, 0.1


def looped_graph(graph: Tensor, distances: Tensor, nearest: int) -> Tensor:
    size = len(graph)
    a, h = [0] * size, [[0] * size for _ in range(size)]
    for row in distances.tolist():
        order = sorted(range(size), key=lambda j: row[j])
        a[order[0]] += 1
        for j in order[:nearest]:
            h[order[0]][j] += 1
    found = graph.double().clone()
    for i in range(size):
        for j in range(size):
            edge = max(float(graph[i, j]), float(h[i][j] > 0)) * 0.9 ** max(0, a[i] - h[i][j])
            found[i, j] = 0 if edge < 0.9**10 - 1e-9 else edge
    return found


def looped_margin(distances: Tensor, labels: Tensor, graph: Tensor) -> Tensor:
    total = 0.0 * distances.sum()
    for d, y in zip(distances, labels.tolist(), strict=True):
        others = [j for j in range(len(graph)) if j != y and graph[y, j] > 0]
        powers = [math.exp(-0.001 * float(d[j].detach()) ** 2) for j in others]
        mixed = sum(p / sum(powers) * d[j] ** 2 for p, j in zip(powers, others, strict=True))
        total = total + (d[y] ** 2 - mixed).clamp_min(0)
    return total / len(labels)


def test_by_hand() -> None:
    """Class 0 has no neighbour yet, as no image is nearest to it: 8; class 1: 7.009."""
    v, x = torch.tensor([[0.0, 0], [2, 0], [0, 3]]), torch.tensor([[2.0, 2], [0, 2.5]])
    distances = torch.cdist(x, v)
    graph = followed(torch.eye(3), distances)
    assert graph.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert neighbour_margin_loss(distances, torch.tensor([0, 1]), graph).item() == pytest.approx(
        7.5045, abs=1e-4
    )


def test_the_graph_and_the_margin_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding_terms, "NEAREST", 3)
    graph = torch.eye(6)
    for seed in range(5):  # edges fade, and some are dropped
        distances = small.rand(20, 6, seed=seed) + torch.linspace(0, 0.4, 6)
        wanted = looped_graph(graph, distances, 3)
        graph = followed(graph, distances)
        torch.testing.assert_close(graph.double(), wanted, rtol=1e-5, atol=1e-7)
    assert 0 < (graph > 0).sum() < 36 and bool(((graph > 0) & (graph < 1)).any())
    labels = torch.tensor([0, 5, 2, 3, 3, 1, 4])
    small.assert_twins(
        lambda d: neighbour_margin_loss(d, labels, graph),
        lambda d: looped_margin(d, labels, graph),
        1 + small.rand(7, 6, seed=9),
    )


@pytest.mark.parametrize("old", [False, True])
def test_a_step(old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding_terms, "NEAREST", 4)
    nets = two_phases(OLD, 2, 4, WIDTH)
    kept = ClassStatistics(means=2 * small.rand(OLD, WIDTH, seed=1)) if old else ClassStatistics()
    term = CodingVectors(TermContext(STILL, nets, 0, IncrementalTermData(kept)), 6, 10.0, T)
    v = growing_head(nets["student"]).weight().detach()
    start = torch.eye(20)
    if old:
        order = torch.cdist(v[:12], v[:12]).argsort(1)
        for i in range(12):
            for j in order[i, :4].tolist():
                start[i, j] = start[j, i] = 1
    assert torch.equal(term.graph, start)
    f, labels = small.rand(8, WIDTH, seed=2).requires_grad_(), torch.tensor([12, 13, 14, 15, 16, 17, 18, 19])
    found = term(step_context(nets, f, f.detach(), labels, 8))
    distances = (f.detach()[:, None] - v[None]).double().norm(dim=2)
    graph = looped_graph(start, distances, 4)
    wanted = naive.cross_entropy(-distances / T, labels) + looped_margin(distances, labels, graph)
    if old:
        rng = Streams("cpu", "step").get("coding draws")
        c = torch.randint(0, OLD, (6,), generator=rng)
        choices = torch.stack([(graph[4 * i, :12:4] > 0).float() for i in c.tolist()])
        j = torch.multinomial(choices, 1, generator=rng)[:, 0]
        a = 0.5 + 0.5 * torch.rand(6, 1, generator=rng)
        z = a * kept.means[c] + (1 - a) * kept.means[j]
        away = (z[:, None] - v[None]).double().norm(dim=2)
        wanted = wanted + 10 * naive.cross_entropy(-away / T, 4 * c) + looped_margin(away, 4 * c, graph)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    torch.testing.assert_close(term.graph.double(), torch.maximum(graph, graph.T), rtol=1e-5, atol=1e-7)
    found.backward()
    assert f.grad.abs().max() > 0 and growing_head(nets["student"]).parts[1].weight.grad.abs().max() > 0


def test_every_vector_is_near_where_there_are_few() -> None:
    assert torch.equal(near(small.rand(3, 15)), torch.ones(3, 15))
    assert near(small.rand(3, 16)).sum(1).tolist() == [15, 15, 15]


def test_the_test_names_the_class_whose_upright_vector_has_the_least_angle() -> None:
    net: nn.Module = two_phases(OLD, 2, 4, WIDTH)["student"].eval()
    images = small.rand(9, *STILL.shape)
    rows = growing_head(net).weight().detach()
    features = net.feature(images).detach()  # type: ignore[operator]
    wanted = [
        max(range(OLD + 2), key=lambda c: float(F.cosine_similarity(f, rows[4 * c], dim=0))) for f in features
    ]
    assert NearestRow(net, 4)(images).argmax(1).tolist() == wanted


def test_the_first_phase_has_a_linear_classifier_and_keeps_it() -> None:
    net = Tiny(4 * OLD, WIDTH).eval()
    keys = list(net.state_dict())
    assert NearestRow(net, 4)(small.rand(2, *STILL.shape)).shape == (2, OLD)
    term = CodingVectors(TermContext(STILL, {"student": net}), 6, 10.0, T)
    f, labels = small.rand(8, WIDTH, seed=2), torch.arange(8)
    found = term(small.context(STILL, targets=labels, student=Observation(net.fc(f), f)))
    distances = (f[:, None] - net.fc.weight[None]).detach().double().norm(dim=2)
    graph = looped_graph(torch.eye(4 * OLD), distances, 15)
    wanted = naive.cross_entropy(-distances / T, labels) + looped_margin(distances, labels, graph)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4) and list(net.state_dict()) == keys
