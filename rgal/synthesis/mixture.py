"""Images that mix classes: a conditional generator is given several labels at once, and a weight for each.

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
    """Make images from mixed labels: the input is sum_k w_k normalise(E(y_k) + z_k), the target sum_k w_k onehot(y_k).

    `normalise` gives mean 0 and variance 1 over the latent dimension. In a mixed batch w = softmax of N(0, I_K), in
    other batches w = (1, 0, ..., 0). The embedding E starts from N(0,1), the paper's random embedding; a source of
    images does not see the teacher, whose head is the paper's other start. The shares w reach the student only with
    source="batch"; a pool keeps the label with the largest share.

    Args:
        mixed: K, the labels of an image, drawn with replacement.
        probability: of a batch to be mixed.
    """

    mixed: int = 2
    probability: float = 0.4

    def build(self, domain: Domain, device: torch.device, seed: int) -> MixedGeneratorSource:
        if self.mixed < 1:
            raise ValueError(f"an image shows at least one label, got mixed={self.mixed}")
        return MixedGeneratorSource(self, domain, device, seed)


def class_shares(labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Sum the weights of each class: sum_k w_ik onehot(y_ik).

    Args:
        labels, weights: y and w, (N,K).
        classes: number of classes, C.

    Returns:
        (N,C).

    >>> class_shares(torch.tensor([[0, 2], [1, 1]]), torch.tensor([[0.75, 0.25], [0.5, 0.5]]), 3)
    tensor([[0.7500, 0.0000, 0.2500],
            [0.0000, 1.0000, 0.0000]])
    """
    # Not scatter_add, whose order of summation varies on GPUs.
    onehot = labels[..., None] == torch.arange(classes, device=labels.device)
    return (weights[..., None] * onehot).sum(1)


class MixedGeneratorSource(ConditionalGeneratorSource):
    """Optimise a generator of mixed images. Adds to the base's state the round's labels and weights (N,K)."""

    spec: MixedGenerator

    def __init__(self, spec: MixedGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        nothing = torch.empty(0, spec.mixed, device=device)
        self._mix(nothing.long(), nothing)

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        super().start(targets, optimiser)
        n, spec, rng, device = len(targets), self.spec, self.rng, self.device
        others = torch.randint(0, self.domain.classes, (n, spec.mixed - 1), generator=rng, device=device)
        # Sorted, so that the target has the largest weight and batches keep their classes; labels are exchangeable.
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

    def made(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Make images (n,C,H,W) of one label each."""
        return self.net(F.layer_norm(self.labels(labels) + noise, (self.spec.latent,))).float()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"members": self.members, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._mix(state["members"].to(self.device), state["weights"].to(self.device))
