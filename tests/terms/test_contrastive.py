"""CMI's contrastive term: the loss against a double loop, and the memory bank as a ring."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.observe import Observation, batch_norms
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.terms.contrastive import Contrastive, contrastive, contrastive_loss
from rgal.terms.objective import Context, TermContext
from tests.helpers import naive, small

TRUE, FALSE = torch.tensor(True), torch.tensor(False)


def unit_rows(n: int, dimension: int, seed: int) -> Tensor:
    return F.normalize(small.randn(n, dimension, seed=seed), dim=1)


# The loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("memory", [0, 1, 5])
def test_the_loss_equals_the_double_loop(memory: int, temperature: float) -> None:
    rows = 6 + memory
    small.assert_twins(
        lambda a, b: contrastive_loss(a, b, 6, temperature),
        lambda a, b: naive.contrastive(a, b, 6, temperature),
        unit_rows(rows, 8, 0),
        unit_rows(rows, 8, 1),
    )


def test_the_anchor_side_is_constant() -> None:
    local, anchor = (unit_rows(5, 4, seed).requires_grad_() for seed in (0, 1))
    contrastive_loss(local, anchor, 5, 0.1).backward()
    assert anchor.grad is None and local.grad.abs().max() > 0


def test_the_loss_is_lowest_for_equal_views() -> None:
    anchor = unit_rows(6, 16, 0)
    losses = [contrastive_loss(x, anchor, 6, 0.1).item() for x in (anchor, unit_rows(6, 16, 1), -anchor)]
    assert losses == sorted(losses)


# The term -------------------------------------------------------------------------------------------------------


def make_term(problem: Problem, bank: int = 16, sampled: int = 8, seed: int = 0) -> Contrastive:
    context = TermContext(problem.domain, {"teacher": problem.teacher}, seed)
    term = contrastive(0.8, temperature=0.1, bank=bank, sampled=sampled, width=12).build(context)
    assert isinstance(term, Contrastive)
    return term


def width(term: Contrastive) -> int:
    return term.bank.shape[1] // 2


def views(local: Tensor, anchor: Tensor, streams: Streams | None = None) -> Context:
    ctx = small.context(streams=streams)
    ctx.observations["teacher", "local"] = Observation(local, bn_pooled=local)
    ctx.observations["teacher", "global"] = Observation(anchor, bn_pooled=anchor)
    return ctx


def some_views(term: Contrastive, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return small.randn(n, width(term), seed=seed), small.randn(n, width(term), seed=seed + 1000)


def play_round(term: Contrastive, n: int, seed: int) -> Tensor:
    """One step that is kept, and the end of the round. Returns the rows that the bank should now hold."""
    local, anchor = some_views(term, n, seed)
    term.kept(views(local, anchor), TRUE)
    term.end_round()
    return torch.cat([local, anchor], dim=1)


def test_the_feature_is_every_batch_norm_inputs_spatial_mean(problem: Problem) -> None:
    term = make_term(problem)
    assert width(term) == sum(layer.num_features for layer in batch_norms(problem.teacher))
    reads = {(need.net, need.what, need.view) for need in term.reads}
    assert reads == {("teacher", "bn_pooled", "global"), ("teacher", "bn_pooled", "local")}


def test_the_term_with_an_empty_bank_is_the_loss_of_the_projections(problem: Problem) -> None:
    term = make_term(problem)
    local, anchor = some_views(term, 5)
    heads = [F.normalize(term.head(x), dim=1).double() for x in (local, anchor)]
    expected = naive.contrastive(*heads, 5, 0.1).item()
    assert term(views(local, anchor)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 3, 4, 6, 8])
def test_the_term_with_a_bank_adds_sampled_memories(problem: Problem, rounds: int) -> None:
    """Four rounds end on the boundary of the ring, eight on the next: all of it takes part."""
    term = make_term(problem, bank=16, sampled=8)
    for number in range(rounds):
        play_round(term, 4, number)
    filled, generator = min(16, 4 * rounds), Streams("cpu", 1).get("contrastive memory")
    rows = torch.randperm(filled, generator=generator)[:8]
    memory_local, memory_anchor = term.bank[rows].split(width(term), dim=1)
    local, anchor = some_views(term, 4, 99)
    sides = [torch.cat(pair) for pair in ((local, memory_local), (anchor, memory_anchor))]
    heads = [F.normalize(term.head(x), dim=1).double() for x in sides]
    expected = naive.contrastive(*heads, 4, 0.1).item()
    assert term(views(local, anchor, Streams("cpu", 1))).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("rounds", "sampled"), [(2, 8), (4, 16), (4, 5)])
def test_memories_are_drawn_without_replacement(problem: Problem, rounds: int, sampled: int) -> None:
    """While the bank holds no more than is drawn, every earlier image takes part once."""
    term, inputs = make_term(problem, bank=16, sampled=sampled), []
    for number in range(rounds):
        play_round(term, 4, number)
    term.head.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    term(views(*some_views(term, 4, 99)))
    drawn = inputs[0].chunk(2)[0][4:]
    assert len(drawn) == min(sampled, 4 * rounds) == len(drawn.unique(dim=0))
    assert all((term.bank[:, : width(term)] == row).all(1).any() for row in drawn)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_four_residual_stages_are_read_at_their_inputs(name: str) -> None:
    """As CMI's driver reads ResNet-34: 64 + 64 + 128 + 256 numbers an image instead of 8,512."""
    net = nets.build(name, small.COLOUR.classes, 3, small.COLOUR.shape[1:])
    term = make_term(Problem(net, small.COLOUR))
    assert width(term) == 512 and term.head[0].in_features == 512
    assert {(read.what, read.view) for read in term.reads} == {
        ("layer_inputs", "global"),
        ("layer_inputs", "local"),
    }


@pytest.mark.parametrize(("name", "channels"), [("wrn40_2", 2704), ("vgg11", 2752), ("resnet8", 336)])
def test_other_teachers_are_read_at_all_batch_norms(name: str, channels: int) -> None:
    net = nets.build(name, small.COLOUR.classes, 3, small.COLOUR.shape[1:])
    term = make_term(Problem(net, small.COLOUR))
    assert width(term) == channels and {read.what for read in term.reads} == {"bn_pooled"}


def test_memories_are_drawn_among_the_filled_rows_only(problem: Problem) -> None:
    term = make_term(problem, bank=1000, sampled=500)
    play_round(term, 3, 1)
    term.bank[3:] = float("nan")
    assert torch.isfinite(term(views(*some_views(term, 4, 2))))


def test_gradients_reach_the_local_view_and_the_head_only(problem: Problem) -> None:
    term = make_term(problem)
    play_round(term, 5, 1)
    local, anchor = (x.requires_grad_() for x in some_views(term, 4, 2))
    term(views(local, anchor)).backward()
    assert local.grad.abs().max() > 0 and not anchor.grad.any()
    assert all(p.grad is not None for p in term.head.parameters())
    assert not term.bank.requires_grad
    assert all(p.grad is None for p in problem.teacher.parameters())


def test_the_head_depends_on_the_seed_alone(problem: Problem) -> None:
    torch.manual_seed(1)
    first = make_term(problem).head[0].weight
    torch.manual_seed(2)
    assert torch.equal(first, make_term(problem).head[0].weight)
    assert not torch.equal(first, make_term(problem, seed=1).head[0].weight)


def test_a_teacher_without_batch_norm_is_refused() -> None:
    with pytest.raises(UserError, match="no BatchNorm2d") as caught:
        contrastive(0.8).build(TermContext(small.COLOUR, {"teacher": nn.Conv2d(3, 4, 3)}))
    assert "\n" not in str(caught.value)


# The bank -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 4, 8, 16], ids=lambda n: f"{n} a round")
def test_the_bank_is_a_ring_of_the_newest_features(problem: Problem, batch: int) -> None:
    """Also where a round ends exactly on the boundary, after which the published code sees an empty bank."""
    term, capacity = make_term(problem, bank=16), 16
    history = torch.empty(0, 2 * width(term))
    for number in range(9):
        history = torch.cat([history, play_round(term, batch, number)])
        newest = history[-capacity:]
        oldest = len(history) - len(newest)
        for age, row in enumerate(newest):
            assert torch.equal(term.bank[(oldest + age) % capacity], row)
        assert torch.isfinite(term(views(*some_views(term, 4, 100))))


@pytest.mark.parametrize("batch", [17, 24, 40])
def test_a_batch_beyond_the_bank_leaves_its_last_rows(problem: Problem, batch: int) -> None:
    term = make_term(problem, bank=16)
    play_round(term, 5, 0)
    for number in (1, 2):
        rows = play_round(term, batch, number)
        assert_rows_are(term.bank, rows[-16:])


def assert_rows_are(bank: Tensor, rows: Tensor) -> None:
    """The same rows in any order."""
    assert len(bank) == len(rows)
    assert all((bank == row).all(1).any() for row in rows)


def test_the_bank_remembers_the_features_of_the_best_step(problem: Problem) -> None:
    term = make_term(problem)
    steps = [some_views(term, 4, seed) for seed in range(4)]
    for (local, anchor), better in zip(steps, (TRUE, FALSE, TRUE, FALSE), strict=True):
        term.kept(views(local, anchor), better)
    term.end_round()
    assert torch.equal(term.bank[:4], torch.cat(steps[2], dim=1))


def test_the_kept_features_do_not_alias_the_live_ones(problem: Problem) -> None:
    term = make_term(problem)
    local, anchor = some_views(term, 4)
    expected = torch.cat([local, anchor], dim=1)
    term.kept(views(local, anchor), TRUE)
    local.zero_()
    assert torch.equal(term.kept_features, expected)


def test_a_round_without_kept_features_writes_nothing(problem: Problem) -> None:
    term = make_term(problem)
    term.end_round()
    assert term.written == 0 and torch.equal(term.bank, torch.zeros_like(term.bank))


@pytest.mark.parametrize("rounds", [0, 2, 5])
def test_the_state_makes_a_round_trip(problem: Problem, rounds: int) -> None:
    term = make_term(problem, bank=16)
    for number in range(rounds):
        play_round(term, 5, number)
    term.kept(views(*some_views(term, 5, 50)), TRUE)  # in the middle of a round
    state = small.reloaded(term.state_dict())
    assert len(state["_extra_state"]["bank"]) == min(16, 5 * rounds)
    again = make_term(problem, bank=16, seed=9)
    again.load_state_dict(state)
    for one in (term, again):
        one.kept(views(*some_views(one, 5, 51)), FALSE)
        one.end_round()
    assert torch.equal(term.bank, again.bank) and term.written == again.written
    now = (
        views(*some_views(term, 4, 52), Streams("cpu", 2)),
        views(*some_views(term, 4, 52), Streams("cpu", 2)),
    )
    assert torch.equal(term(now[0]), again(now[1]))


def test_a_stored_state_does_not_follow_the_live_bank(problem: Problem) -> None:
    term = make_term(problem, bank=16)
    rows = play_round(term, 5, 0)
    state = term.state_dict()["_extra_state"]
    for number in range(1, 5):
        play_round(term, 5, number)
    assert torch.equal(state["bank"], rows)
