"""Parts for a loop of the user's own: the relation loss beside the pair loop, and terms beside the objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import rgal
from rgal.core.seeding import seed_for
from rgal.terms.negatives import BANDS, sample_negatives
from tests.helpers import naive, small
from tests.helpers.api_builders import network, teacher
from tests.helpers.relation_builders import by_pair, close_rows, labels_of


@pytest.mark.parametrize(("polarity", "band"), [("spread", "focal"), ("gather", "distance")])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_relation_loss_is_the_pair_loop(polarity: str, band: str, seed: int) -> None:
    """The band is the polarity's own, the draws are those of the seed."""
    labels, logits = labels_of(11, 3), close_rows(11, 6, seed=1)
    rng = torch.Generator().manual_seed(seed_for("relation loss", polarity, seed))
    drawn = sample_negatives(logits, labels, BANDS[band], rng)

    def slow(*rows: Tensor) -> Tensor:
        return naive.triplet(rows, labels.tolist(), by_pair(drawn), polarity, 0.3)

    def fast(*rows: Tensor) -> Tensor:
        return rgal.RelationLoss(polarity, margin=0.3, seed=seed)(rows, labels, logits)

    small.assert_twins(fast, slow, close_rows(11, 5), close_rows(11, 4, seed=2))


def test_it_takes_maps_as_their_means_and_one_tensor_for_a_list() -> None:
    maps, labels, logits = small.rand(9, 5, 3, 2), labels_of(9, 3), close_rows(9, 4)
    losses = [
        rgal.RelationLoss("gather")(features, labels, logits)
        for features in (maps, [maps], maps.mean((2, 3)))
    ]
    assert losses[0] == losses[1] == losses[2] > 0


def test_it_trains_a_network_in_a_loop_of_ones_own() -> None:
    net, loss = nn.Linear(6, 4), rgal.RelationLoss("gather", "uniform")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    x, labels = close_rows(24, 6), labels_of(24, 3)
    values = []
    for _ in range(40):
        value = loss(net(x), labels, x)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_draws_go_on_and_are_part_of_the_state() -> None:
    arguments = close_rows(15, 5), labels_of(15, 3), close_rows(15, 6, seed=1)
    one = rgal.RelationLoss("spread")
    values = [float(one(*arguments)) for _ in range(4)]
    assert len(set(values)) > 1  # other negatives in every call
    two = rgal.RelationLoss("spread")
    two(*arguments), two(*arguments)
    three = rgal.RelationLoss("spread", seed=9)
    three.load_state_dict(small.reloaded(two.state_dict()))
    assert [float(three(*arguments)) for _ in range(2)] == values[2:]
    assert one.fallback is not None and 0 <= float(one.fallback) <= 1


def test_a_batch_without_a_pair_gives_an_attached_zero() -> None:
    features = close_rows(4, 5).requires_grad_()
    value = rgal.RelationLoss("spread")(features, torch.arange(4), close_rows(4, 6))
    value.backward()
    assert value.item() == 0 and features.grad is not None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"polarity": "spred"}, "did you mean 'spread'"),
        ({"polarity": "spread", "band": "narrow"}, "valid: distance, focal, uniform"),
        ({"polarity": "spread", "low": 1.0, "high": 0.5}, "band of distances is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(rgal.UserError, match=line):
        rgal.RelationLoss(**arguments)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(rgal.UserError, match=r"features \(4, 5\), labels \(3,\)"):
        rgal.RelationLoss("spread")(small.rand(4, 5), torch.arange(3), small.rand(4, 4))


def test_terms_are_one_loss_of_images() -> None:
    """Cross-entropy and total variation, beside the formulas; the images get the gradient, the teacher none."""
    made, images, labels = teacher(), small.rand(5, 1, 8, 8), torch.arange(5) % 4
    loss = rgal.TermLoss(
        made, rgal.terms.inversion.one_hot(2.0), rgal.terms.inversion.total_variation(0.5, "l1")
    )

    def slow(pixels: Tensor) -> Tensor:
        logits = network().double().eval()((pixels - 0.3) / 0.4)
        shown = (pixels - 0.3) / 0.4
        return 2 * naive.cross_entropy(logits, labels) + 0.5 * naive.total_variation_l1(shown)

    small.assert_twins(lambda x: loss(x, labels), slow, images)
    assert set(loss.parts) == {"oh", "tv", "total"} and not list(loss.parameters())
    assert not any(p.grad is not None for p in made.net.parameters())


def test_terms_that_read_a_student_want_one() -> None:
    term, images, labels = rgal.terms.inversion.adversarial(1.0), small.rand(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(rgal.UserError, match="give student="):
        rgal.TermLoss(teacher(), term)
    student = network(seed=2).eval()
    value = rgal.TermLoss(teacher(), term, student=student)(images, labels)
    assert value.item() != 0
    same = rgal.TermLoss(teacher(), term, student=network().eval())(images, labels)
    assert same.item() == pytest.approx(0, abs=1e-6)  # a student that answers as the teacher does
