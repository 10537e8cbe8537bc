"""Terms on batch norm statistics against loops over images, channels and layers: values, gradients, edges."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.batch_statistics import channel_statistics
from rgal.core.errors import UserError
from rgal.core.observe import (
    BatchNormStatistics,
    batch_norms,
    image_statistics,
    observe,
)
from rgal.core.problem import Problem
from rgal.terms.inversion import bn_images_loss, bn_l2_loss, bn_mse_loss, bn_statistics
from rgal.terms.objective import TermContext
from tests.helpers import naive, small

HALVES = [torch.float16, torch.bfloat16]


def running(seed: int) -> tuple[Tensor, Tensor]:
    return small.randn(4, seed=seed), small.rand(4, seed=seed) + 0.5


def statistics(x: Tensor, seed: int) -> BatchNormStatistics:
    return BatchNormStatistics(*channel_statistics(x), *running(seed))


def test_batch_norm_l2_equals_the_loop() -> None:
    maps = [small.randn(3, 4, 2, 5), 2 * small.randn(6, 4, 3, 3, seed=1) + 1]
    small.assert_twins(
        lambda a, b: bn_l2_loss([statistics(a, 0), statistics(b, 1)]),
        lambda a, b: naive.batch_norm_l2([a, b], [running(0), running(1)]),
        *maps,
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_batch_norm_l2_weighs_its_first_layer(layers: int) -> None:
    def loop(*maps: Tensor) -> Tensor:
        values = [naive.batch_norm_l2([x], [running(i)]) for i, x in enumerate(maps)]
        return 10 * values[0] + sum(values[1:])

    small.assert_twins(
        lambda *maps: bn_l2_loss([statistics(x, i) for i, x in enumerate(maps)], first=10),
        loop,
        *(small.randn(3, 4, 2, 5, seed=seed) for seed in range(layers)),
    )


@pytest.mark.parametrize("dtype", HALVES)
def test_batch_norm_l2_of_half_precision_maps(dtype: torch.dtype) -> None:
    x = (small.randn(6, 4, 3, 3) + 1).to(dtype)
    value = bn_l2_loss([statistics(x, 0)])
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(naive.batch_norm_l2([x.double()], [running(0)]).item(), rel=1e-4)


def test_batch_norm_l2_has_finite_gradients_where_statistics_match() -> None:
    x = small.randn(8, 4, 3, 3).requires_grad_()
    mean, var = channel_statistics(x)
    loss = bn_l2_loss([BatchNormStatistics(mean, var, mean.detach(), var.detach())])
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(x.grad).all()


MAPS = {
    "maps": [(3, 4, 2, 5), (3, 4, 3, 3), (3, 4, 1, 2)],
    "single pixels": [(3, 4, 1, 1), (3, 4, 1, 1)],
    "one image": [(1, 4, 3, 2)],
    "one image of one pixel": [(1, 4, 1, 1)],
}


def made(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    return [(1 + i) * small.randn(*shape, seed=10 + i) + i for i, shape in enumerate(shapes)]


def of_images(x: Tensor, seed: int) -> BatchNormStatistics:
    return BatchNormStatistics(*image_statistics(x), *running(seed))


@pytest.mark.parametrize("shapes", MAPS.values(), ids=MAPS)
def test_batch_norm_mse_equals_the_loop(shapes: list[tuple[int, ...]]) -> None:
    stored = [running(i) for i in range(len(shapes))]
    small.assert_twins(
        lambda *maps: bn_mse_loss([statistics(x, i) for i, x in enumerate(maps)]),
        lambda *maps: naive.batch_norm_mse(maps, stored),
        *made(shapes),
    )


@pytest.mark.parametrize("shapes", MAPS.values(), ids=MAPS)
def test_image_norm_l2_equals_the_loop(shapes: list[tuple[int, ...]]) -> None:
    """The images are the first map here."""
    stored = [running(i) for i in range(len(shapes) - 1)]
    small.assert_twins(
        lambda x, *maps: bn_images_loss([of_images(m, i) for i, m in enumerate(maps)], x),
        lambda x, *maps: naive.image_norm_l2(maps, stored, x),
        *made(shapes),
    )


@pytest.mark.parametrize("form", ["mse", "images"])
def test_bn_terms_of_bfloat16_maps_are_float32(form: str) -> None:
    leaves = [(small.randn(6, 4, 3, 3, seed=i) + 1).bfloat16().requires_grad_() for i in range(2)]
    doubles = [x.detach().double().requires_grad_() for x in leaves]
    if form == "mse":
        loss = bn_mse_loss([statistics(x, i) for i, x in enumerate(leaves)])
        wanted = naive.batch_norm_mse(doubles, [running(0), running(1)])
    else:
        loss = bn_images_loss([of_images(leaves[1], 0)], leaves[0])
        wanted = naive.image_norm_l2(doubles[1:], [running(0)], doubles[0])
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    loss.backward()
    wanted.backward()
    for leaf, double in zip(leaves, doubles, strict=True):
        assert leaf.grad.dtype == torch.bfloat16
        error = (leaf.grad.double() - double.grad).abs().max() / double.grad.abs().max()
        assert error < 2 * torch.finfo(torch.bfloat16).eps


def test_bn_terms_vanish_with_finite_gradients_where_statistics_match() -> None:
    x = small.randn(8, 4, 3, 3).requires_grad_()
    mean, var = channel_statistics(x)
    (bn_mse_loss([BatchNormStatistics(mean, var, mean.detach(), var.detach())])).backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    one = torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(1, 1, 2, 2) * 0.75**0.5  # mean 0, unbiased variance 1
    own = BatchNormStatistics(*image_statistics(one), torch.zeros(1), torch.ones(1))
    assert bn_images_loss([own], one).item() == pytest.approx(0, abs=1e-10)


Forms = dict[str, tuple[str, Callable[..., Tensor]]]
READ: Forms = {
    "l2": ("bn", lambda inputs, stored, x: naive.batch_norm_l2(inputs, stored)),
    "mse": ("bn", lambda inputs, stored, x: naive.batch_norm_mse(inputs, stored)),
    "images": ("bn_images", naive.image_norm_l2),
}


@pytest.mark.parametrize("form", READ)
def test_the_bn_term_reads_the_teachers_layers(form: Any, problem: Problem) -> None:
    """And the normalised images; their gradient comes through the teacher."""
    what, slow = READ[form]
    term = bn_statistics(1.0, form).build(TermContext(problem.domain, {"teacher": problem.teacher}))
    assert [(need.net, need.what, need.view) for need in term.reads] == [("teacher", what, "global")]
    twin = deepcopy(problem.teacher).double()
    stored = [(layer.running_mean, layer.running_var) for layer in batch_norms(twin)]

    def fast(x: Tensor) -> Tensor:
        ctx = small.context(teacher=observe(problem.teacher, x, [what]))
        return term(replace(ctx, views={"global": x}))

    def by_hand(x: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        for layer in batch_norms(twin):
            layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        twin(x)
        return slow(inputs, stored, x)

    small.assert_twins(
        fast, by_hand, problem.domain.normalise(small.rand(3, *small.COLOUR.shape)), tolerance=1e-4
    )


def test_the_bn_term_has_three_forms() -> None:
    assert bn_statistics(0.5).name == "bn" and bn_statistics(0.5, "images").weight == 0.5
    with pytest.raises(KeyError):
        bn_statistics(1.0, "l1").build(TermContext(small.COLOUR, {"teacher": nn.BatchNorm2d(3)}))  # type: ignore[arg-type]


def test_the_bn_term_refuses_a_teacher_without_batch_norm() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    for form in ("l2", "mse", "images"):
        with pytest.raises(UserError, match="no BatchNorm2d") as caught:
            bn_statistics(1.0, form).build(TermContext(small.COLOUR, {"teacher": plain}))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
