"""Student terms against loops over samples, channels and pixels."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import Observation
from rgal.terms.objective import LossTerm, Progress, Term, TermContext
from rgal.terms.transfer import (
    channel_distillation,
    channel_means,
    cross_entropy,
    distillation,
    gram_distillation,
    gram_weights,
)
from tests.helpers import naive, small


class Layered(nn.Module):
    """A net of given layer widths, each layer at half the size of the one before."""

    head_name = "head"

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layer_names = [f"layer{i}" for i in range(len(widths))]
        before = (3, *widths[:-1])
        for name, width_in, width in zip(self.layer_names, before, widths, strict=True):
            self.add_module(name, nn.Sequential(nn.Conv2d(width_in, width, 3, 2, 1), nn.BatchNorm2d(width)))
        self.head = nn.Linear(widths[-1], small.COLOUR.classes)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        return self.head(x.mean((2, 3)))


STUDENT_WIDTHS, TEACHER_WIDTHS = (4, 6), (5, 3, 7)


def setting(seed: int = 0) -> TermContext:
    nets = {"student": Layered(STUDENT_WIDTHS), "teacher": Layered(TEACHER_WIDTHS)}
    return TermContext(small.COLOUR, nets, seed)


def maps(widths: tuple[int, ...], seed: int, n: int = 3) -> list[Tensor]:
    sizes = (4, 2, 1)
    return [
        small.randn(n, w, s, s, seed=seed + i) for i, (w, s) in enumerate(zip(widths, sizes, strict=False))
    ]


def observed(layers: list[Tensor]) -> Observation:
    return Observation(layers[0].new_zeros(1), layers=layers)


def built(weighted: LossTerm) -> Term:
    return weighted.build(setting())


def through_maps(term: Term, students: list[Tensor]) -> list[Tensor]:
    return [
        naive.mapped(conv.weight.detach(), conv.bias.detach(), s)
        for conv, s in zip(term.maps, students, strict=True)
    ]


def assert_layer_twins(weighted: LossTerm, slow) -> None:  # type: ignore[no-untyped-def]
    """Values and gradients on every layer of both nets; the teacher's third layer has no partner."""
    term, count = built(weighted), len(STUDENT_WIDTHS)
    students, teachers = maps(STUDENT_WIDTHS, 0), maps(TEACHER_WIDTHS, 10)

    def fast(*layers: Tensor) -> Tensor:
        student, teacher = observed(list(layers[:count])), observed([*layers[count:], teachers[2]])
        return term(small.context(student=student, teacher=teacher))

    def twin(*layers: Tensor) -> Tensor:
        return slow(through_maps(term, list(layers[:count])), list(layers[count:]))

    small.assert_twins(fast, twin, *students, *teachers[:2])


# Outputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_distillation_is_kl_to_the_teacher(temperature: float) -> None:
    term = built(distillation(temperature=temperature))
    small.assert_twins(
        lambda s, t: term(small.context(student=Observation(s), teacher=Observation(t))),
        lambda s, t: naive.kl_div(s, t, temperature),
        3 * small.randn(5, 4),
        3 * small.randn(5, 4, seed=1),
    )


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_mean_form_is_the_loss_of_torch_without_arguments(temperature: float) -> None:
    """Which divides by batch and classes, and warns of it."""
    term = built(distillation(temperature=temperature, reduction="mean"))

    def divergence(s: Tensor, t: Tensor) -> Tensor:
        log_q, p = F.log_softmax(s / temperature, dim=1), F.softmax(t / temperature, dim=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nn.KLDivLoss()(log_q, p) * temperature**2

    small.assert_twins(
        lambda s, t: term(small.context(student=Observation(s), teacher=Observation(t))),
        divergence,
        3 * small.randn(5, 4),
        3 * small.randn(5, 4, seed=1),
    )


def test_minimising_distillation_brings_the_student_to_the_teacher() -> None:
    teacher = 2 * small.randn(8, 4)
    student = small.randn(8, 4, seed=1).requires_grad_()
    term, optimiser = built(distillation(temperature=4.0)), torch.optim.SGD([student], lr=2.0)
    for _ in range(200):
        optimiser.zero_grad()
        term(small.context(student=Observation(student), teacher=Observation(teacher))).backward()
        optimiser.step()
    torch.testing.assert_close(F.softmax(student.detach(), 1), F.softmax(teacher, 1), rtol=0.05, atol=0.02)


def test_cross_entropy_equals_the_loop() -> None:
    targets, term = torch.tensor([2, 0, 1, 1]), built(cross_entropy())
    small.assert_twins(
        lambda s: term(small.context(targets=targets, student=Observation(s))),
        lambda s: naive.cross_entropy(s, targets),
        3 * small.randn(4, 3),
    )
    assert [(need.net, need.what) for need in term.reads] == [("student", "logits")]


# Layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_channel_means_are_float32(dtype: torch.dtype) -> None:
    layer = small.randn(2, 3, 4, 5).to(dtype)
    means = channel_means(layer)
    assert means.dtype == torch.float32
    for i in range(2):
        for c in range(3):
            expected = float(layer[i, c].double().sum() / 20)
            assert float(means[i, c]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_channel_distillation_equals_the_uncommuted_form() -> None:
    assert_layer_twins(channel_distillation(1.0), naive.channel_distillation)


def test_channel_distillation_equals_convolving_the_map_first() -> None:
    term = built(channel_distillation(1.0))
    students, teachers = maps(STUDENT_WIDTHS, 0), maps(TEACHER_WIDTHS, 10)
    expected = sum(
        F.mse_loss(conv(s).mean((2, 3)), t.mean((2, 3)))
        for conv, s, t in zip(term.maps, students, teachers, strict=False)
    )
    value = term(small.context(student=observed(students), teacher=observed(teachers)))
    torch.testing.assert_close(value, expected)
    value_gradients = torch.autograd.grad(value, list(term.parameters()))
    small_gradients = torch.autograd.grad(expected, list(term.parameters()))
    torch.testing.assert_close(value_gradients, small_gradients)


def test_gram_distillation_equals_the_loop() -> None:
    # The weights are constants of the teacher, so only the student side has a twin gradient.
    term = built(gram_distillation(1.0))
    students, teachers = maps(STUDENT_WIDTHS, 0), maps(TEACHER_WIDTHS, 10)
    doubles = [t.double() for t in teachers[:2]]
    small.assert_twins(
        lambda *s: term(small.context(student=observed(list(s)), teacher=observed(teachers))),
        lambda *s: naive.gram_distillation(through_maps(term, list(s)), doubles),
        *students,
    )


def test_gram_weights_equal_the_loop() -> None:
    teacher = small.randn(3, 5, 2, 4)
    torch.testing.assert_close(gram_weights(teacher).double(), naive.gram_weights(teacher.double()))
    weights = gram_weights(teacher)
    assert weights.shape == (3, 5)
    assert weights.min().item() == pytest.approx(0.001, abs=1e-6)
    assert weights.max().item() == pytest.approx(1.001, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_gram_weights_of_a_constant_teacher_are_all_alike(value: float) -> None:
    weights = gram_weights(torch.full((3, 4, 2, 2), value))
    torch.testing.assert_close(weights, torch.full((3, 4), 1.001))


# The maps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [channel_distillation, gram_distillation])
def test_maps_go_from_student_to_teacher_widths(make) -> None:  # type: ignore[no-untyped-def]
    term = built(make(0.1))
    assert [(m.in_channels, m.out_channels) for m in term.maps] == [(4, 5), (6, 3)]
    assert all(m.weight.requires_grad and m.bias.requires_grad for m in term.maps)
    again, other = make(0.1).build(setting()), make(0.1).build(setting(seed=1))
    assert torch.equal(term.maps[0].weight, again.maps[0].weight)
    assert not torch.equal(term.maps[0].weight, other.maps[0].weight)


@pytest.mark.parametrize("make", [channel_distillation, gram_distillation])
def test_building_the_maps_leaves_the_nets_alone(make) -> None:  # type: ignore[no-untyped-def]
    where = setting()
    student = where.nets["student"].train()
    before = {name: small.snapshot(net) for name, net in where.nets.items()}
    make(0.1).build(where)
    for name, net in where.nets.items():
        small.assert_same(small.snapshot(net), before[name])
    assert student.training and all(m.training for m in student.modules())


@pytest.mark.parametrize("make", [channel_distillation, gram_distillation])
def test_layer_terms_end_when_told(make) -> None:  # type: ignore[no-untyped-def]
    weighted = make(0.3, until=0.5)
    assert weighted.weight == 0.3
    assert weighted.active(Progress(4, 10)) and not weighted.active(Progress(5, 10))
