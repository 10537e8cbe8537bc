"""The whole synthesis and transfer loss of methods, from their papers' and releases' formulas and published weights.

Slow and obvious, in float64; nothing here is taken from `rgal.terms` or from a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.helpers import naive

Running = Sequence[tuple[Tensor, Tensor]]


@dataclass
class Seen:
    """What the networks gave for one batch: logits, the teacher's feature, batch norm inputs with (mean, variance) of
    the running statistics, layers; the images, as made and as the networks saw them, both normalised; `past`: batch
    norm inputs of the last step of every earlier round."""

    student: Tensor
    teacher: Tensor
    feature: Tensor
    norms: Sequence[Tensor]
    running: Running
    targets: Tensor
    student_layers: Sequence[Tensor]
    teacher_layers: Sequence[Tensor]
    images: Tensor
    view: Tensor
    past: Sequence[Sequence[Tensor]] = field(default_factory=list)


# Parts ----------------------------------------------------------------------------------------------------------


def sure(teacher: Tensor) -> Tensor:
    """Cross-entropy with the most likely class of each row."""
    return naive.cross_entropy(teacher, torch.tensor([int(row.argmax()) for row in teacher]))


def entropy(p: Tensor) -> Tensor:
    return -sum(x * torch.log(x) for x in p)


def mean_entropy(teacher: Tensor) -> Tensor:
    return sum(entropy(naive.softmax(row)) for row in teacher) / len(teacher)


def minus_class_entropy(teacher: Tensor) -> Tensor:
    """Minus the entropy of the average of the softmaxes."""
    return -entropy(sum(naive.softmax(row) for row in teacher) / len(teacher))


def mean_absolute(values: Tensor) -> Tensor:
    return sum(v.abs() for v in values.flatten()) / values.numel()


def gaussian_divergence(inputs: Sequence[Tensor], running: Running) -> Tensor:
    """sum over channels of ln(S/s) + (s^2 + (m - M)^2) / 2S^2 - 1/2, s and S deviations after 1e-5 to the variances."""
    total = torch.zeros((), dtype=torch.float64)
    for x, (running_mean, running_var) in zip(inputs, running, strict=True):
        for c, (mean, var) in enumerate(zip(*naive.channel_statistics(x), strict=True)):
            s, wanted = torch.sqrt(var + 1e-5), torch.sqrt(running_var[c].double() + 1e-5)
            shift = mean - running_mean[c].double()
            total = total + torch.log(wanted / s) + (s**2 + shift**2) / (2 * wanted**2) - 0.5
    return total


def momentum_norms(
    inputs: Sequence[Tensor], running: Running, past: Sequence[Sequence[Tensor]], momentum: float
) -> Tensor:
    """Norms of running statistics minus 0.1 of the batch's minus 0.9 of the average over earlier rounds (0.9 being the
    momentum); without earlier rounds, of running statistics minus the batch's."""
    total = torch.zeros((), dtype=torch.float64)
    for layer, x in enumerate(inputs):
        for kind in (0, 1):  # means, variances
            now = naive.channel_statistics(x)[kind]
            if past:
                average = [v.item() for v in naive.channel_statistics(past[0][layer].double())[kind]]
                for earlier in past[1:]:
                    values = naive.channel_statistics(earlier[layer].double())[kind]
                    average = [
                        momentum * a + (1 - momentum) * v.item() for a, v in zip(average, values, strict=True)
                    ]
                now = [(1 - momentum) * v + momentum * a for v, a in zip(now, average, strict=True)]
            wanted = running[layer][kind].double()
            total = total + naive.norm([w - v for w, v in zip(wanted, now, strict=True)])
    return total


def attention(layer: Tensor) -> list[Tensor]:
    """Of each sample: the squares of the channels, averaged, flat, divided by their norm."""
    maps = []
    for sample in layer:
        energy = (sum(channel**2 for channel in sample) / len(sample)).flatten()
        maps.append(energy / naive.norm(list(energy)))
    return maps


def attention_transfer(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(students, teachers, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(attention(s), attention(t), strict=True)]
        total = total + sum(square.sum() for square in squares) / (len(squares) * len(squares[0]))
    return total


# Methods --------------------------------------------------------------------------------------------------------

Loss = Callable[[Seen], Tensor]


def dafl(act: float, ie: float) -> Loss:
    return lambda s: sure(s.teacher) - act * mean_absolute(s.feature) + ie * minus_class_entropy(s.teacher)


def kl_game(s: Seen) -> Tensor:
    return -naive.kl_div(s.student, s.teacher, 1.0)


def adversarial_dfq_code(s: Seen) -> Tensor:
    return (
        kl_game(s)
        + naive.batch_norm_l2(s.norms, s.running)
        + sure(s.teacher)
        + 20 * minus_class_entropy(s.teacher)
    )


def adversarial_dfq_paper(s: Seen) -> Tensor:
    likeness = gaussian_divergence(s.norms, s.running) + mean_entropy(s.teacher)
    return kl_game(s) + likeness + 20 * minus_class_entropy(s.teacher)


def inversion(oh: float, adv: float) -> Loss:
    """FastDFKD's and NAYER's."""
    return lambda s: (
        10 * momentum_norms(s.norms, s.running, s.past, 0.9)
        + oh * naive.cross_entropy(s.teacher, s.targets)
        + adv * naive.masked_disagreement(s.student, s.teacher)
    )


def deep_inversion(s: Seen) -> Tensor:
    """CMI's script, with the divergence as it is defined."""
    return (
        10 * naive.batch_norm_l2(s.norms, s.running)
        + naive.cross_entropy(s.teacher, s.targets)
        - naive.jensen_shannon(s.student, s.teacher, 3)
        + 1e-3 * naive.total_variation_l1(s.images)
    )


def deep_inversion_imagenet(s: Seen) -> Tensor:
    first, rest = slice(0, 1), slice(1, None)
    return (
        0.1 * naive.batch_norm_l2(s.norms[first], s.running[first])
        + 0.01 * naive.batch_norm_l2(s.norms[rest], s.running[rest])
        + naive.cross_entropy(s.teacher, s.targets)
        + 1e-4 * naive.total_variation_l2(s.view)
        + 1e-5 * naive.image_l2(s.images, (0, 0, 0), (1, 1, 1))
    )


def adaptive(smooth: float, divergence: Callable[[Tensor, Tensor, float], Tensor]) -> Loss:
    """1 - divergence is the competition term; its constant of 0.2 is left out."""
    return lambda s: (
        10 * naive.batch_norm_l2(s.norms, s.running)
        + naive.cross_entropy(s.teacher, s.targets)
        + 0.2 * (1 - divergence(s.student, s.teacher, 3))
        - 0.2
        + smooth * naive.total_variation_l2(s.view)
    )


def kd(temperature: float) -> Loss:
    return lambda s: naive.kl_div(s.student, s.teacher, temperature)


METHODS: dict[str, tuple[Loss, Loss]] = {
    "dafl": (dafl(0.001, 20), kd(1)),
    "dafl[follows=paper]": (dafl(0.1, 5), kd(1)),
    "zskt": (kl_game, kd(1)),
    "zskt[follows=paper]": (  # 250 at 32x32; the images here have a quarter of those pixels
        kl_game,
        lambda s: kd(1)(s) + 250 / 4 * attention_transfer(s.student_layers, s.teacher_layers),
    ),
    "dfad": (
        lambda s: -mean_absolute(s.student - s.teacher),
        lambda s: mean_absolute(s.student - s.teacher),
    ),
    "adversarial_dfq": (adversarial_dfq_code, kd(1)),
    "adversarial_dfq[follows=paper]": (adversarial_dfq_paper, kd(1)),
    "deepinversion": (deep_inversion, kd(20)),
    "deepinversion[variant=imagenet]": (deep_inversion_imagenet, kd(20)),
    "adaptive_deepinversion": (adaptive(2.5e-5, naive.jensen_shannon), kd(3)),
    "adaptive_deepinversion[follows=code]": (adaptive(1e-3, naive.clamped_jensen_shannon), kd(3)),
    "fast": (inversion(0.4, 1.1), kd(20)),
    "nayer": (inversion(0.5, 1.33), kd(20)),
}
