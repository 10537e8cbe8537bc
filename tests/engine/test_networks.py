"""Further networks of a method: a copy that follows, one that stays, one that is trained; stored and resumed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.networks import FurtherNetworks
from rgal.engine.run import TransferRun
from rgal.methods.networks import Fixed, Following, FurtherNetwork, Trained
from rgal.methods.recipe import Recipe
from rgal.nets.following import follow
from rgal.synthesis.image_source import Adam
from rgal.terms.inversion import kl_div
from rgal.terms.objective import Context, Reads, TermContext, stateless
from rgal.terms.transfer import distillation
from tests.helpers import small
from tests.helpers.runs import ROUNDS, assert_resumes, finish, make_run, named, shared_problem


def agrees(ctx: Context) -> Tensor:
    return kl_div(ctx.of("student").logits, ctx.of("slow").logits)


def unlike(ctx: Context) -> Tensor:
    return ctx.of("critic").logits.square().mean() + ctx.of("second").logits.mean() * 1e-3


def told_apart(ctx: Context) -> Tensor:
    return F.cross_entropy(ctx.of("critic").logits, ctx.targets) + 0 * ctx.of("student").logits.sum()


def second_teacher(context: TermContext) -> nn.Module:
    net = copy.deepcopy(context.nets["teacher"])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return net


def critic(context: TermContext) -> nn.Module:
    width = context.domain.shape[0] * context.domain.shape[1] * context.domain.shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(width, context.domain.classes), nn.Dropout(0.2))


NETWORKS: dict[str, FurtherNetwork] = {
    "slow": Following(0.5),
    "second": Fixed(second_teacher),
    "critic": Trained(
        critic,
        (stateless("apart", 1.0, told_apart, Reads("critic"), Reads("student")),),
        "synthesis",
        Adam(0.01),
    ),
}


def recipe(**changes: object) -> Recipe:
    plain = named("plain")
    transfer = (distillation(), stateless("slow", 0.5, agrees, Reads("student"), Reads("slow")))
    synthesis = (*plain.synthesis, stateless("unlike", 0.1, unlike, Reads("critic"), Reads("second")))
    return replace(plain, transfer=transfer, synthesis=synthesis, networks=NETWORKS, **changes)  # type: ignore[arg-type]


def test_a_stopped_run_with_further_networks_goes_on_bit_for_bit() -> None:
    outcome = assert_resumes(recipe(), (1, 3, 5, 6, 9))
    synthesis = [row for row in outcome.rows if row["kind"] == "synthesis"]
    assert synthesis and all("critic_apart" in row for row in synthesis)


def test_a_trained_network_learns_in_its_own_steps_alone() -> None:
    transfer = make_run(recipe(rounds=replace(ROUNDS, count=1)))
    before = {name: small.snapshot(net) for name, net in transfer.further.nets.items()}
    student = small.snapshot(transfer.student)
    for _ in range(1 + ROUNDS.synthesis_steps):
        transfer.advance()
    small.assert_same(before["second"], small.snapshot(transfer.further.nets["second"]))
    small.assert_same(student, small.snapshot(transfer.student))  # which its loss read, statistics included
    assert not torch.equal(before["critic"]["1.weight"], transfer.further.nets["critic"][1].weight)  # type: ignore[index]
    assert all(p.grad is None for p in transfer.student.parameters())
    assert transfer.further.steps["critic"] == ROUNDS.synthesis_steps
    trained = small.snapshot(transfer.further.nets["critic"])
    finish(transfer)
    small.assert_same(trained, small.snapshot(transfer.further.nets["critic"]))


def test_a_copy_follows_by_the_formula() -> None:
    transfer = make_run(recipe(rounds=replace(ROUNDS, count=1)))
    expected = {name: value.double() for name, value in small.snapshot(transfer.student).items()}
    train = transfer.loop.step

    def step(*arguments: object) -> object:
        told = train(*arguments)  # type: ignore[arg-type]
        for name, value in transfer.student.state_dict().items():
            floats = value.is_floating_point()
            expected[name] = 0.5 * expected[name] + 0.5 * value.double() if floats else value
        return told

    transfer.loop.step = step  # type: ignore[method-assign, assignment]
    finish(transfer)
    for name, value in transfer.further.nets["slow"].state_dict().items():
        torch.testing.assert_close(value.double(), expected[name].double(), atol=1e-5, rtol=1e-5)


def test_momentum_zero_is_the_network_itself() -> None:
    first, second = small.student(small.GREY), small.problem(small.GREY).teacher
    follow(first, second, 0.0)
    small.assert_same(small.snapshot(first), small.snapshot(second))


def build(**networks: FurtherNetwork) -> FurtherNetworks:
    problem = shared_problem()
    return FurtherNetworks(networks, problem, small.student(small.GREY), Streams("cpu", 0), "fp32")


def test_networks_are_built_the_same_for_a_seed_and_are_not_trained_by_others() -> None:
    first, second = build(second=NETWORKS["second"]), build(slow=Following(), second=NETWORKS["second"])
    small.assert_same(small.snapshot(first.nets["second"]), small.snapshot(second.nets["second"]))
    nets = second.nets.values()
    assert not any(net.training or parameter.requires_grad for net in nets for parameter in net.parameters())


def test_a_network_that_is_the_teacher_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="'second' is the teacher itself; build a copy"):
        build(second=Fixed(lambda context: context.nets["teacher"]))
    with pytest.raises(ValueError, match="'student', which there is one of already"):
        replace(named("plain"), networks={"student": Following()})


def test_a_term_that_reads_a_network_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="'slow' reads a network 'slow'; there are student, teacher"):
        make_run(replace(recipe(), networks={}, synthesis=named("plain").synthesis))


def test_a_copy_of_a_student_whose_ranges_were_set_meanwhile_starts_with_them() -> None:
    """A quantized student is calibrated after the copy was made."""
    from tests.helpers.trials import run  # a trial of quantization, whose ranges come from its first images

    going, _ = run("dfq", "plain", {"bits": "w4a4", "placement": "paper"})
    student, transfer = going.student, going.transfer
    further = FurtherNetworks(
        {"slow": Following(0.9)}, transfer.problem, copy.deepcopy(student), Streams("cpu", 0), "fp32"
    )
    further.student = student
    further.before_student()
    quantizers = further.nets["slow"].activations().values()  # type: ignore[operator]
    assert quantizers and all(quantizer.ready for quantizer in quantizers)
    assert isinstance(transfer, TransferRun) and isinstance(transfer.problem, Problem)
