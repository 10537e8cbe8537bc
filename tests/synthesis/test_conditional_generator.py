"""Images of a wanted class from a generator that is told it, and images of noise that nothing optimises."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.methods.registry import resolve
from rgal.synthesis.generators import ConditionalGenerator
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pixels import Noise
from tests.helpers import small
from tests.helpers.image_builders import OPTIMISER, TARGETS, TINY, N, begun, loss_of, make, optimise, values


def started(targets: Tensor, seed: int = 0, net_seed: int = 0) -> Any:
    """A round of the conditional generator with these labels; noise from `seed`."""
    images = make("conditional", net_seed)
    images.attach(len(targets), small.rng(seed))
    images.start(targets, OPTIMISER)
    return images


# Labels ---------------------------------------------------------------------------------------------------------


def test_the_input_is_the_labels_vector_times_noise() -> None:
    images = started(TARGETS)
    noise = torch.randn(N, TINY["latent"], generator=small.rng())
    inputs = [images.labels.weight[label] * z for label, z in zip(TARGETS.tolist(), noise, strict=True)]
    assert torch.equal(images.images(), deepcopy(images.net)(torch.stack(inputs)))


def test_images_follow_the_labels_and_the_noise() -> None:
    first, again = (started(TARGETS).images() for _ in range(2))
    assert torch.equal(first, again)
    others = started((TARGETS + 1) % 5).images(), started(TARGETS, seed=1).images()
    for other in others:
        assert (first - other).flatten(1).abs().amax(1).min() > 1e-4  # of every image


def test_one_changed_label_changes_its_image_alone() -> None:
    """In evaluation, where images of a batch do not see each other."""
    ones = []
    for targets in (TARGETS, torch.tensor([0, 0, 1, 4, 3, 4])):
        images = started(targets)
        images.net.eval()
        ones.append(images.images())
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(*ones, strict=True)]
    assert same == [True, True, True, False, True, True]


def test_label_vectors_start_as_normal_noise_of_their_seed() -> None:
    torch.manual_seed(1)
    position = torch.get_rng_state()
    wide = ConditionalGenerator(latent=2000, width=4).build(small.COLOUR, torch.device("cpu"), 0)
    assert torch.equal(torch.get_rng_state(), position)
    vectors: Tensor = wide.labels.weight.detach()  # type: ignore[attr-defined]
    assert vectors.shape == (small.COLOUR.classes, 2000)
    assert vectors.mean().abs() < 0.05 and vectors.std().item() == pytest.approx(1, abs=0.05)
    a, b, c = (started(TARGETS, net_seed=seed).labels.weight for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_vectors_of_drawn_labels_are_trained(problem: Problem) -> None:
    images = started(torch.tensor([0, 0, 1, 1, 4, 4]))
    assert any(p is images.labels.weight for p in images.parameters())
    before = images.labels.weight.detach().clone()
    images.step(loss_of(problem, images.images()))
    moved = (images.labels.weight.detach() != before).any(1)
    assert moved.tolist() == [True, True, False, False, True]


def test_labels_change_from_round_to_round_and_the_optimiser_stays(problem: Problem) -> None:
    images = started(TARGETS)
    optimiser = images.optimiser
    optimise(images, problem, 2)
    images.finish()
    learnt, position = values(images.parameters()), images.rng.get_state()
    images.attach(3, images.rng)
    images.start(torch.tensor([4, 4, 2]), OPTIMISER)
    assert images.optimiser is optimiser
    small.assert_same(values(images.parameters()), learnt)
    assert torch.equal(images.rng.get_state(), position)
    assert len(images.images()) == 3 and images.targets.tolist() == [4, 4, 2]


def test_a_round_that_is_taken_up_keeps_its_labels(problem: Problem) -> None:
    images = started(TARGETS.flip(0))
    optimise(images, problem, 2)
    again: Any = make("conditional", seed=3)
    again.attach(N, small.rng(8))
    again.load_state_dict(small.reloaded(images.state_dict()))
    again.rng.set_state(images.rng.get_state())
    assert torch.equal(again.targets, TARGETS.flip(0))
    small.assert_same(optimise(again, problem, 3), optimise(images, problem, 3))
    small.assert_same(again.state_dict()["labels"], images.state_dict()["labels"])


def test_draws_come_with_the_labels_that_they_were_made_for() -> None:
    images = begun("conditional")
    drawn, labels = images.draw_labelled(40, small.rng())
    rng = small.rng()
    expected = torch.randint(0, images.domain.classes, (40,), generator=rng)
    noise = torch.randn(40, TINY["latent"], generator=rng)
    net = deepcopy(images.net).eval()
    assert torch.equal(labels, expected) and images.net.training
    torch.testing.assert_close(drawn, net(images.labels.weight[labels] * noise))


# Noise ----------------------------------------------------------------------------------------------------------


def below(z: float) -> float:
    """The share of N(0,1) below z."""
    return 0.5 * (1 + math.erf(z / 2**0.5))


def test_noise_is_normal_under_the_domain_and_clipped_to_images(problem: Problem) -> None:
    recipe = resolve("naive").recipe
    assert isinstance(recipe.images, Noise)
    inversion = Inversion(
        recipe.inversion(), problem, {"student": small.student()}, Streams("cpu", "noise"), "fp32"
    )
    made = []
    for _ in range(20):
        inversion.begin()
        made.append(inversion.finish()[0])
    images = torch.cat(made)
    assert images.shape == (20 * 64, *small.COLOUR.shape) and images.min() == 0 and images.max() == 1
    for channel, mean, std in zip(images.unbind(1), small.COLOUR.mean, small.COLOUR.std, strict=True):
        assert (channel == 0).float().mean().item() == pytest.approx(below(-mean / std), abs=0.005)
        assert (channel == 1).float().mean().item() == pytest.approx(1 - below((1 - mean) / std), abs=0.005)
        for z in (-1.0, -0.5, 0.0, 0.5, 1.0):
            share = ((channel - mean) / std < z).float().mean().item()
            assert share == pytest.approx(below(z), abs=0.005)
    assert (images[0] - images[1]).abs().mean() > 0.1
