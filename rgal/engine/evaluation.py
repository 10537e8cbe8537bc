"""Evaluation of a network on stored images: accuracy, which images are classified right, features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, evaluating
from rgal.data.batches import to_float


def top1(
    net: nn.Module, images: Tensor, labels: Tensor, domain: Domain, precision: Precision = "fp32"
) -> float:
    """Return the top-1 accuracy in percent.

    Args:
        net: images (N,C,H,W), normalised, to logits (N, classes).
        images: uint8 (N,C,H,W).
        labels: (N,).
        domain: how images are normalised.
        precision: "fp32" or "bf16".
    """
    return 100.0 * int(hits(net, images, labels, domain, precision).sum()) / len(images)


@torch.no_grad()
def hits(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    domain: Domain,
    precision: Precision = "fp32",
    batch: int = 512,
) -> Tensor:
    """Return which images are classified right, as bool (N,) on the host.

    The network is put into evaluation mode; afterwards all its modules have their old modes.

    Args:
        net: images (N,C,H,W), normalised, to logits (N, classes).
        images: uint8 (N,C,H,W).
        labels: (N,).
        domain: how images are normalised.
        precision: "fp32" or "bf16".
        batch: images per forward pass.
    """
    classes = _over_batches(net, lambda inputs: net(inputs).argmax(1), images, domain, precision, batch)
    return (classes == labels.to(classes.device)).cpu()


@torch.no_grad()
def features_of(
    net: nn.Module, images: Tensor, domain: Domain, precision: Precision = "fp32", batch: int = 512
) -> Tensor:
    """Return the pooled features (N,D), float32, of images without augmentation, in evaluation mode.

    Args:
        net: a network whose classifier is known (`head_name`).
        images: uint8 (N,C,H,W).
        domain: how images are normalised.
        precision: "fp32" or "bf16".
        batch: images per forward pass.
    """

    def features(inputs: Tensor) -> Tensor:
        return observe(net, inputs, ("feature",)).required_feature.float()

    return _over_batches(net, features, images, domain, precision, batch)


def _over_batches(
    net: nn.Module,
    read: Callable[[Tensor], Tensor],
    images: Tensor,
    domain: Domain,
    precision: Precision,
    batch: int,
) -> Tensor:
    """Return what `read` gives for the network's inputs, batch by batch, with the network in evaluation mode."""
    device = next(net.parameters()).device
    with evaluating(net), autocast(device, precision):
        return torch.cat(
            [
                read(
                    domain.normalise(to_float(pixels.to(device))).contiguous(
                        memory_format=torch.channels_last
                    )
                )
                for pixels in images.split(batch)
            ]
        )
