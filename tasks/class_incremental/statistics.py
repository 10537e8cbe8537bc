"""What a class-incremental learner keeps of old classes instead of images: means and spreads of their features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, evaluating

Kept = Literal["means", "covariances", "radius"]


@dataclass(frozen=True)
class Memory:
    """Statistics of pooled features f (D) by class, of the classes seen so far; empty where nothing is kept.

    means (C,D). covariances (C,D,D), biased. radius (): sqrt of the mean over the *base* classes of
    tr(covariance) / D, PASS's one scale of all classes. Frozen as they were when a class was new: the extractor moves
    on, they do not.
    """

    means: Tensor | None = None
    covariances: Tensor | None = None
    radius: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def megabytes(self) -> float:
        return sum(value.numel() * value.element_size() for value in self.tensors().values()) / 1e6


@torch.no_grad()
def features_of(
    net: nn.Module, images: Tensor, domain: Domain, precision: Precision = "fp32", batch: int = 512
) -> Tensor:
    """Pooled features (N,D) in float32 of uint8 images (N,C,H,W), un-augmented, in evaluation mode."""
    device = next(net.parameters()).device
    found = []
    with evaluating(net), autocast(device, precision):
        for pixels in images.split(batch):
            inputs = domain.normalise(pixels.to(device).float() / 255)
            seen = observe(net, inputs.contiguous(memory_format=torch.channels_last), ("feature",))
            assert seen.feature is not None
            found.append(seen.feature.float())
    return torch.cat(found)


def remember(
    memory: Memory, features: Tensor, labels: Tensor, classes: range, keep: Collection[Kept]
) -> Memory:
    """The memory with the statistics of new `classes` behind those of the old ones.

    features (N,D) and labels (N,) of real images of the new classes, each of which has one. The radius is made when the
    first classes are, and stays.
    """
    if not keep:
        return memory
    members = [features[labels == label].double() for label in classes]
    means = torch.stack([rows.mean(0) for rows in members])
    covariances = torch.stack(
        [(rows - mean).T @ (rows - mean) / len(rows) for rows, mean in zip(members, means, strict=True)]
    )
    radius = memory.radius
    if "radius" in keep and radius is None:
        trace = covariances.diagonal(dim1=1, dim2=2).sum(1)
        radius = (trace.mean() / features.shape[1]).sqrt().float()
    return Memory(
        means=_behind(memory.means, means.float()) if "means" in keep else None,
        covariances=_behind(memory.covariances, covariances.float()) if "covariances" in keep else None,
        radius=radius,
    )


def _behind(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None else torch.cat([old, new])
