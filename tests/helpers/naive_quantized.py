"""Slow, obvious versions of the terms of HAST, SynQ and AdaDFQ. As in `naive`."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.helpers.naive import cross_entropy, norm, softmax

# HAST ---------------------------------------------------------------------------------------------------------------


def focal(logits: Tensor, labels: Sequence[int], gamma: float) -> Tensor:
    """(1/N) sum_i (1 - p_iy)^gamma (-ln p_iy)."""
    p = [softmax(row)[label] for row, label in zip(logits, labels, strict=True)]
    return sum(-((1 - x) ** gamma) * torch.log(x) for x in p) / len(p)


def energies(sample: Tensor) -> list[Tensor]:
    """Of each channel of (C,H,W): the mean of its squares, over the norm of these means."""
    means = [(channel**2).sum() / channel.numel() for channel in sample]
    return [mean / norm(means) for mean in means]


def alignment(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(students, teachers, strict=True):
        squares = [
            (a - b) ** 2
            for one, other in zip(s, t, strict=True)
            for a, b in zip(energies(one), energies(other), strict=True)
        ]
        total = total + sum(squares) / len(squares)
    return total


# SynQ ---------------------------------------------------------------------------------------------------------------


def easy_cross_entropy(student: Tensor, teacher: Tensor, labels: Sequence[int], threshold: float) -> Tensor:
    """Cross-entropy of those rows whose label the teacher gives at least 1 - threshold, over the number of all rows."""
    total = 0.0 * student.sum()
    for s, t, y in zip(student, teacher, labels, strict=True):
        if 1 - float(softmax(t.double())[y]) <= threshold:
            total = total + cross_entropy(s[None], torch.tensor([y]))
    return total / len(student)


def low_pass(image: Tensor, deviation: float) -> Tensor:
    """One channel (H,W): its discrete Fourier transform times exp(-(u^2 + v^2) / 2 deviation^2), and back."""
    height, width = image.shape

    def signed(k: int, n: int) -> int:
        return k if k < n - n // 2 else k - n

    out = torch.zeros(height, width, dtype=torch.float64)
    for u in range(height):
        for v in range(width):
            value = sum(
                float(image[y, x]) * cmath.exp(-2j * math.pi * (u * y / height + v * x / width))
                for y in range(height)
                for x in range(width)
            )
            distance = signed(u, height) ** 2 + signed(v, width) ** 2
            value *= math.exp(-distance / (2 * deviation**2))
            for y in range(height):
                for x in range(width):
                    wave = cmath.exp(2j * math.pi * (u * y / height + v * x / width))
                    out[y, x] += (value * wave).real / (height * width)
    return out


def pooled_head_map(layer: Tensor, head: Tensor, logits: Tensor) -> Tensor:
    """sum_k max(w_ck, 0) A_k of one image, c its largest logit, scaled to [0,1]: (C,H,W) -> (H,W).

    This is the map of a network that ends in the spatial mean and a linear layer, whose gradient at A is w_c / (H W).
    """
    weights = head[int(logits.argmax())]
    total = sum(max(float(w), 0.0) * channel for w, channel in zip(weights, layer, strict=True)).clamp_min(0)
    return (total - total.min()) / (total.max() - total.min())


# AdaDFQ -------------------------------------------------------------------------------------------------------------


def entropy(logits: Tensor) -> Tensor:
    return -sum(p * torch.log(p) for p in softmax(logits))


def adaptability(student: Tensor, teacher: Tensor, lower: float, upper: float) -> Tensor:
    """Hinges, below `lower` and above `upper`, of the entropies of t - s, scaled so that the least is 0, ln C is 1."""
    values = [entropy(t - s) for s, t in zip(student, teacher, strict=True)]
    least = min(values, key=lambda value: float(value.detach()))
    scaled = [(value - least) / (math.log(student.shape[1]) - least) for value in values]
    hinges = [torch.relu(lower - x) + torch.relu(x - upper) for x in scaled]
    return sum(hinges) / len(hinges)


def logit_gap(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    values = [entropy((t - s) / temperature) for s, t in zip(student, teacher, strict=True)]
    return -(temperature**2) * sum(values) / len(values)
