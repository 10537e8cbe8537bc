"""What terms observe on inputs of their own: once an input, in the precision of the step, with the graph if asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.seeding import Streams
from rgal.methods.recipe import Recipe
from rgal.synthesis.pixels import Pixels
from rgal.terms.inversion import one_hot
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Objective, Progress, Reads, TermContext
from rgal.terms.own_step import ShownBatch, student_step
from rgal.terms.transfer import distillation
from tests.helpers import small
from tests.helpers.runs import assert_resumes, finish, make_run, shrunk


class Counting(nn.Module):
    """A net that keeps the dtype of its map in every forward pass."""

    layer_names = ("body",)
    head_name = "head"

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.dtypes: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(x)
        self.dtypes.append(maps.dtype)
        return self.head(maps.mean((2, 3)))


def networks() -> dict[str, Counting]:
    nets = {"teacher": Counting(), "student": Counting()}
    nets["teacher"].requires_grad_(False)
    return nets


def asking(*functions: Callable[[Context], Tensor], reads: tuple[Reads, ...] = ()) -> list[LossTerm]:
    return [
        LossTerm(f"t{i}", 1.0, lambda context, function=function: FunctionTerm(function, reads))
        for i, function in enumerate(functions)
    ]


def run(terms: list[LossTerm], nets: dict[str, Counting]) -> tuple[Tensor, dict[str, Tensor], Context]:
    images = small.rand(2, *small.COLOUR.shape)
    objective = Objective(terms, TermContext(small.COLOUR, nets), no_grad={"teacher"})
    targets = torch.zeros(2, dtype=torch.int64)
    return objective(images, targets, {"global": images}, Streams("cpu", 0), Progress())


def test_the_same_input_is_forwarded_once_for_all_terms() -> None:
    nets, other = networks(), small.rand(2, *small.COLOUR.shape, seed=3)

    def logits(ctx: Context) -> Tensor:
        return ctx.observe("student", other).logits.sum()

    def again(ctx: Context) -> Tensor:
        return (
            ctx.observe("student", other).logits.sum()
            + ctx.observe("student", ctx.views["global"]).logits.sum()
        )

    _, parts, _ = run(asking(logits, again, reads=(Reads("student"),)), nets)
    assert len(nets["student"].dtypes) == 2  # the view, and the other input
    assert parts["further_passes"].item() == 1


def test_who_asks_for_more_gets_another_pass() -> None:
    nets, other = networks(), small.rand(2, *small.COLOUR.shape, seed=3)

    def logits(ctx: Context) -> Tensor:
        return ctx.observe("student", other).logits.sum()

    def layers(ctx: Context) -> Tensor:
        (layer,) = ctx.observe("student", other, ["layers"]).layers
        return layer.sum() + ctx.observe("student", other).logits.sum()

    _, parts, _ = run(asking(logits, layers), nets)
    assert len(nets["student"].dtypes) == 2 == parts["further_passes"].item()


def test_what_is_observed_equals_a_forward_pass_by_hand() -> None:
    nets, other = networks(), small.rand(2, *small.COLOUR.shape, seed=3)
    total, _, _ = run(asking(lambda ctx: ctx.observe("student", other).logits.square().sum()), nets)
    assert torch.equal(total, nets["student"](other).square().sum())


def test_a_pass_without_gradient_is_not_handed_to_a_term_that_needs_one() -> None:
    nets, other = networks(), small.rand(2, *small.COLOUR.shape, seed=3)

    def constant(ctx: Context) -> Tensor:
        with torch.no_grad():
            return ctx.observe("student", other).logits.sum()

    def trained(ctx: Context) -> Tensor:
        return ctx.observe("student", other).logits.square().sum()

    total, parts, _ = run(asking(constant, trained), nets)
    total.backward()
    assert nets["student"].body.weight.grad is not None and parts["further_passes"].item() == 2


def test_a_step_without_further_passes_logs_none() -> None:
    nets = networks()
    _, parts, _ = run(asking(lambda ctx: ctx.of("student").logits.sum(), reads=(Reads("student"),)), nets)
    assert set(parts) == {"t0", "total"} and len(nets["student"].dtypes) == 1


def test_further_passes_have_the_precision_of_the_step_and_losses_float32() -> None:
    nets, other = networks(), small.rand(2, *small.COLOUR.shape, seed=3)
    kinds = []

    def loss(ctx: Context) -> Tensor:
        logits = ctx.observe("student", other).logits
        kinds.append(logits.dtype)
        return (logits @ logits.T).sum()

    with torch.autocast("cpu", torch.bfloat16):
        total, _, _ = run(asking(loss), nets)
    assert nets["student"].dtypes == [torch.bfloat16]
    assert kinds == [torch.float32] and total.dtype == torch.float32


@pytest.mark.parametrize("graph", [False, True])
def test_gradients_reach_an_input_through_a_frozen_network_if_asked(graph: bool) -> None:
    nets = networks()

    def loss(ctx: Context) -> Tensor:
        x = small.rand(2, *small.COLOUR.shape, seed=3).requires_grad_()
        logits = ctx.observe("teacher", x, graph=graph).logits
        assert logits.requires_grad == graph
        if graph:
            (gradient,) = torch.autograd.grad(logits.sum(), x)
            (expected,) = torch.autograd.grad(nets["teacher"](x).sum(), x)
            assert torch.equal(gradient, expected)
        return logits.detach().sum()

    run(asking(loss), nets)
    assert all(p.grad is None for p in nets["teacher"].parameters())


def test_a_view_with_graph_shows_its_gradient_and_is_shared() -> None:
    nets = networks()

    def loss(ctx: Context) -> Tensor:
        x, teacher = ctx.views["global"], ctx.of("teacher", graph=True)
        difference = (ctx.of("student").logits - teacher.logits).square().sum()
        (gradient,) = torch.autograd.grad(difference, x, retain_graph=True)
        assert gradient.abs().sum() > 0 and teacher.layers[0].requires_grad
        constant = ctx.of("teacher")  # what terms without graph read costs no way back through the teacher
        assert torch.equal(constant.logits, teacher.logits) and not constant.logits.requires_grad
        assert not constant.layers[0].requires_grad
        return difference

    reads = (Reads("teacher", "layers", graph=True), Reads("student"))
    total, _, _ = run(asking(loss, loss, reads=reads), nets)
    total.backward()
    assert [len(net.dtypes) for net in nets.values()] == [1, 1]
    assert all(p.grad is None for p in nets["teacher"].parameters())


def test_what_a_term_asks_for_is_checked_at_the_start() -> None:
    nets = networks()
    nets["student"].layer_names = ()
    with pytest.raises(UserError, match="term 'step' reads the student's layers, but it has none"):
        Objective([student_step(squares, Reads("student", "layers"))], TermContext(small.COLOUR, nets))


def test_a_context_by_hand_has_no_networks() -> None:
    with pytest.raises(ValueError, match="no networks"):
        small.context().observe("teacher", torch.zeros(1))


# A student step of a method's own -------------------------------------------------------------------------------


def squares(batch: ShownBatch, ctx: Context) -> Tensor:
    """Distance of the logits on the batch and on a noisy copy of it."""
    noise = torch.randn(batch.inputs.shape, generator=ctx.streams.get("my noise"))
    teacher = ctx.observe("teacher", batch.inputs).logits
    noisy = ctx.observe("student", batch.inputs + 0.1 * noise).logits
    return (ctx.observe("student", batch.inputs).logits - teacher).square().mean() + noisy.square().mean()


def test_a_step_of_its_own_trains_and_goes_on_bit_for_bit() -> None:
    """Alone, and beside a term that reads the same view: the student is forwarded once for both."""
    recipe = shrunk(
        Recipe(images=Pixels(), synthesis=(one_hot(1.0),), transfer=(student_step(squares), distillation()))
    )
    expected = assert_resumes(recipe, (4, 5, 9))
    rows = [row for row in expected.rows if row["kind"] == "student"]
    assert {"step", "kd", "further_passes"} <= set(rows[0]) and rows[0]["further_passes"] == 1
    alone = shrunk(Recipe(images=Pixels(), synthesis=(one_hot(1.0),), transfer=(student_step(squares),)))
    rows = [row for row in finish(make_run(alone)).rows if row["kind"] == "student"]
    assert rows[0]["further_passes"] == 3
