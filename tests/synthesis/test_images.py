"""What synthesis optimises: pixels and generators, which tensors move, and rounds that can be taken up again."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.synthesis.generators import FreshGenerator
from rgal.synthesis.image_source import Adam, ImageSource
from tests.helpers import small
from tests.helpers.image_builders import (
    OPTIMISER,
    SPECS,
    TINY,
    N,
    begin,
    begun,
    loss_of,
    make,
    optimise,
    values,
)

# All of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_images_have_their_shape_and_range(name: str, problem: Problem) -> None:
    images = begun(name)
    for made in [*optimise(images, problem, 3), images.images()]:
        assert made.shape == (N, *small.COLOUR.shape) and made.dtype == torch.float32
        assert torch.isfinite(made).all()
    if name != "pixels":  # pixels start as noise around the mean and are valid from the first step on
        assert made.min() >= 0 and made.max() <= 1


@pytest.mark.parametrize("name", SPECS)
def test_a_step_moves_its_own_tensors_only(name: str, problem: Problem) -> None:
    images = begun(name)
    teacher = small.snapshot(problem.teacher)
    own = values(images.parameters())
    optimise(images, problem, 2)
    assert all(not torch.equal(a, b) for a, b in zip(own, images.parameters(), strict=True) if a.numel() > 4)
    small.assert_same(small.snapshot(problem.teacher), teacher)
    assert all(p.grad is None for p in problem.teacher.parameters())
    assert all(p.grad is not None for p in images.parameters())


@pytest.mark.parametrize("name", SPECS)
def test_optimising_lowers_the_loss(name: str, problem: Problem) -> None:
    images = begun(name)
    first = loss_of(problem, images.images()).item()
    iterates = optimise(images, problem, 25)
    assert loss_of(problem, iterates[-1]).item() < first - 0.1


@pytest.mark.parametrize("name", SPECS)
def test_everything_comes_from_the_seed_and_the_stream(name: str, problem: Problem) -> None:
    def run(global_seed: int, stream: int) -> list[Tensor]:
        torch.manual_seed(global_seed)
        return optimise(begun(name, small.rng(stream)), problem, 2)

    small.assert_same(run(1, 1), run(2, 1))
    assert not torch.equal(run(1, 1)[0], run(1, 2)[0])


@pytest.mark.parametrize("name", SPECS)
def test_the_optimiser_is_the_recipes(name: str) -> None:
    images = make(name)
    begin(images, small.rng(), Adam(0.125, (0.25, 0.75)))
    groups = images.optimiser.param_groups
    assert groups[0]["lr"] == 0.125 and all(tuple(group["betas"]) == (0.25, 0.75) for group in groups)
    if name == "fresh, large":
        assert groups[1]["lr"] == 0.05


@pytest.mark.parametrize("done", [0, 2])
@pytest.mark.parametrize("name", SPECS)
def test_a_round_taken_up_again_goes_on_bit_for_bit(name: str, done: int, problem: Problem) -> None:
    rng, later = small.rng(), small.rng(77)
    images = make(name)
    for _ in range(2):  # one whole round before, so that there is a past to remember
        begin(images, rng)
        optimise(images, problem, done)
        state, position = small.reloaded(images.state_dict()), rng.get_state()
        expected = rest_of_life(images, problem, rng)
        again = make(name, seed=5)
        later.set_state(position)
        again.attach(N, later)
        again.load_state_dict(state)
        small.assert_same(rest_of_life(again, problem, later), expected)


def rest_of_life(images: ImageSource, problem: Problem, rng: torch.Generator) -> list[Tensor]:
    """Three more steps, the end of the round, and two steps of the next."""
    iterates = optimise(images, problem, 3)
    images.finish()
    begin(images, rng)
    return iterates + optimise(images, problem, 2)


@pytest.mark.parametrize("name", SPECS)
def test_a_state_from_before_the_first_round_loads(name: str, problem: Problem) -> None:
    images, again = make(name), make(name, seed=5)
    again.attach(0, small.rng())
    again.load_state_dict(small.reloaded(images.state_dict()))
    results = []
    for one in (images, again):
        begin(one, small.rng(3))
        results.append(optimise(one, problem, 2))
    small.assert_same(results[0], results[1])


@pytest.mark.parametrize("name", [name for name in SPECS if name not in ("persistent", "conditional")])
def test_only_a_persistent_generator_can_be_drawn_from(name: str) -> None:
    with pytest.raises(TypeError, match="no generator that could draw"):
        begun(name).draw(2, small.rng())


# Pixels ---------------------------------------------------------------------------------------------------------


def test_pixels_start_as_normal_noise_in_normalised_space() -> None:
    images = begun("pixels")
    expected = torch.randn(N, *small.COLOUR.shape, generator=small.rng())
    assert torch.equal(images.pixels.detach(), expected)
    torch.testing.assert_close(images.images(), small.COLOUR.denormalise(expected))
    assert images.parameters() == [images.pixels]


def test_pixels_stay_valid_after_every_step(problem: Problem) -> None:
    images = make("pixels")
    begin(images, small.rng(), Adam(0.5))
    for _ in range(5):
        optimise(images, problem, 1)
        made = images.images()
        assert made.min() >= -1e-6 and made.max() <= 1 + 1e-6
    assert (made <= 1e-6).any() and (made >= 1 - 1e-6).any()


def test_the_first_pixel_step_is_adams() -> None:
    """Adam's first step is lr times the gradient's sign."""
    images = begun("pixels")
    before = images.pixels.detach().clone()
    weight = small.randn(N, *small.COLOUR.shape, seed=3)
    images.step((images.images() * weight).sum())
    expected = small.COLOUR.clip_normalised(before - OPTIMISER.lr * weight.sign())
    torch.testing.assert_close(images.pixels.detach(), expected, rtol=1e-4, atol=1e-5)


# Fresh generator ------------------------------------------------------------------------------------------------


def test_a_fresh_generator_forgets_the_round_before(problem: Problem) -> None:
    experienced = begun("fresh", small.rng(1))
    optimise(experienced, problem, 4)
    experienced.finish()
    begin(experienced, small.rng(2))
    small.assert_same(
        optimise(experienced, problem, 3), optimise(begun("fresh", small.rng(2), seed=9), problem, 3)
    )


def test_a_fresh_generator_learns_network_and_codes(problem: Problem) -> None:
    images = begun("fresh")
    assert len(images.parameters()) == 1 + len(list(images.net.parameters()))
    assert images.parameters()[-1] is images.codes and images.codes.shape == (N, 8)
    assert images.net.training


# Persistent generator -------------------------------------------------------------------------------------------


def test_a_persistent_generator_remembers_and_draws_new_codes(problem: Problem) -> None:
    images, rng = make("persistent"), small.rng()
    begin(images, rng)
    optimiser = images.optimiser
    optimise(images, problem, 3)
    images.finish()
    learnt = values(images.parameters())
    begin(images, rng)
    assert images.optimiser is optimiser
    small.assert_same(values(images.parameters()), learnt)
    assert not torch.equal(images.images(), images.images())


def test_drawing_uses_running_statistics_and_leaves_no_trace(problem: Problem) -> None:
    images = begun("persistent")
    optimise(images, problem, 3)
    before, stream = small.snapshot(images.net), images.rng.get_state()
    drawn = images.draw(5, small.rng(4))
    small.assert_same(small.snapshot(images.net), before)
    assert images.net.training and all(m.training for m in images.net.modules())
    assert torch.equal(images.rng.get_state(), stream) and not drawn.requires_grad
    codes = torch.randn(5, 8, generator=small.rng(4))
    twin = deepcopy(images.net).eval()
    assert torch.equal(drawn, twin(codes).detach())
    assert torch.equal(images.draw(5, small.rng(4)), drawn)


def test_drawing_goes_back_to_training_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    images = begun("persistent")
    monkeypatch.setattr(images.net, "forward", lambda codes: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        images.draw(2, small.rng())
    assert images.net.training


# Meta-generator -------------------------------------------------------------------------------------------------


def inner_gradients(images: Any, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(images.inner.parameters()), retain_graph=True))


def meta_step_by_hand(before: nn.Module, gradients: list[Tensor], lr: float) -> list[Tensor]:
    """One step of a new Adam on a copy of the meta-generator."""
    optimiser = torch.optim.Adam(before.parameters(), lr=lr, betas=(0.5, 0.999))
    for parameter, gradient in zip(before.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
    return values(list(before.parameters()))


def assert_close(tensors: list[Tensor], wanted: list[Tensor]) -> None:
    for a, b in zip(tensors, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_fomaml_sums_the_inner_gradients(problem: Problem) -> None:
    images: Any = begun("fomaml")
    before = deepcopy(images.net)
    total = [torch.zeros_like(p) for p in images.net.parameters()]
    for _ in range(3):
        loss = loss_of(problem, images.images())
        total = [a + b for a, b in zip(total, inner_gradients(images, loss), strict=True)]
        images.step(loss)
    assert_close(values(list(images.net.parameters())), values(list(before.parameters())))
    assert_close([p.grad for p in images.net.parameters()], total)
    images.finish()
    expected = meta_step_by_hand(before, total, 0.02)
    # Adam divides by |g|: where a gradient is rounding noise, so is its step.
    for parameter, wanted, g in zip(images.net.parameters(), expected, total, strict=True):
        sure = g.abs() > 1e-6
        torch.testing.assert_close(parameter.detach()[sure], wanted[sure], rtol=1e-3, atol=1e-5)


def test_reptile_follows_the_adapted_copy(problem: Problem) -> None:
    images: Any = begun("reptile")
    before = deepcopy(images.net)
    optimise(images, problem, 3)
    adapted = values(list(images.inner.parameters()))
    difference = [a.detach() - b for a, b in zip(before.parameters(), adapted, strict=True)]
    images.finish()
    assert_close([p.grad for p in images.net.parameters()], difference)
    assert_close(values(list(images.net.parameters())), meta_step_by_hand(before, difference, 0.02))


def test_reptile_moves_towards_the_adapted_copy(problem: Problem) -> None:
    images: Any = make("reptile")
    start = deepcopy(images.net)
    begin(images, small.rng(), Adam(0.1))
    optimise(images, problem, 3)
    adapted = values(list(images.inner.parameters()))
    images.finish()
    gaps = [
        sum((p.detach() - q).square().sum().item() for p, q in zip(net.parameters(), adapted, strict=True))
        for net in (start, images.net)
    ]
    assert gaps[1] < gaps[0]


@pytest.mark.parametrize("name", ["fomaml", "reptile"])
def test_each_round_starts_from_the_meta_generator(name: str, problem: Problem) -> None:
    images: Any = begun(name)
    optimise(images, problem, 2)
    images.finish()
    begin(images, small.rng(4))
    small.assert_same(small.snapshot(images.inner), small.snapshot(images.net))
    assert all(p.grad is None for p in images.net.parameters())
    assert not torch.equal(images.net.project.weight, make(name).net.project.weight)


@pytest.mark.parametrize("name", ["fomaml", "reptile"])
def test_the_meta_generator_takes_over_the_copys_statistics(name: str, problem: Problem) -> None:
    images: Any = begun(name)
    optimise(images, problem, 2)
    inner = values(list(images.inner.buffers()))
    images.finish()
    small.assert_same(values(list(images.net.buffers())), inner)


def test_generators_make_square_images_only() -> None:
    oblong = replace(small.COLOUR, shape=(3, 16, 8))
    with pytest.raises(UserError, match="square"):
        FreshGenerator(**TINY).build(oblong, torch.device("cpu"), 0)
