"""Evaluation of a network on stored images: accuracy, agreement with another network, confidence, features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Agreement:
    """How alike a student and its teacher answer. No label is needed to know it.

    Attributes:
        top1: share of the images on which both name the same class, in percent.
        kl: mean of KL(teacher || student) of their class probabilities, in nats.
    """

    top1: float
    kl: float


def agreement(student: Tensor, teacher: Tensor) -> Agreement:
    """Compare the logits (N,C) of a student and of its teacher on the same images; see `logits_of`.

    >>> agreement(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[2.0, 0.0], [2.0, 0.0]])).top1
    50.0
    """
    ours, theirs = (logits.double().log_softmax(1) for logits in (student, teacher))
    same = student.argmax(1) == teacher.argmax(1)
    kl = (theirs.exp() * (theirs - ours)).sum(1).clamp(min=0).mean()
    return Agreement(100.0 * int(same.sum()) / len(same), float(kl))


@torch.no_grad()
def logits_of(
    net: nn.Module, images: Tensor, domain: Domain, precision: Precision = "fp32", batch: int = 512
) -> Tensor:
    """Return a network's logits (N,C), float32 on the host, in evaluation mode.

    Args:
        net: images (N,C,H,W), normalised, to logits (N, classes).
        images: uint8 (N,C,H,W).
        domain: how images are normalised.
        precision: "fp32" or "bf16".
        batch: images per forward pass.
    """
    return _over_batches(net, lambda inputs: net(inputs).float(), images, domain, precision, batch).cpu()


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
