"""A quantized net: what stays as it was, how it is observed, copied, stored and trained, and its size."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgal.core.observe import observe
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import megabytes
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import small
from tests.helpers.quant_builders import (
    IMAGE,
    PLACEMENTS,
    SUITE,
    W4A4,
    W8A8,
    build,
    levels,
    pictures,
    relative,
    student_of,
)

# What stays as it was -------------------------------------------------------------------------------------------


def facts(net: nn.Module) -> list[Any]:
    """Return class, mode, hooks and attributes of every module."""
    return [
        (name, type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
        for name, m in net.named_modules()
    ]


def storages(net: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_quantize_leaves_the_network_as_it_is(placement: str, training: bool) -> None:
    net = build("resnet8").train(training)
    net.fc.bias.requires_grad_(False)
    calls: list[int] = []
    net.fc.register_forward_hook(lambda *_: calls.append(1))
    before, state = facts(net), small.snapshot(net)
    held = [(n, id(p), p.requires_grad, p._version, p.grad) for n, p in net.named_parameters()]
    random = torch.get_rng_state()
    student = quantize(net, IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), random)
    assert not storages(net) & storages(student) and student.training == training
    assert not student.layers()["fc"].bias.requires_grad
    student.train()(pictures()).sum().backward()
    small.assert_same(small.snapshot(net), state)
    assert facts(net) == before
    assert held == [(n, id(p), p.requires_grad, p._version, p.grad) for n, p in net.named_parameters()]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", SUITE)
def test_observe_reads_students_like_their_networks(name: str, placement: str) -> None:
    net, x = build(name), pictures(16)
    student = student_of(net, placement, W8A8, x)
    what = ("logits", "feature", "layers")
    actual, wanted = observe(student, x, what), observe(net, x, what)
    assert torch.equal(actual.logits, student(x)) and len(actual.layers) == len(wanted.layers) > 1
    for a, b in zip((actual.feature, *actual.layers), (wanted.feature, *wanted.layers), strict=True):
        assert a.shape == b.shape and relative(a, b) < 0.12
    head = student.layers()[net.head_name]
    assert actual.feature.shape[1] == head.weight.shape[1]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


def test_observe_reads_layers_behind_their_quantizers() -> None:
    student = student_of(build("resnet8"), "paper")
    layers = observe(student, pictures(), ("layers",)).layers
    assert all(levels(layer) <= 16 for layer in layers)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_copies_and_files_give_the_same_student(placement: str) -> None:
    net, x = build("wrn10_1"), pictures()
    for training in (False, True):
        student = student_of(net, placement)
        wanted = student(x)
        student.train(training)
        again = copy.deepcopy(student)
        fresh = quantize(build("wrn10_1").train(training), IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.add_(1)
        fresh.load_state_dict(small.reloaded(student.state_dict()), strict=True)
        for other in (again, fresh):
            assert other.training == training and not storages(other) & storages(student)
            assert torch.equal(other.eval()(x), wanted)
            assert other.coverage == student.coverage and other.layer_names == student.layer_names
            assert len(observe(other, x, ("layers",)).layers) == 3


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_autocast_changes_nothing(placement: str) -> None:
    student, x = student_of(build("resnet8"), placement), pictures().requires_grad_()

    plain = student(x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = student(x)
    results = [
        (y, *torch.autograd.grad(y.square().sum(), (x, *student.parameters()))) for y in (plain, inside)
    ]
    small.assert_same(*results)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(student(x.bfloat16()), student(x.bfloat16().float()))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), student.calibrating():
        student(2 * x)
    assert all(t.dtype == torch.float32 for t in student.parameters())


@pytest.mark.parametrize("kind", ["minmax", "learned"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["resnet8", "lenet5"])
def test_gradients_reach_images_and_all_parameters(name: str, placement: str, kind: str) -> None:
    student = student_of(build(name), placement, weight_range=kind, activation_range=kind)
    x = pictures(seed=1).requires_grad_()
    F.cross_entropy(student(x), torch.arange(4)).backward()
    for path, tensor in (("images", x), *student.named_parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.any(), path
    learned = [n for n, _ in student.named_parameters() if n.endswith("scale")]
    assert len(learned) == (len(student.layers()) + len(student.quantizer_paths)) * (kind == "learned")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_frozen_parameters_stay_frozen(placement: str) -> None:
    student = quantize(build("resnet8").requires_grad_(False), IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in student.parameters())


def test_calibrating_moves_ranges_inside_the_block_only() -> None:
    student = quantize(build("resnet8"), IMAGE, W4A4)
    student(pictures())
    assert not any(q.ready for q in student.activations().values())
    with pytest.raises(RuntimeError, match="stop"), student.calibrating():
        student(pictures())
        raise RuntimeError("stop")
    assert all(q.ready and q.batches == 1 for q in student.activations().values())
    before = small.snapshot(student)
    student.train()(5 * pictures(seed=1))
    after = {
        k: v for k, v in small.snapshot(student).items() if "running" not in k and "num_batches" not in k
    }
    small.assert_same(after, {k: before[k] for k in after})


# Sizes ----------------------------------------------------------------------------------------------------------

WEIGHTS = [3 * 16 * 9] + 2 * [16 * 16 * 9]  # stem and first transfer of resnet8
WEIGHTS += [16 * 32 * 9, 32 * 32 * 9, 16 * 32] + [32 * 64 * 9, 64 * 64 * 9, 32 * 64] + [64 * 5]
CHANNELS = 3 * (16 + 32 + 64)  # of the nine batch norms
OUTPUTS = CHANNELS + 5


@pytest.mark.parametrize("kind", ["minmax", "learned"])
@pytest.mark.parametrize("bits", [Bits(2, 8), W4A4, W8A8], ids=str)
def test_megabytes_of_resnet8(bits: Bits, kind: str) -> None:
    """k bits for a weight; 32 for a scale, a bias, and each of four numbers for a channel of an unfolded batch norm."""
    net = small.network("resnet8", small.COLOUR)
    assert megabytes(net) * 8e6 == pytest.approx(32 * (sum(WEIGHTS) + 5 + 4 * CHANNELS))
    sizes = {"paper": 5 + 4 * CHANNELS + OUTPUTS + 7, "deploy": CHANNELS + 5 + OUTPUTS + 14}
    for placement, numbers in sizes.items():
        scheme = Scheme(placement, weight_range=kind, activation_range=kind)  # type: ignore[arg-type]
        student = quantize(net, IMAGE, bits, scheme)
        assert student.megabytes() * 8e6 == pytest.approx(bits.weight * sum(WEIGHTS) + 32 * numbers)
