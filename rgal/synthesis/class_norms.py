"""A persistent generator whose batch norms are told the class, as a source of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rgal.core.precision import place
from rgal.core.problem import Domain
from rgal.core.seeding import global_seed
from rgal.nets.class_norms import ClassNormGenerator
from rgal.synthesis.generators import (
    ConditionalGenerator,
    ConditionalGeneratorSource,
    square_images,
)
from rgal.synthesis.image_source import Adam


@dataclass(frozen=True)
class ClassNormalised(ConditionalGenerator):
    """Optimise one `ClassNormGenerator` through the whole run. Its draws come with their labels.

    Args:
        renewed: whether every step has a new Adam, whose step is the learning rate times the gradient's sign.
    """

    renewed: bool = False

    def build(self, domain: Domain, device: torch.device, seed: int) -> ClassNormalisedSource:
        return ClassNormalisedSource(self, domain, device, seed)


class ClassNormalisedSource(ConditionalGeneratorSource):
    """Hold the generator and its optimiser. See `ClassNormalised`."""

    spec: ClassNormalised

    def make_net(self, seed: int) -> nn.Module:
        channels, size = square_images(self.domain)
        with global_seed(seed, "generator"):
            net = ClassNormGenerator(self.spec.latent, self.domain.classes, channels, size, self.spec.width)
        return place(net, self.device).train()

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        super().start(targets, optimiser)
        if self.spec.renewed:
            self._make_optimiser(optimiser)

    def made(self, noise: Tensor, labels: Tensor) -> Tensor:
        images: Tensor = self.net(noise, labels)
        return images.float()
