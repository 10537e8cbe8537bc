"""Statistics of old classes that may be kept in place of images: means and spreads of their features."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.core.errors import UserError

Statistic = Literal["means", "covariances", "counts", "radius", "gram", "cross", "importance"]


@dataclass(frozen=True)
class ClassStatistics:
    """Hold statistics of the pooled features (D) of all classes so far; None is what a method does not keep.

    They stay as they were when a class was new, unless a method compensates the drift of the extractor (see
    `class_incremental.compensation`).

    Args:
        means: (C,D).
        covariances: biased, (C,D,D).
        counts: images of each class, (C,) int64.
        radius: a scalar, the root of the mean over the classes of the first phase of tr(covariance) / D: PASS's one
            scale for all classes.
        gram: sum over all images of h h', float64 (K,K), h the input of a ridge classifier.
        cross: sum over all images of h e_y', e_y the unit vector of the image's class, float64 (K,C).
        importance: of the last phase's images, see `drift_terms.feature_importance`, (D,D).
    """

    means: Tensor | None = None
    covariances: Tensor | None = None
    radius: Tensor | None = None
    counts: Tensor | None = None
    gram: Tensor | None = None
    cross: Tensor | None = None
    importance: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return what is kept, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def megabytes(self) -> float:
        """Return the size of what is kept, in MB (10^6 bytes)."""
        return sum(value.numel() * value.element_size() for value in self.tensors().values()) / 1e6


@dataclass(frozen=True)
class Collecting:
    """Say which statistics of a phase's features are kept, and in which form.

    Args:
        keep: which are kept. "importance" is not of features alone and is added by the run.
        power: of every feature before covariances are taken (FeCAM's Tukey transform); means are of the features as
            they are.
        inputs: makes the inputs (N,K) of a ridge classifier of features (N,D).
    """

    keep: Collection[Statistic]
    power: float = 1.0
    inputs: Callable[[Tensor], Tensor] = Tensor.double


def add_classes(
    kept: ClassStatistics, features: Tensor, labels: Tensor, classes: range, collecting: Collecting
) -> ClassStatistics:
    """Return the statistics of old classes followed by those of new ones, all of them summed in float64.

    The radius is computed from the first classes and never changes.

    Args:
        kept: statistics of the old classes.
        features: of real images of the new classes, (N,D); every new class has at least one.
        labels: theirs, (N,).
        classes: labels of the new classes.
        collecting: which statistics are kept.

    Raises:
        UserError: a power is to be taken of negative features.
    """
    keep = collecting.keep
    if not keep:
        return kept
    members = [features[labels == label].double() for label in classes]
    means = torch.stack([rows.mean(0) for rows in members])
    covariances = torch.stack([biased_covariance(raised(rows, collecting.power)) for rows in members])
    radius = kept.radius
    if "radius" in keep and radius is None:
        trace = covariances.diagonal(dim1=1, dim2=2).sum(1)
        radius = (trace.mean() / features.shape[1]).sqrt().float()
    gram, cross = kept.gram, kept.cross
    if "gram" in keep:
        gram, cross = _with_products(kept, collecting.inputs(features), labels, classes)
    counts = torch.tensor([len(rows) for rows in members], device=features.device)
    return ClassStatistics(
        means=_behind(kept.means, means.float()) if "means" in keep else None,
        covariances=_behind(kept.covariances, covariances.float()) if "covariances" in keep else None,
        radius=radius,
        counts=_behind(kept.counts, counts) if "counts" in keep else None,
        gram=gram,
        cross=cross,
        importance=kept.importance,
    )


def biased_covariance(rows: Tensor) -> Tensor:
    """Return (1/N) sum_i (x_i - m)(x_i - m)' of rows (N,D), m their mean."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def raised(features: Tensor, power: float) -> Tensor:
    """Return every entry to the power.

    Raises:
        UserError: an entry is negative, and the power is not 1.
    """
    if power == 1:
        return features
    if bool((features < 0).any()):
        raise UserError(
            f"power={power:g}: the network's features are negative in places, expected those of a ReLU; use power=1"
        )
    return features.pow(power)


def _with_products(
    kept: ClassStatistics, inputs: Tensor, labels: Tensor, classes: range
) -> tuple[Tensor, Tensor]:
    """Return the sums of h h' and h e_y' over earlier images and these, with inputs h (N,K), in float64."""
    gram = inputs.T @ inputs
    cross = inputs.T @ F.one_hot(labels, classes.stop).to(inputs.dtype)
    if kept.gram is not None and kept.cross is not None:
        gram = gram + kept.gram
        cross = cross + F.pad(kept.cross, (0, cross.shape[1] - kept.cross.shape[1]))
    return gram, cross


def _behind(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat([old, new])
