"""Images that mix classes: a conditional generator told several labels at once, and by how much each.

Choi et al., "Qimera: Data-free Quantization with Synthetic Boundary Supporting Samples", NeurIPS 2021,
arXiv 2111.02625.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.problem import Domain
from rgal.synthesis.generators import ConditionalGenerator, ConditionalGeneratorSource
from rgal.synthesis.image_source import Adam


@dataclass(frozen=True)
class MixedGenerator(ConditionalGenerator):
    """A conditional generator whose input is sum_k w_k normalise(E(y_k) + z_k), with targets sum_k w_k onehot(y_k).

    normalise: mean 0 and variance 1 over the latent dimension. probability: of a batch to be mixed, w = softmax of
    N(0, I_K), the K = `mixed` labels of an image drawn with replacement; of other batches w = (1, 0, ..., 0). E starts
    from N(0,1), the paper's random embedding: the parameterisation sees no teacher whose head could be E's start.

    Shares reach the student with source="batch" alone; a pool keeps the label with the largest.
    """

    mixed: int = 2
    probability: float = 0.4

    def build(self, domain: Domain, device: torch.device, seed: int) -> _MixedGenerator:
        if self.mixed < 1:
            raise ValueError(f"an image shows at least one label, got mixed={self.mixed}")
        return _MixedGenerator(self, domain, device, seed)


def class_shares(labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    """sum_k w_ik onehot(y_ik): labels, weights (N,K) -> (N,C). A label drawn twice has the sum of its weights."""
    # Not scatter_add, whose order of summation varies on GPUs.
    onehot = labels[..., None] == torch.arange(classes, device=labels.device)
    return (weights[..., None] * onehot).sum(1)


class _MixedGenerator(ConditionalGeneratorSource):
    """State beside the base's: labels and weights (N,K) of the round."""

    spec: MixedGenerator

    def __init__(self, spec: MixedGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        nothing = torch.empty(0, spec.mixed, device=device)
        self._mix(nothing.long(), nothing)

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        super().start(targets, optimiser)
        n, spec, rng, device = len(targets), self.spec, self.rng, self.device
        others = torch.randint(0, self.domain.classes, (n, spec.mixed - 1), generator=rng, device=device)
        # In descending order the drawn target leads, so that batches keep their classes; the labels are exchangeable.
        noise = torch.randn(n, spec.mixed, generator=rng, device=device)
        weights = noise.softmax(1).sort(1, descending=True).values
        alone = F.pad(torch.ones(n, 1, device=device), (0, spec.mixed - 1))
        coin = torch.rand((), generator=rng, device=device)
        self._mix(
            torch.cat([targets[:, None], others], 1), torch.where(coin < spec.probability, weights, alone)
        )

    def _mix(self, members: Tensor, weights: Tensor) -> None:
        self.members, self.weights = members, weights
        self.shares = class_shares(members, weights, self.domain.classes)

    def images(self) -> Tensor:
        shape = (*self.members.shape, self.spec.latent)
        noise = torch.randn(shape, generator=self.rng, device=self.device)
        inputs = F.layer_norm(self.labels(self.members) + noise, (self.spec.latent,))
        return self.net((self.weights[..., None] * inputs).sum(1)).float()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"members": self.members, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._mix(state["members"].to(self.device), state["weights"].to(self.device))
