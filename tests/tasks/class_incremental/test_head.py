"""A classifier that grows: what it said stays bit for bit; and a net as those see it that know its first classes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from rgal.core.errors import UserError
from rgal.core.observe import WHAT, observe
from rgal.tasks.class_incremental.head import FirstOutputs, GrowingHead, extractor_parameters, growing_head
from tests.helpers import small
from tests.helpers.two_phase_builders import Tiny

NETS = ("lenet5", "wrn10_1", "resnet8")


def head(width: int, outputs: int) -> GrowingHead:
    torch.manual_seed(width + outputs)
    return GrowingHead(nn.Linear(width, outputs))


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


# Growth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("width", [1, 5, 16, 63, 64, 512])
def test_growing_keeps_old_logits_bit_for_bit(width: int, outputs: int) -> None:
    """1 or 4 outputs a class, whatever the number of classes, of images, and of earlier growths."""
    for classes in (1, 10, 50):
        grown = head(width, classes * outputs)
        batches = [small.randn(n, width, seed=n) for n in (1, 2, 7, 129)]
        for phase in range(3):
            before = [grown(x) for x in batches]
            grown.add((1, 7, 20)[phase] * outputs, "phase", phase)
            for x, old in zip(batches, before, strict=True):
                new = grown(x)
                assert torch.equal(new[:, : old.shape[1]], old) and new.shape[1] > old.shape[1]


def test_growing_keeps_old_logits_under_autocast() -> None:
    grown, x = head(64, 10), small.randn(33, 64)
    with torch.autocast("cpu", torch.bfloat16):
        before = grown(x)
        grown.add(5, 0)
        assert before.dtype == torch.bfloat16 and torch.equal(grown(x)[:, :10], before)


@pytest.mark.parametrize("name", NETS)
def test_a_nets_logits_stay_when_its_head_is_made_to_grow(name: str) -> None:
    net = small.network(name, small.COLOUR)
    x = small.COLOUR.normalise(small.rand(5, *small.COLOUR.shape))
    parts = {key: value for key, value in small.snapshot(net).items() if not key.startswith(net.head_name)}
    before = net(x)
    head = growing_head(net)
    assert isinstance(head, GrowingHead) and growing_head(net) is head
    assert torch.equal(net(x), before)
    head.add(3, "three")
    assert torch.equal(net(x)[:, :5], before) and net(x).shape == (5, 8)
    after = small.snapshot(net)
    assert all(torch.equal(after[key], value) for key, value in parts.items())
    assert head.features == head.weight().shape[1] and len(head.weight()) == 8


def test_logits_are_those_of_all_rows() -> None:
    grown = head(6, 4)
    grown.add(3, 1)
    grown.add(2, 2)
    x = small.randn(5, 6)
    bias = torch.cat([part.bias for part in grown.parts])
    torch.testing.assert_close(grown(x), x @ grown.weight().T + bias)
    assert torch.equal(grown.weight(), torch.stack([row for part in grown.parts for row in part.weight]))


def test_new_rows_depend_on_their_seed_alone() -> None:
    first, second, third = head(5, 2), head(5, 2), head(5, 2)
    torch.manual_seed(1)
    first.add(4, "a", 1)
    draw = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), draw)  # the global stream was left alone
    torch.manual_seed(2)
    second.add(4, "a", 1)
    third.add(4, "a", 2)
    small.assert_same(small.snapshot(first), small.snapshot(second))
    assert not torch.equal(first.parts[1].weight, third.parts[1].weight)


def test_new_rows_start_as_torch_has_them() -> None:
    grown = head(64, 2)
    grown.add(2000, 0)
    weight, bound = grown.parts[1].weight, 1 / math.sqrt(64)
    assert weight.abs().max() <= bound and weight.std().item() == pytest.approx(
        bound / math.sqrt(3), rel=0.01
    )
    assert grown.parts[1].bias.abs().max() <= bound


def test_the_old_model_is_no_part_of_a_copy_that_grows() -> None:
    old = Tiny(4)
    growing_head(old)
    new = copy.deepcopy(old)
    growing_head(new).add(2, 0)
    with torch.no_grad():
        growing_head(new).parts[0].weight.add_(1)
    assert len(old.fc.parts) == 1 and not torch.equal(old.fc.weight(), new.fc.weight()[:4])


def test_a_grown_heads_state_fits_one_that_grew_alike() -> None:
    first, second = head(5, 2), head(5, 2)
    for part, seeds in ((first, (1, 2)), (second, (3, 4))):
        part.add(4, seeds[0])
        part.add(1, seeds[1])
    second.load_state_dict(small.reloaded(first.state_dict()))
    x = small.randn(3, 5)
    assert torch.equal(first(x), second(x))
    with pytest.raises(RuntimeError):
        head(5, 2).load_state_dict(first.state_dict())


# Fitted classifiers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [False, True])
def test_assign_overwrites_all_rows(unit: bool) -> None:
    grown = head(4, 3)
    grown.add(2, 0)
    grown.unit = unit
    weight, bias = small.randn(5, 4, seed=1), small.randn(5, seed=2)
    grown.assign(weight, bias)
    x = 7 * small.randn(6, 4)
    rows = torch.stack([row / row.norm() for row in x]) if unit else x
    torch.testing.assert_close(grown(x), rows @ weight.T + bias)
    assert torch.equal(grown.weight(), weight)
    if unit:
        torch.testing.assert_close(grown(x), grown(0.01 * x))


def test_assign_refuses_another_number_of_classes() -> None:
    with pytest.raises(RuntimeError):
        head(4, 3).assign(small.randn(4, 4), small.randn(4))


# Which nets -----------------------------------------------------------------------------------------------------


def test_a_classifier_that_is_not_linear_is_refused() -> None:
    net = Tiny(3)
    net.fc = nn.Sequential(nn.Linear(5, 3))  # type: ignore[assignment]
    with pytest.raises(UserError, match="the classifier 'fc' is Sequential, expected Linear"):
        growing_head(net)


def test_a_classifier_inside_another_module_grows_in_place() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3)))
    net.head_name = "1.0"  # type: ignore[assignment]
    linear = net[1][0]
    grown = growing_head(net)
    assert net[1][0] is grown and grown.parts[0] is linear
    grown.add(2, 0)
    assert net(small.randn(2, 2, 2)).shape == (2, 5)


@pytest.mark.parametrize("name", NETS)
def test_the_extractor_is_all_but_the_classifier(name: str) -> None:
    net = small.network(name, small.COLOUR)
    for growing in (False, True):
        if growing:
            growing_head(net).add(2, 0)
        names = [n for n, _ in net.named_parameters() if not n.startswith(f"{net.head_name}.")]
        wanted = [dict(net.named_parameters())[n] for n in names]
        parameters = extractor_parameters(net)
        assert len(parameters) == len(wanted) and all(a is b for a, b in zip(parameters, wanted, strict=True))


# The first outputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_first_outputs_are_observed_like_the_net(name: str) -> None:
    net = small.network(name, small.COLOUR)
    growing_head(net).add(3, 0)
    first = FirstOutputs(net, 5)
    x = small.COLOUR.normalise(small.rand(3, *small.COLOUR.shape)).requires_grad_()
    whole, part = observe(net, x, WHAT), observe(first, x, WHAT)
    assert torch.equal(part.logits, whole.logits[:, :5]) and torch.equal(part.feature, whole.feature)
    small.assert_same(part.layers, whole.layers)
    assert len(part.layers) == len(net.layer_names) and len(part.bn) == len(whole.bn)
    if whole.bn:
        assert torch.equal(part.bn_pooled, whole.bn_pooled)
    assert hooks(first) == 0
    part.logits.sum().backward()
    assert x.grad.abs().max() > 0


def test_first_outputs_hold_nothing_of_their_own() -> None:
    net = Tiny(4).train()
    growing_head(net).add(2, 0)
    first = FirstOutputs(net, 4)
    mine = list(first.parameters())
    assert len(mine) == len(list(net.parameters()))
    assert all(a is b for a, b in zip(mine, net.parameters(), strict=True))
    assert net.training and first.net is net


def test_an_error_leaves_no_hook_either() -> None:
    first = FirstOutputs(Tiny(4), 2)
    with pytest.raises(RuntimeError):
        observe(first, torch.zeros(1, 3, 8, 8), WHAT)
    assert hooks(first) == 0
