"""Every source of images, small, and steps that optimise what it makes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.problem import Problem
from rgal.synthesis.generators import ConditionalGenerator, FreshGenerator, PersistentGenerator
from rgal.synthesis.image_source import Adam, ImageSource, ImageSpec
from rgal.synthesis.meta import MetaGenerator
from rgal.synthesis.pixels import Pixels
from tests.helpers import small

TINY: dict[str, Any] = {"latent": 8, "width": 4}

SPECS: dict[str, ImageSpec] = {
    "pixels": Pixels(),
    "fresh": FreshGenerator(**TINY),
    "fresh, large": FreshGenerator(**TINY, large=True, lr_latent=0.05),
    "persistent": PersistentGenerator(**TINY),
    "conditional": ConditionalGenerator(**TINY),
    "fomaml": MetaGenerator(**TINY),
    "reptile": MetaGenerator(**TINY, form="reptile"),
}

GENERATORS = [name for name in SPECS if name != "pixels"]

TARGETS = torch.tensor([0, 0, 1, 2, 3, 4])

N = len(TARGETS)

OPTIMISER = Adam(0.02)


def make(name: str, seed: int = 0) -> ImageSource:
    return SPECS[name].build(small.COLOUR, torch.device("cpu"), seed)


def begun(name: str, rng: torch.Generator | None = None, seed: int = 0) -> ImageSource:
    images = make(name, seed)
    begin(images, rng or small.rng())
    return images


def begin(images: ImageSource, rng: torch.Generator, optimiser: Adam = OPTIMISER) -> None:
    images.attach(N, rng)
    images.start(TARGETS, optimiser)


def loss_of(problem: Problem, images: Tensor) -> Tensor:
    return F.cross_entropy(problem.teacher(problem.domain.normalise(images)), TARGETS)


def optimise(images: ImageSource, problem: Problem, steps: int) -> list[Tensor]:
    """The images of every step, as they were before it."""
    before_each = []
    for _ in range(steps):
        made = images.images()
        before_each.append(made.detach().clone())
        images.step(loss_of(problem, made))
    return before_each


def values(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]
