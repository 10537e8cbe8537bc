"""Gradient inundation: how far steps are stretched, and that it is SGD where nothing has to be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rgal.core.errors import UserError
from rgal.core.inundation import CAREFUL_STEPS, InundatedSGD, Inundation, stretch
from rgal.core.optimiser import SGD
from rgal.methods.registry import resolve
from tests.helpers import small
from tests.helpers.quant_builders import student_of


def quantized() -> nn.Module:
    return student_of(small.network("resnet8", small.COLOUR).eval()).eval().requires_grad_(True)


def set_gradients(net: nn.Module, size: float, seed: int) -> None:
    for i, parameter in enumerate(net.parameters()):
        parameter.grad = size * small.randn(*parameter.shape, seed=100 * seed + i)


@pytest.mark.parametrize(("per_factor", "factor"), [(1.0, 1.0), (0.09, 1.0), (1e-3, 90.0)])
def test_a_step_is_stretched_until_enough_changes(per_factor: float, factor: float) -> None:
    assert stretch(lambda f: per_factor * f, 0.09, 1e6) == factor


def test_what_never_changes_ends_at_the_bound() -> None:
    assert 50 < stretch(lambda f: 0.0, 0.1, 100.0) <= 128


def test_a_jump_is_bisected_five_times() -> None:
    tried = []

    def changed(factor: float) -> float:
        tried.append(factor)
        return float(factor > 21)

    assert stretch(changed, 0.5, 1e6) == tried[-1] == 21.5
    assert tried == [1, 2, 4, 8, 16, 32, 24, 20, 22, 21, 21.5]


def test_without_a_threshold_it_is_sgd() -> None:
    ours, theirs = quantized(), quantized()
    optimiser = Inundation(0.01, threshold=0.0).make_for(ours, list(ours.parameters()), fused=False)
    sgd = SGD(0.01, weight_decay=0.0, nesterov=True).make(list(theirs.parameters()), fused=False)
    for step in range(3):
        for net in (ours, theirs):
            set_gradients(net, 0.1, step)
        optimiser.step()
        sgd.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_small_steps_change_the_wanted_share_of_integers() -> None:
    """After the careful first epoch; a channel whose zero-point moves changes as a whole. The rest moves as by SGD."""
    net = quantized()
    codes = net.codes()  # type: ignore[operator]
    optimiser = Inundation(0.01, threshold=0.02).make_for(net, list(net.parameters()), fused=False)
    assert isinstance(optimiser, InundatedSGD)
    optimiser.param_groups[0]["taken"] = CAREFUL_STEPS
    before = {p: (p.detach().clone(), codes[p](p)) for p in codes}
    rest = {p: p.detach().clone() for p in net.parameters() if p not in codes}
    set_gradients(net, 1e-3, 0)
    optimiser.step()
    for parameter, (weight, stored) in before.items():
        share = (codes[parameter](parameter) != stored).double().mean().item()
        assert share == pytest.approx(0.02, abs=0.01 + 1 / len(weight))
    for parameter, value in rest.items():
        torch.testing.assert_close(parameter.detach(), value - 0.01 * 1.9 * parameter.grad)


def test_steps_are_stretched_little_at_first_and_the_count_is_stored() -> None:
    net = quantized()
    optimiser = Inundation(1e-9, threshold=0.5).make_for(net, list(net.parameters()), fused=False)
    before = {p: p.detach().clone() for p in net.codes()}  # type: ignore[operator]
    set_gradients(net, 1.0, 0)
    optimiser.step()
    for parameter, weight in before.items():
        assert (parameter - weight).abs().max() <= 1e-9 * 128 * 1.9 * parameter.grad.abs().max() + 1e-7
    again = Inundation(1e-9, threshold=0.5).make_for(net, list(net.parameters()), fused=False)
    again.load_state_dict(small.reloaded(optimiser.state_dict()))
    assert again.param_groups[0]["taken"] == 1


def test_a_float_student_is_refused() -> None:
    net = small.student()
    with pytest.raises(UserError, match="for --task dfq"):
        Inundation().make_for(net, list(net.parameters()), fused=False)


@pytest.mark.parametrize("host", ["gdfq", "qimera"])
def test_ait_keeps_its_hosts_images_and_only_distils(host: str) -> None:
    recipe, plain = resolve(f"ait[host={host}]").recipe, resolve(host).recipe
    assert (recipe.images, recipe.synthesis and [t.name for t in recipe.synthesis], recipe.rounds) == (
        plain.images, [t.name for t in plain.synthesis], plain.rounds,
    )  # fmt: skip
    assert [term.name for term in recipe.transfer] == ["kd"]
    assert isinstance(recipe.student, Inundation) and recipe.student.threshold == 1e-3
    total = recipe.rounds.total_student_steps()
    rates = [recipe.student.learning_rate((e - 4) * 200 + k, total) for e in (100, 200, 300) for k in (-1, 0)]
    assert rates == pytest.approx([1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 1e-7])
