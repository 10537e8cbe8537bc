"""Statistics of old classes that may be kept in place of images: means and spreads of their features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

Statistic = Literal["means", "covariances", "radius"]


@dataclass(frozen=True)
class ClassStatistics:
    """Hold statistics of the pooled features (D) of all classes so far; None is what a method does not keep.

    They stay as they were when a class was new, although the extractor goes on training.

    Args:
        means: (C,D).
        covariances: biased, (C,D,D).
        radius: a scalar, the root of the mean over the classes of the first phase of tr(covariance) / D: PASS's one
            scale for all classes.
    """

    means: Tensor | None = None
    covariances: Tensor | None = None
    radius: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def megabytes(self) -> float:
        """Return the size of what is kept, in MB (10^6 bytes)."""
        return sum(value.numel() * value.element_size() for value in self.tensors().values()) / 1e6


def add_classes(
    kept: ClassStatistics, features: Tensor, labels: Tensor, classes: range, keep: Collection[Statistic]
) -> ClassStatistics:
    """Return the statistics of old classes followed by those of new ones.

    The radius is computed from the first classes and never changes.

    Args:
        kept: statistics of the old classes.
        features: of real images of the new classes, (N,D); every new class has at least one.
        labels: theirs, (N,).
        classes: labels of the new classes.
        keep: which statistics are kept.
    """
    if not keep:
        return kept
    members = [features[labels == label].double() for label in classes]
    means = torch.stack([rows.mean(0) for rows in members])
    covariances = torch.stack(
        [(rows - mean).T @ (rows - mean) / len(rows) for rows, mean in zip(members, means, strict=True)]
    )
    radius = kept.radius
    if "radius" in keep and radius is None:
        trace = covariances.diagonal(dim1=1, dim2=2).sum(1)
        radius = (trace.mean() / features.shape[1]).sqrt().float()
    return ClassStatistics(
        means=_behind(kept.means, means.float()) if "means" in keep else None,
        covariances=_behind(kept.covariances, covariances.float()) if "covariances" in keep else None,
        radius=radius,
    )


def _behind(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat([old, new])
