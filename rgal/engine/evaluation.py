"""Evaluation of a network on stored images: accuracy, which images are classified right, features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, evaluating
from rgal.data.batches import evaluate_batches
from rgal.data.dataset import ImageSet


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
    device = next(net.parameters()).device
    right = []
    with evaluating(net), autocast(device, precision):
        for pixels, targets in evaluate_batches(ImageSet(images, labels), batch, device):
            logits = net(domain.normalise(pixels).contiguous(memory_format=torch.channels_last))
            right.append(logits.argmax(1) == targets)
    return torch.cat(right).cpu()


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
    device = next(net.parameters()).device
    features = []
    with evaluating(net), autocast(device, precision):
        for pixels in images.split(batch):
            inputs = domain.normalise(pixels.to(device).float() / 255)
            observation = observe(net, inputs.contiguous(memory_format=torch.channels_last), ("feature",))
            features.append(observation.required_feature.float())
    return torch.cat(features)
