"""Drift compensation: what the end of a phase does to statistics of old classes, whose images are gone.

The extractor has moved from g to f while it learnt a phase. Both can be looked at on the phase's own images: from how
these moved it is estimated how the old classes did. Each compensation is a value of `IncrementalSpec.compensate` and is
called before the statistics of the new classes are added, so that no new row can be moved. Rows of equal length are
those of the same image; statistics are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from rgal.core.problem import Domain
from rgal.core.seeding import global_seed
from rgal.data.batches import to_float
from rgal.tasks.class_incremental.scoring import required
from rgal.tasks.class_incremental.statistics import ClassStatistics, biased_covariance


@dataclass(frozen=True)
class Shift:
    """Hold what the end of a phase knows of the extractor's drift. No image of an earlier phase is in it.

    Args:
        old: features g of the phase's images by the model at the phase's start, (M,D).
        new: features f of the same images by the model at its end, (M,D).
        images: uint8 (M,C,H,W).
        domain: how images are normalised.
        before: from normalised images to features g, differentiable in the images.
        after: the same for f.
        terms: the terms of the phase's objective by name, as they were trained.
        seed: of what is drawn.
    """

    old: Tensor
    new: Tensor
    images: Tensor
    domain: Domain
    before: Callable[[Tensor], Tensor]
    after: Callable[[Tensor], Tensor]
    terms: Mapping[str, nn.Module]
    seed: int

    def inputs(self, rows: Tensor) -> Tensor:
        """Return the normalised images of these rows."""
        pixels = self.images[rows.to(self.images.device)].to(self.old.device)
        return self.domain.normalise(to_float(pixels))

    def bounds(self) -> tuple[float, float]:
        """Return the least and the greatest value that a normalised pixel can have."""
        pixels = zip(self.domain.mean, self.domain.std, strict=True)
        ends = [((0 - mean) / std, (1 - mean) / std) for mean, std in pixels]
        return min(low for low, _ in ends), max(high for _, high in ends)


class Compensation(Protocol):
    """Move the statistics of old classes as the extractor has moved."""

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics: ...


@dataclass(frozen=True)
class LinearDrift:
    """Map features by P = I + (A'A + eps I)^-1 A'(B - A), A = g(images), B = f(images): m -> m P, S -> P'SP.

    The map is the least-squares one, drawn towards the identity: it is exactly that where nothing has moved, and in
    directions in which the phase's images have no extent. LDC and DPCR fit theirs from a random start or towards 0,
    which forgets those directions.

    Args:
        ridge: eps.
    """

    ridge: float = 1.0

    def map(self, old: Tensor, new: Tensor) -> Tensor:
        """Return P, float64 (D,D), of features (M,D) before and after."""
        a, b = old.double(), new.double()
        identity = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        return identity + torch.linalg.solve(a.T @ a + self.ridge * identity, a.T @ (b - a))

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics:
        matrix = self.map(shift.old, shift.new)
        means = (required(kept.means).double() @ matrix).float()
        if kept.covariances is None:
            return replace(kept, means=means)
        covariances = (matrix.T @ kept.covariances.double() @ matrix).float()
        return replace(kept, means=means, covariances=covariances)


@dataclass(frozen=True)
class KernelDrift:
    """Move each mean by a weighted mean of f - g over the images near it: m_c -> m_c + sum_i w_ci (f_i - g_i).

    metric "euclid" (SDC, Yu et al., CVPR 2020): w_ci ~ exp(-|g_i - m_c|^2 / 2 sigma^2) + 1e-5. "importance" (EFC):
    w_ci ~ exp(a_ci / 2 sigma^2) with a = (max d - d) / (max d - min d) over all c and i, where E is the importance of
    features that the last phase left and d_ci = (g_i - m_c)' E (g_i - m_c). Covariances stay.
    """

    sigma: float
    metric: Literal["euclid", "importance"] = "euclid"

    def weights(self, means: Tensor, old: Tensor, importance: Tensor | None) -> Tensor:
        """Return w (C,M), rows of sum 1, of means (C,D) and features g (M,D), in float64."""
        if self.metric == "euclid":
            distances = torch.cdist(means, old).square()
            weights = torch.exp(-distances / (2 * self.sigma**2)) + 1e-5
            return weights / weights.sum(1, keepdim=True)
        difference = old[None] - means[:, None]
        distances = ((difference @ required(importance).double()) * difference).sum(2)
        high, low = distances.max(), distances.min()
        affinity = (high - distances) / (high - low).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.softmax(affinity / (2 * self.sigma**2), dim=1)

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics:
        means, old = required(kept.means).double(), shift.old.double()
        weights = self.weights(means, old, kept.importance)
        return replace(kept, means=(means + weights @ (shift.new.double() - old)).float())


@dataclass(frozen=True)
class AttackDrift:
    """Move each mean by f - g at new images that were attacked until the old model takes them for the class (ADC).

    For each old class the images whose g is nearest to the mean take `steps` steps x <- clamp(x - alpha G / |G|_F) of
    the gradient G of mean (g(x) - m_c)^2, in normalised pixels, |.|_F over all of them, inside the range that pixels
    have. The mean moves by the mean of f - g over those that are then nearest to it among all old means; by that of
    the images as they were if none is.

    Args:
        alpha: length of a step.
        steps: of each attack.
        images: attacked for each class.
    """

    alpha: float = 25.0
    steps: int = 3
    images: int = 100

    def attacked(
        self, inputs: Tensor, mean: Tensor, before: Callable[[Tensor], Tensor], bounds: tuple[float, float]
    ) -> Tensor:
        """Return the images (M,C,H,W) after the attack towards the mean (D,)."""
        x = inputs.clone()
        for _ in range(self.steps):
            x.requires_grad_()
            with torch.enable_grad():
                loss = (before(x) - mean).square().mean()
            (gradient,) = torch.autograd.grad(loss, x)
            length = torch.linalg.vector_norm(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
            x = (x.detach() - self.alpha * gradient / length).clamp(*bounds)
        return x

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics:
        means = required(kept.means)
        bounds = shift.bounds()
        moved = []
        for label, mean in enumerate(means):
            nearest = torch.cdist(mean[None], shift.old)[0].topk(
                min(self.images, len(shift.old)), largest=False
            )
            x = self.attacked(shift.inputs(nearest.indices), mean, shift.before, bounds)
            with torch.no_grad():
                old, new = shift.before(x), shift.after(x)
            taken = torch.cdist(old, means).argmin(1) == label
            if not bool(taken.any()):
                old, new = shift.old[nearest.indices], shift.new[nearest.indices]
                taken = torch.ones_like(taken)
            moved.append(mean + (new - old)[taken].double().mean(0))
        return replace(kept, means=torch.stack(moved).float())


@dataclass(frozen=True)
class MappedDrift:
    """Map samples of N(m_c, S_c) by a net h that was trained from g to f; take their mean and covariance (AdaGauss).

    h = Linear(D, width D) - GELU - Linear(width D, D), trained by SGD with momentum 0.9, decay 5e-4, gradients cut to
    norm 1, a tenth of the step size after 30, 60 and 90 % of the steps, on mean squared error + `collapse` times the
    anti-collapse term of the batch.

    Args:
        steps: of the training.
        batch: images a step.
        lr: step size.
        width: of h, in features.
        samples: of each class.
        loss: a further loss of h(g), or None.
    """

    steps: int = 1900
    batch: int = 256
    lr: float = 0.01
    width: int = 32
    samples: int = 10_000
    loss: Callable[[Tensor], Tensor] | None = None

    def net(self, shift: Shift) -> nn.Module:
        """Train h on the features of the phase's images."""
        old, new = shift.old.float(), shift.new.float()
        wide = old.shape[1]
        with global_seed(shift.seed, "map"):
            net = nn.Sequential(
                nn.Linear(wide, self.width * wide), nn.GELU(), nn.Linear(self.width * wide, wide)
            ).to(old.device)
        rng = torch.Generator(old.device).manual_seed(shift.seed)
        optimiser = torch.optim.SGD(net.parameters(), lr=self.lr, momentum=0.9, weight_decay=5e-4)
        for step in range(self.steps):
            for group in optimiser.param_groups:
                group["lr"] = self.lr * 0.1 ** sum(step >= share * self.steps for share in (0.3, 0.6, 0.9))
            rows = torch.randint(len(old), (self.batch,), generator=rng, device=old.device)
            with torch.enable_grad():
                mapped = net(old[rows])
                loss = (mapped - new[rows]).square().mean()
                loss = loss if self.loss is None else loss + self.loss(mapped)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
        return net.eval().requires_grad_(False)

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics:
        net = self.net(shift)
        rng = torch.Generator(shift.old.device).manual_seed(shift.seed + 1)
        means, covariances = [], []
        for mean, covariance in zip(required(kept.means), required(kept.covariances), strict=True):
            noise = torch.randn(self.samples, len(mean), generator=rng, device=mean.device)
            mapped = net(mean + noise @ covariance_root(covariance).T).double()
            means.append(mapped.mean(0))
            covariances.append(biased_covariance(mapped))
        return replace(kept, means=torch.stack(means).float(), covariances=torch.stack(covariances).float())


@dataclass(frozen=True)
class LearntDrift:
    """Map the means by the layer that the phase's term `name` has trained from old features to new ones (FCS).

    Args:
        name: of the term, whose attribute `layer` is a linear layer from (N,D) to (N,D).
    """

    name: str

    def __call__(self, kept: ClassStatistics, shift: Shift) -> ClassStatistics:
        layer = shift.terms[self.name].layer
        with torch.no_grad():
            return replace(kept, means=layer(required(kept.means)))  # type: ignore[operator]


def covariance_root(covariance: Tensor) -> Tensor:
    """Return L with L L' = S (D,D), for any S that is a covariance: also of fewer images than features."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return (vectors * values.clamp_min(0).sqrt()).to(covariance.dtype)
