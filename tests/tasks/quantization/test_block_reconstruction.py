"""Learnt rounding, block by block: formulas against loops, what a decision leaves, and what each step may move."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.observe import observe
from rgal.core.optimiser import StudentAdam
from rgal.core.problem import freeze
from rgal.core.seeding import Streams
from rgal.engine.batches import Augmentation, StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.synthesis.views import identity
from rgal.tasks.quantization.block_reconstruction import (
    BlockReconstruction,
    LearntRounding,
    LearntScale,
    block_reconstruction,
    blocks_of,
    indecision,
    rounding_of,
    sharpness_at,
)
from rgal.tasks.quantization.fake_quant import limits
from rgal.tasks.quantization.quantized_net import QuantizedNet
from rgal.tasks.quantization.quantizers import ActivationQuantizer
from rgal.tasks.quantization.scheme import Bits, Scheme
from rgal.terms.objective import TermContext
from tests.helpers import small
from tests.helpers.quant_builders import student_of

IMAGES = small.rand(6, *small.COLOUR.shape)


def quantized(bits: str = "w3a4", **scheme: Any) -> tuple[QuantizedNet, torch.nn.Module]:
    teacher = freeze_of("resnet8")
    student = student_of(teacher, bits=Bits.parse(bits), x=small.COLOUR.normalise(IMAGES), **scheme).eval()
    return student.requires_grad_(True), teacher


def freeze_of(name: str) -> torch.nn.Module:
    teacher = small.network(name, small.COLOUR).eval()
    freeze(teacher)
    return teacher


def loop_of(student: QuantizedNet, teacher: torch.nn.Module, steps: int, lr: float = 0.05) -> StudentLoop:
    spec = StudentSpec(
        (block_reconstruction(),), StudentAdam(lr, 0.0, "constant"), steps, Augmentation(identity)
    )
    return StudentLoop({"student": student, "teacher": teacher}, small.COLOUR, spec, Streams("cpu", "blocks"))


def step(loop: StudentLoop) -> float:
    loop.step(StudentBatch(IMAGES, torch.zeros(len(IMAGES), dtype=torch.int64)))
    value = loop.meter.peek("total")
    assert value is not None
    return value


def test_rounding_and_its_indecision_against_loops() -> None:
    v = 4 * small.randn(3, 5)

    def h(x: Tensor) -> Tensor:
        return (1.2 / (1 + torch.exp(-x)) - 0.1).clamp(0, 1)

    small.assert_twins(lambda x: rounding_of(x).sum(), lambda x: sum(h(y) for y in x.flatten()), v)
    small.assert_twins(
        lambda x: indecision(x, 3.0), lambda x: sum(1 - (2 * h(y) - 1).abs() ** 3 for y in x.flatten()), v
    )
    assert indecision(torch.tensor([-9.0, 9.0]), 2.0) == 0 and indecision(torch.zeros(3), 20.0) == 3
    assert [sharpness_at(done) for done in (0.0, 0.19)] == [None, None]
    assert [sharpness_at(done) for done in (0.2, 0.6, 1.0)] == pytest.approx([20, 11, 2])


@pytest.mark.parametrize("scheme", [{}, {"symmetric_weights": True}, {"weight_range": "mse"}])
@pytest.mark.parametrize("bits", ["w2a4", "w4a4", "w8a8"])
def test_a_decision_is_on_the_grid_and_the_quantizer_leaves_it(bits: str, scheme: dict[str, Any]) -> None:
    student, _ = quantized(bits, **scheme)
    width = int(bits[1])
    for layer in list(student.layers().values())[:2]:
        learnt, before = LearntRounding(layer), layer.weight.detach().clone().contiguous()
        scale, zero = (value.tolist() for value in layer.quantizer.qparams(before))
        with torch.no_grad():
            learnt.v.copy_(small.randn(*learnt.v.shape))
        up = (learnt.v.detach().contiguous() >= 0).flatten(1).tolist()
        low, high = (
            (1 - 2 ** (width - 1), 2 ** (width - 1) - 1) if layer.quantizer.symmetric else (0, 2**width - 1)
        )
        wanted = []
        for c, row in enumerate(before.flatten(1).tolist()):
            for i, w in enumerate(row):
                ends = row.index(min(row)), row.index(max(row))
                q = round(w / scale[c]) if i in ends else math.floor(w / scale[c]) + up[c][i]
                wanted.append((min(max(q + zero[c], low), high) - zero[c]) * scale[c])
        learnt.decide()
        found = layer.weight.detach().contiguous().flatten()
        torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.quantizer(layer.weight).detach(), layer.weight.detach())


def test_soft_weights_start_at_the_weights_within_the_range() -> None:
    student, _ = quantized("w4a4")
    for layer in student.layers().values():
        learnt, weight = LearntRounding(layer), layer.weight.detach()
        off = (learnt.weight().detach() - weight).abs().flatten(1) / layer.quantizer.qparams(weight)[0][
            :, None
        ]
        assert (
            off.max() < 0.501 and (off < 1e-3).float().mean() > 0.8
        )  # less near the ends, where the grid is shifted
        assert learnt.fixed.flatten(1).sum(1).tolist() == [2] * len(weight)


def test_blocks_are_the_layers_between_named_ones_in_order() -> None:
    student, _ = quantized()
    blocks = blocks_of(student)
    assert [path for block in blocks for path in block] == list(student.layers())
    assert len(blocks) == len(student.layer_names) + 1
    assert blocks[-1] == [str(student.head_name).removeprefix("graph.")]


def test_a_step_moves_the_rounding_of_its_block_alone_and_its_end_decides_it() -> None:
    student, teacher = quantized()
    count = len(blocks_of(student))
    loop = loop_of(student, teacher, 3 * count + 1)
    term = loop.objective.terms["step"]
    assert isinstance(term, BlockReconstruction)
    for number in range(count):
        for position in range(3 + (number == count - 1)):
            weights, rounding = small.snapshot(student), small.snapshot(term.learnt)
            step(loop)
            now = small.snapshot(term.learnt)
            moved = {int(k.split(".")[0]) for k, v in now.items() if not torch.equal(v, rounding[k])}
            assert moved == {number}
            changed = {k for k, v in small.snapshot(student).items() if not torch.equal(v, weights[k])}
            decided = {f"graph.{path}.layer.weight" for path in blocks_of(student)[number]}
            for path in blocks_of(student, ActivationQuantizer)[number]:
                decided |= {
                    f"graph.{path}.{name}" for name in ("scale", "high")
                }  # none is negative: low stays
            assert changed == (decided if position == (3 if number == count - 1 else 2) else set())
    assert all(p.requires_grad for p in student.parameters())
    assert not any(m._forward_hooks for m in student.modules())
    assert all(one.replacement is None for one in student.activations().values())
    assert all(layer.quantizer.replacement is None for layer in student.layers().values())


def test_the_first_blocks_loss_is_the_distance_of_the_teachers_output() -> None:
    """Its weights start as the teacher's, but for the ends of their ranges; and its input is the image itself."""
    student, teacher = quantized("w8a8")
    loss = step(loop_of(student, teacher, 40))
    draws = Streams("cpu", "blocks").get("block activations")
    inputs = small.COLOUR.normalise(IMAGES)
    with torch.no_grad():
        theirs = observe(teacher, inputs, ("layers",)).layers[0]
        layers = [layer for path, layer in student.layers().items() if path in blocks_of(student)[0]]
        for layer in layers:
            layer.quantizer.replacement = LearntRounding(layer).weight()
        for path in blocks_of(student, ActivationQuantizer)[0]:
            quantizer = student.graph.get_submodule(path)
            assert isinstance(quantizer, ActivationQuantizer)
            quantizer.replacement = partial(LearntScale(quantizer).shown, rng=draws)
        own = observe(student, inputs, ("layers",)).layers[0]
    wanted = sum(float((a - b).square().sum()) for a, b in zip(own, theirs, strict=True))
    assert loss == pytest.approx(wanted / theirs[:, 0].numel(), rel=1e-3)


def test_rounding_that_is_learnt_is_nearer_to_the_teacher_than_rounding_to_nearest() -> None:
    student, teacher = quantized("w3a8")
    inputs = small.COLOUR.normalise(IMAGES)
    with torch.no_grad():
        wanted = teacher(inputs)
        before = float((student(inputs) - wanted).square().mean())
    loop = loop_of(student, teacher, 80, lr=0.1)
    for _ in range(80):
        step(loop)
    with torch.no_grad():
        assert float((student(inputs) - wanted).square().mean()) < 0.7 * before


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_learnt_scale_against_a_loop(symmetric: bool) -> None:
    """Its values, the gradient of its scale (LSQ's) and of x, at the entries that are drawn; the others are x."""
    scheme = Scheme(symmetric_activations=symmetric)
    quantizer, x = ActivationQuantizer(3, scheme), small.randn(4, 50)
    learnt = LearntScale(quantizer)
    assert learnt.shown(x, small.rng()) is x  # not calibrated
    quantizer.update_range(x / 2)  # some values are outside
    low, high = limits(3, symmetric)
    with torch.no_grad():
        learnt.t.fill_(-1.5)
    start, zero = (float(value) for value in quantizer.qparams())
    drawn = torch.rand(x.shape, generator=small.rng(3)) < 0.5
    inputs = x.clone().requires_grad_()
    shown = learnt.shown(inputs, small.rng(3))
    shown.sum().backward()
    scale, slope, values, inside = start * math.exp(-0.15), 0.0, [], []
    for entry, kept in zip(x.flatten().tolist(), drawn.flatten().tolist(), strict=True):
        q = round(entry / scale) + zero
        clipped = min(max(q, low), high)
        inside.append(not kept or q == clipped)
        values.append((clipped - zero) * scale if kept else entry)
        slope += (clipped - zero - (entry / scale if q == clipped else 0)) * kept
    torch.testing.assert_close(shown.detach().flatten(), torch.tensor(values))
    assert inputs.grad is not None and learnt.t.grad is not None
    assert inputs.grad.flatten().bool().tolist() == inside and not all(inside)
    assert float(learnt.t.grad) == pytest.approx(slope * 0.1 * scale, rel=1e-3)
    learnt.decide()
    assert float(quantizer.scale) == pytest.approx(scale) == learnt.scale().item()
    assert [float(quantizer.low), float(quantizer.high)] == pytest.approx(
        [(q - zero) * scale for q in (low, high)]
    )


def test_two_bits_learn_their_ranges() -> None:
    """Ranges of extremes leave most entries at 0: most learnt ones are narrower, the outputs nearer to the teacher."""
    student, teacher = quantized("w8a2")
    inputs = small.COLOUR.normalise(IMAGES)
    with torch.no_grad():
        wanted = teacher(inputs)
        before = float((student(inputs) - wanted).square().mean())
    scales = {name: float(one.scale) for name, one in student.activations().items()}
    loop = loop_of(student, teacher, 40, lr=0.2)
    for _ in range(40):
        step(loop)
    assert (
        sum(float(one.scale) < scales[name] for name, one in student.activations().items()) > len(scales) / 2
    )
    with torch.no_grad():
        assert float((student(inputs) - wanted).square().mean()) < 0.7 * before


def test_a_student_that_is_not_quantized_is_refused() -> None:
    net = freeze_of("resnet8")
    with pytest.raises(UserError, match="--task dfq"):
        BlockReconstruction(TermContext(small.COLOUR, {"student": net, "teacher": net}), 1.0)
