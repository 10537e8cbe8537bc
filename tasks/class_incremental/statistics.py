"""What a class-incremental learner keeps of old classes instead of images: means and spreads of their features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

Statistic = Literal["means", "covariances", "radius"]


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of pooled features f (D) by class, of the classes seen so far; empty where nothing is kept.

    means (C,D). covariances (C,D,D), biased. radius (): sqrt of the mean over the *base* classes of
    tr(covariance) / D, PASS's one scale of all classes. Frozen as they were when a class was new: the extractor moves
    on, they do not.
    """

    means: Tensor | None = None
    covariances: Tensor | None = None
    radius: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def megabytes(self) -> float:
        """Return its size in MB (10^6 bytes)."""
        return sum(value.numel() * value.element_size() for value in self.tensors().values()) / 1e6


def add_classes(
    kept: ClassStatistics, features: Tensor, labels: Tensor, classes: range, keep: Collection[Statistic]
) -> ClassStatistics:
    """Return the statistics of the old classes with those of new `classes` behind them.

    features (N,D) and labels (N,) of real images of the new classes, each of which has one. The radius is made when the
    first classes are, and stays.
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
