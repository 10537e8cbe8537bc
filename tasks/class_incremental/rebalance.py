"""Training of a classifier alone, at the end of a phase, on features of new images and samples of old classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.compensation import covariance_root
from rgal.tasks.class_incremental.head import GrowingHead
from rgal.tasks.class_incremental.scoring import required
from rgal.tasks.class_incremental.statistics import ClassStatistics


@dataclass(frozen=True)
class Rebalance:
    """Train all outputs by cross-entropy on the new features and n_c samples of N(m_c, S_c) of each old class (EFC++).

    SGD with momentum 0.9 at a constant step size. The samples are drawn anew in each epoch, and all rows are shuffled.

    Args:
        epochs: passes over the rows.
        lr: step size.
        weight_decay: l2 penalty.
        batch: rows a step.
    """

    epochs: int = 50
    lr: float = 1e-3
    weight_decay: float = 5e-4
    batch: int = 256

    def __call__(
        self, head: GrowingHead, kept: ClassStatistics, features: Tensor, labels: Tensor, seed: int
    ) -> None:
        """Train the head in place; afterwards its parameters need no gradient, as before.

        Args:
            head: the classifier of old and new classes.
            kept: means, covariances and counts of the old classes.
            features: of the new classes, (N,D).
            labels: theirs, (N,).
            seed: of the samples and of the order.
        """
        rng = torch.Generator(features.device).manual_seed(seed)
        roots = torch.stack([covariance_root(one) for one in required(kept.covariances)])
        head.requires_grad_(True)
        optimiser = torch.optim.SGD(
            head.parameters(), lr=self.lr, momentum=0.9, weight_decay=self.weight_decay
        )
        for _ in range(self.epochs):
            drawn, of = drawn_features(required(kept.means), roots, required(kept.counts), rng)
            rows, targets = torch.cat([features, drawn]), torch.cat([labels, of])
            order = torch.randperm(len(rows), generator=rng, device=rows.device)
            for part in order.split(self.batch):
                with torch.enable_grad():
                    loss = F.cross_entropy(head(rows[part]), targets[part])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        head.requires_grad_(False)
        for parameter in head.parameters():
            parameter.grad = None


def drawn_features(
    means: Tensor, roots: Tensor, counts: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw n_c rows of N(m_c, L_c L_c') for each class, and return them with their classes.

    Args:
        means: (C,D).
        roots: L, (C,D,D).
        counts: n, (C,).
        rng: of the draws.

    Returns:
        Rows (sum of n, D) and classes (sum of n,).
    """
    rows = [
        mean + torch.randn(int(count), len(mean), generator=rng, device=mean.device) @ root.T
        for mean, root, count in zip(means, roots, counts, strict=True)
    ]
    return torch.cat(rows), torch.arange(len(means), device=means.device).repeat_interleave(counts)
