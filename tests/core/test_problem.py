"""What a method is given: a frozen teacher, and the normalisation of its images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rgal.core.problem import Problem, evaluating, freeze
from tests.helpers import small

DOMAIN = small.COLOUR


def test_normalising_is_per_channel_and_undone() -> None:
    images = small.rand(4, *DOMAIN.shape)
    normalised = DOMAIN.normalise(images)
    for channel, (mean, std) in enumerate(zip(DOMAIN.mean, DOMAIN.std, strict=True)):
        torch.testing.assert_close(normalised[:, channel], (images[:, channel] - mean) / std)
    torch.testing.assert_close(DOMAIN.denormalise(normalised), images)


def test_clipping_keeps_what_pixels_can_be() -> None:
    images = 3 * small.randn(4, *DOMAIN.shape)
    expected = DOMAIN.normalise(DOMAIN.denormalise(images).clamp(0, 1))
    torch.testing.assert_close(DOMAIN.clip_normalised(images), expected)
    assert not DOMAIN.denormalise(images).clamp(0, 1).equal(DOMAIN.denormalise(images))


def test_a_problem_freezes_its_teacher() -> None:
    teacher = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    teacher(torch.ones(1, 1, 5, 5)).sum().backward()
    problem = Problem(teacher, small.GREY)
    assert not any(module.training for module in problem.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_a_problem_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        small.problem().teacher = nn.Identity()  # type: ignore[misc]


def test_every_module_returns_to_its_own_mode_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2)).train()
    freeze(net[1])
    with pytest.raises(ZeroDivisionError), evaluating(net):
        assert not any(module.training for module in net.modules())
        raise ZeroDivisionError
    assert net.training and net[0].training and not net[1].training
