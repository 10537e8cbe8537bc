"""The memory beside a generator: its loss against a loop, what it learns from, and whom it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch

from rgal.nets.autoencoder import Autoencoder, gaussian_divergence
from rgal.synthesis.remembering import RememberingGenerator, RememberingGeneratorSource, remembered_code_loss
from tests.helpers import small
from tests.helpers.image_builders import OPTIMISER


def test_the_loss_of_a_remembered_code_is_that_of_a_loop() -> None:
    logits, codes = small.randn(4, 3).double(), small.randn(4, 5, seed=1).double()
    rows = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits.tolist()]
    shares = [sum(row[c] for row in rows) / 4 for c in range(3)]
    expected = 5 * sum(p * math.log10(p) for p in shares) - sum(math.log(max(row)) for row in rows) / 4
    for column in codes.T.tolist():
        mean = sum(column) / 4
        variance = sum((v - mean) ** 2 for v in column) / 3
        expected += ((variance - 1) ** 2 + mean**2) / 5
    assert remembered_code_loss(logits, codes).item() == pytest.approx(expected)


def test_divergence_of_a_loop() -> None:
    mean, log_variance = small.randn(3, 2).double(), small.randn(3, 2, seed=1).double()
    pairs = zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True)
    expected = sum(0.5 * (m * m + math.exp(v) - 1 - v) for m, v in pairs) / 3
    assert gaussian_divergence(mean, log_variance).item() == pytest.approx(expected)


def source() -> RememberingGeneratorSource:
    one = RememberingGenerator(latent=6, width=4).build(small.GREY, small.DEVICE, 0)
    one.meet(small.problem(small.GREY).teacher)
    one.attach(8, small.rng())
    one.start(torch.zeros(8, dtype=torch.int64), OPTIMISER)
    return one


def test_it_learns_at_the_first_four_of_ten_draws_and_from_then_on_remembers() -> None:
    one, rng, learnt = source(), small.rng(1), []
    generator, teacher = small.snapshot(one.net), small.snapshot(one.teacher)
    for _ in range(12):
        before = small.snapshot(one.memory)["codes.weight"]
        images = one.draw(18, rng)
        assert images.shape == (18, *small.GREY.shape) and not images.requires_grad
        assert images.min() >= 0 and images.max() <= 1
        learnt.append(not torch.equal(before, small.snapshot(one.memory)["codes.weight"]))
    assert learnt == [True] * 4 + [False] * 6 + [True] * 2
    small.assert_same(generator, small.snapshot(one.net))
    small.assert_same(teacher, small.snapshot(one.teacher))
    assert all(parameter.grad is None for parameter in one.teacher.parameters())


def test_a_stored_memory_goes_on_alike() -> None:
    one, again = source(), source()
    one.draw(18, small.rng(1))
    again.load_state_dict(small.reloaded(one.state_dict()))
    for seed in (2, 3):
        assert torch.equal(one.draw(18, small.rng(seed)), again.draw(18, small.rng(seed)))
    small.assert_same(one.state_dict()["memory"], again.state_dict()["memory"])


def test_codes_and_images_have_their_shapes() -> None:
    net = Autoencoder(6, 3, 16, 4)
    mean, log_variance = net.encode(small.rand(2, 3, 16, 16))
    assert mean.shape == log_variance.shape == (2, 6) and net.decode(mean).shape == (2, 3, 16, 16)
