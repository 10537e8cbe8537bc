"""SynQ's parts: the map of a class and its closed form, the low pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import Observation, observe
from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.synthesis.views import View, chain, crop_flip, low_pass
from rgal.terms.class_maps import channel_weights, class_map, class_map_loss, class_maps
from rgal.terms.objective import Objective, Progress, TermContext
from tests.helpers import naive_quantized as naive
from tests.helpers import small
from tests.helpers.trials import OPTIONS, run


def seen(net: nn.Module, x: Tensor) -> Observation:
    return observe(net, x, ["layers"])


def test_the_map_has_the_closed_form_of_a_pooled_linear_head() -> None:
    net, x = small.network("wrn10_1", small.COLOUR), small.randn(4, *small.COLOUR.shape)
    observed = seen(net.eval(), x)
    layer = observed.layers[-1]
    head = net.get_submodule(net.head_name)
    maps = class_map(observed, tuple(layer.shape[2:]))  # type: ignore[arg-type]
    if (
        layer.shape[1] == head.weight.shape[1]
    ):  # what is pooled is the layer, or the layer after norm and ReLU
        (weights,) = channel_weights(observed.logits, observed.logits.argmax(1), [layer])
        assert weights.shape == layer.shape[:2]
    assert maps.min() >= 0 and maps.max() <= 1 and maps.shape == (4, *layer.shape[2:])
    net = small.network("resnet8", small.COLOUR).eval()
    observed = seen(net, x)
    layer, head = observed.layers[-1], net.get_submodule(net.head_name)
    maps = class_map(observed, tuple(layer.shape[2:]))  # type: ignore[arg-type]
    for i in range(4):
        expected = naive.pooled_head_map(layer[i].double(), head.weight.double(), observed.logits[i])
        torch.testing.assert_close(maps[i].double(), expected, rtol=1e-4, atol=1e-5)


def test_channel_weights_are_constants_of_the_gradient() -> None:
    x = small.randn(3, 2, 4, 4).requires_grad_()
    scale = torch.tensor([[2.0, -3.0]])
    logits = torch.stack([(x * scale[..., None, None]).sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)
    (weights,) = channel_weights(logits, torch.tensor([0, 0, 1]), [x])
    assert not weights.requires_grad
    torch.testing.assert_close(weights[:2], scale.expand(2, 2))
    torch.testing.assert_close(weights[2], 2 * x[2].mean((1, 2)).detach())


def test_a_map_without_contrast_is_finite() -> None:
    layer = torch.ones(2, 3, 4, 4, requires_grad=True)
    value = class_map_loss(
        Observation(layer.mean((2, 3)), layers=[layer]),
        Observation(layer.mean((2, 3)), layers=[layer]),
        (8, 8),
    )
    value.backward()
    assert value.item() == 0 and layer.grad is not None and torch.isfinite(layer.grad).all()


@pytest.mark.parametrize(("contrast", "moves"), [(1e-9, False), (1e-4, False), (1e-2, True), (1.0, True)])
def test_a_nearly_flat_map_moves_nothing(contrast: float, moves: bool) -> None:
    """The values are those of the formula; only the gradient of a map without contrast, up to 1e10, is left out."""
    bumps = small.randn(2, 3, 4, 4).double()
    layer = (1 + contrast * bumps).requires_grad_(True)
    flat = Observation(layer.mean((2, 3)), layers=[layer])
    sharp = bumps.clone().requires_grad_(True)
    class_map_loss(flat, Observation(sharp.mean((2, 3)), layers=[sharp]), (8, 8)).backward()
    assert layer.grad is not None and (layer.grad.abs().max() > 0) == moves
    assert layer.grad.abs().max() < 1e3
    (weights,) = channel_weights(flat.logits, flat.logits.detach().argmax(1), [layer])
    energy = torch.einsum("nk,nkhw->nhw", weights.clamp_min(1e-10), layer.detach().float()).relu()
    energy = torch.nn.functional.interpolate(energy[:, None], (8, 8), mode="bilinear")[:, 0]
    raised = energy - energy.amin((1, 2), keepdim=True)
    expected = raised / (raised.amax((1, 2), keepdim=True) + 1e-10)
    torch.testing.assert_close(class_map(flat, (8, 8)).detach(), expected)


def test_the_student_learns_to_look_where_its_teacher_does() -> None:
    teacher, student = small.network("resnet8", small.COLOUR, 1), small.student(name="resnet8").eval()
    teacher.eval().requires_grad_(False)
    objective = Objective(
        [class_maps(1.0)], TermContext(small.COLOUR, {"teacher": teacher, "student": student}), {"teacher"}
    )
    x = small.randn(8, *small.COLOUR.shape)
    optimiser, losses = torch.optim.SGD(student.parameters(), lr=0.05), []
    for _ in range(8):
        total, _, _ = objective(
            x, torch.zeros(8, dtype=torch.int64), {"global": x}, Streams("cpu", 0), Progress()
        )
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is None for p in teacher.parameters())


# The low pass -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "deviation"), [((6, 6), 1.5), ((5, 4), 0.7)])
def test_the_low_pass_equals_its_twin(size: tuple[int, int], deviation: float) -> None:
    x = small.rand(2, 3, *size)
    ours = low_pass(deviation / size[0])(x, small.COLOUR, small.rng())
    for image, filtered in zip(x, ours, strict=True):
        for channel, got in zip(image, filtered, strict=True):
            torch.testing.assert_close(got.double(), naive.low_pass(channel, deviation), rtol=1e-5, atol=1e-5)


def test_a_low_pass_without_width_is_refused() -> None:
    with pytest.raises(UserError, match="method 'synq': a low pass of deviation 0 lets nothing through"):
        resolve("synq[deviation=0]")


def test_a_wide_low_pass_is_the_identity_and_a_constant_stays() -> None:
    x = small.rand(2, 3, 8, 8)
    torch.testing.assert_close(low_pass(1e4)(x, small.COLOUR, small.rng()), x)
    constant = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(low_pass(0.1)(constant, small.COLOUR, small.rng()), constant)
    normalised = small.COLOUR.normalise(low_pass(0.2)(x, small.COLOUR, small.rng()))
    torch.testing.assert_close(
        low_pass(0.2)(small.COLOUR.normalise(x), small.COLOUR, small.rng()), normalised
    )


@pytest.mark.parametrize(("size", "deviation", "energy"), [(32, 8, 0.194), (32, 20, 0.675), (32, 80, 0.974)])
def test_the_low_pass_keeps_the_energy_of_the_release(size: int, deviation: float, energy: float) -> None:
    """The share of white noise's energy that SynQ's filter was measured to keep."""
    noise = small.randn(16, 3, size, size)
    kept = low_pass(deviation / size)(noise, small.COLOUR, small.rng())
    assert (kept.square().mean() / noise.square().mean()).item() == pytest.approx(energy, abs=0.02)


def test_chained_views_draw_from_one_stream_in_order() -> None:
    x, double = small.rand(4, *small.COLOUR.shape), chain(crop_flip, crop_flip)
    rng = small.rng(3)
    expected = crop_flip(crop_flip(x, small.COLOUR, rng), small.COLOUR, rng)
    assert torch.equal(double(x, small.COLOUR, small.rng(3)), expected)


def test_synq_shows_the_student_filtered_crops() -> None:
    view: View = resolve("synq").recipe.student_view
    x = small.rand(4, *small.COLOUR.shape)
    spectrum = torch.fft.rfft2(view(x, small.COLOUR, small.rng())).abs().mean((0, 1))
    height = small.COLOUR.shape[1]
    assert spectrum[height // 2, height // 2] < 0.2 * torch.fft.rfft2(x).abs().mean((0, 1))[-1, -1] + 1
    assert math.isclose(resolve("synq").recipe.rounds.student_steps, 97 * 200)
    _, rows = run("dfq", "synq", OPTIONS["dfq"][0])
    student = [row for row in rows if row["kind"] == "student"]
    assert {"cam", "pair", "pair_ce", "pair_hard"} <= set(student[0])
