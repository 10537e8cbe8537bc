"""Slow, obvious versions of the terms: loops over samples, pairs, channels and layers, one formula a function.

Written from the formulas (papers and docs), not from the code under test. Tensors are float64 and stay
differentiable, so that gradients can be compared too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Probabilities --------------------------------------------------------------------------------------------------


def softmax(logits: Tensor) -> Tensor:
    """exp(z_c) / sum_k exp(z_k) of one row."""
    powers = [torch.exp(z - logits.detach().max()) for z in logits]
    return torch.stack([power / sum(powers) for power in powers])


def kl(p: Tensor, q: Tensor) -> Tensor:
    """sum_c p_c ln(p_c / q_c)."""
    return sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


def kl_per_sample(student: Tensor, teacher: Tensor, temperature: float) -> list[Tensor]:
    """T^2 KL(teacher || student) of every row."""
    return [
        temperature**2 * kl(softmax(t / temperature), softmax(s / temperature))
        for s, t in zip(student, teacher, strict=True)
    ]


def kl_div(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return sum(kl_per_sample(student, teacher, temperature)) / len(student)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-(1/N) sum_i ln p_i[target_i]."""
    rows = zip(logits, targets.tolist(), strict=True)
    return sum(-torch.log(softmax(z)[c]) for z, c in rows) / len(logits)


def masked_disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """-(1/N) sum over the samples on whose class both nets agree of KL(p || q)."""
    total = 0 * student.sum() + 0 * teacher.sum()
    for s, t in zip(student, teacher, strict=True):
        if int(s.argmax()) == int(t.argmax()):
            total = total - kl(softmax(t), softmax(s))
    return total / len(student)


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean of KL(p || m)/2 + KL(q || m)/2, m = (p + q)/2."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        q, p = softmax(s / temperature), softmax(t / temperature)
        m = (p + q) / 2
        total = total + kl(p, m) / 2 + kl(q, m) / 2
    return total / len(student)


def clamped_jensen_shannon(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean of KL(m || p)/2 + KL(m || q)/2 with p, q and m = (p + q)/2 each clamped to [0.01, 0.99]."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(s / temperature), softmax(t / temperature)
        p, q, m = (x.clamp(0.01, 0.99) for x in (p, q, (p + q) / 2))
        total = total + kl(m, p) / 2 + kl(m, q) / 2
    return total / len(student)


# Images and statistics ------------------------------------------------------------------------------------------


def norm(values: Sequence[Tensor]) -> Tensor:
    return torch.sqrt(sum(v * v for v in values))


def channel_statistics(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Mean and biased variance of every channel."""
    means, variances = [], []
    for channel in range(x.shape[1]):
        values = x[:, channel].flatten()
        mean = values.sum() / len(values)
        means.append(mean)
        variances.append(((values - mean) ** 2).sum() / len(values))
    return means, variances


def batch_norm_l2(inputs: Sequence[Tensor], running: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """sum_l ||running_var - var||_2 + ||running_mean - mean||_2; `running` holds (mean, variance) a layer."""
    total = torch.zeros((), dtype=torch.float64)
    for x, (running_mean, running_var) in zip(inputs, running, strict=True):
        means, variances = channel_statistics(x)
        total = total + norm([a - b for a, b in zip(running_var.double(), variances, strict=True)])
        total = total + norm([a - b for a, b in zip(running_mean.double(), means, strict=True)])
    return total


def batch_norm_mse(inputs: Sequence[Tensor], running: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over layers of the mean over channels of (mean - running_mean)^2 + (var - running_var)^2."""
    layers = []
    for x, (running_mean, running_var) in zip(inputs, running, strict=True):
        errors = [
            (mean - running_mean[c].double()) ** 2 + (var - running_var[c].double()) ** 2
            for c, (mean, var) in enumerate(zip(*channel_statistics(x), strict=True))
        ]
        layers.append(sum(errors) / len(errors))
    return sum(layers) / len(layers)


def spatial_statistics(channel: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of one channel of one image; variance 0 of a single pixel."""
    values = channel.flatten()
    mean = values.sum() / len(values)
    return mean, ((values - mean) ** 2).sum() / max(1, len(values) - 1)


def image_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """`spatial_statistics` of every image's channels, two (N,C)."""
    pairs = [spatial_statistics(channel) for image in x for channel in image]
    mean, var = zip(*pairs, strict=True)
    return torch.stack(mean).view(x.shape[:2]), torch.stack(var).view(x.shape[:2])


def image_norm_l2(
    inputs: Sequence[Tensor], running: Sequence[tuple[Tensor, Tensor]], images: Tensor
) -> Tensor:
    """Of each image: squared distances of its layers' means to the running ones, of its deviations to the running ones,
    of the means of its own channels to 0 and of their deviations to 1; mean over images."""
    total = torch.zeros((), dtype=torch.float64)
    for i, image in enumerate(images):
        for channel in image:
            mean, var = spatial_statistics(channel)
            total = total + mean**2 + (torch.sqrt(var + 1e-6) - 1) ** 2
        for x, (running_mean, running_var) in zip(inputs, running, strict=True):
            for c, channel in enumerate(x[i]):
                mean, var = spatial_statistics(channel)
                wanted = torch.sqrt(running_var[c].double() + 1e-6)
                total = (
                    total + (mean - running_mean[c].double()) ** 2 + (torch.sqrt(var + 1e-6) - wanted) ** 2
                )
    return total / len(images)


def total_variation_l1(images: Tensor) -> Tensor:
    """Mean |difference| to the right, lower, lower right and lower left neighbour, the four added up."""
    height, width = images.shape[2:]
    total = torch.zeros((), dtype=torch.float64)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        differences = []
        for y in range(height - down):
            for x in range(width):
                if 0 <= x + right < width:
                    differences.append((images[:, :, y + down, x + right] - images[:, :, y, x]).abs())
        total = total + torch.stack(differences).mean()
    return total


def total_variation_l2(images: Tensor) -> Tensor:
    """sqrt of the sum of squared differences to the right, lower, lower right and lower left neighbour, the four added
    up; sums over pixels, channels and images."""
    height, width = images.shape[2:]
    total = torch.zeros((), dtype=torch.float64)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = torch.zeros((), dtype=torch.float64)
        for y in range(height - down):
            for x in range(width):
                if 0 <= x + right < width:
                    difference = images[:, :, y + down, x + right] - images[:, :, y, x]
                    squares = squares + (difference**2).sum()
        total = total + torch.sqrt(squares)
    return total


def image_l2(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Mean over images of sqrt(sum of squares) of the normalised image."""
    total = torch.zeros((), dtype=torch.float64)
    for image in images:
        channels = [(image[c] - mean[c]) / std[c] for c in range(len(mean))]
        total = total + torch.sqrt(sum((channel**2).sum() for channel in channels))
    return total / len(images)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(len(mean))], dim=1)


# Layers ---------------------------------------------------------------------------------------------------------


def mapped(weight: Tensor, bias: Tensor, layer: Tensor) -> Tensor:
    """A 1x1 convolution: out_t = sum_s W_ts in_s + b_t at every pixel."""
    weight, bias = weight.double().flatten(1), bias.double()
    return torch.stack(
        [
            torch.stack(
                [
                    sum(w * c for w, c in zip(row, sample, strict=True)) + b
                    for row, b in zip(weight, bias, strict=True)
                ]
            )
            for sample in layer
        ]
    )


def channel_distillation(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """sum_l mean over samples and channels of (mean_hw s - mean_hw t)^2; students are already mapped."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(students, teachers, strict=True):
        errors = []
        for i in range(s.shape[0]):
            for c in range(s.shape[1]):
                errors.append((s[i, c].mean() - t[i, c].mean()) ** 2)
        total = total + sum(errors) / len(errors)
    return total


def gram_weights(teacher: Tensor) -> Tensor:
    """1.001 - minmax(A), A_nc = sum_c' <T_nc, T_nc'>; 1.001 where all A are equal."""
    n, channels = teacher.shape[:2]
    affinity = torch.zeros(n, channels, dtype=torch.float64)
    for i in range(n):
        for c in range(channels):
            affinity[i, c] = sum(float((teacher[i, c] * teacher[i, d]).sum()) for d in range(channels))
    low, high = float(affinity.min()), float(affinity.max())
    return 1.001 - (affinity - low) / (high - low if high > low else 1.0)


def gram_distillation(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """sum_l mean over samples, channels and pixels of weight_nc (s - t)^2; students are already mapped."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(students, teachers, strict=True):
        weight = gram_weights(t.detach())
        parts = []
        for i in range(s.shape[0]):
            for c in range(s.shape[1]):
                parts.append(weight[i, c] * ((s[i, c] - t[i, c]) ** 2).mean())
        total = total + sum(parts) / len(parts)
    return total


# Relations ------------------------------------------------------------------------------------------------------


def unit(row: Tensor) -> Tensor:
    return row / torch.sqrt((row * row).sum())


def distance(a: Tensor, b: Tensor) -> Tensor:
    """||a - b||, a constant zero where they coincide."""
    if torch.equal(a, b):
        return 0.0 * a.sum()
    return torch.sqrt(((a - b) ** 2).sum())


def distances(rows: Tensor) -> list[list[Tensor]]:
    """Of the rows scaled to unit length."""
    units = [unit(row) for row in rows]
    return [[distance(a, b) for b in units] for a in units]


def density(d: float, dimension: int) -> float:
    """q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2), up to a constant (Wu et al. 2017)."""
    return d ** (dimension - 2) * (1 - d * d / 4) ** ((dimension - 3) / 2)


def negative_probabilities(
    rows: Tensor, labels: Sequence[int], low: float, high: float, clamp: float = 0.0, weighted: bool = True
) -> tuple[list[list[float]], list[bool], list[bool]]:
    """P(j | anchor i), whether i has any negative, whether it has one inside the band.

    1/q(d) over negatives inside the band; uniform over all negatives where none is inside; zeros where none exists.
    """
    table = [[float(d) for d in row] for row in distances(rows.double())]
    probabilities, exists, in_band = [], [], []
    for i, anchor in enumerate(labels):
        others = [j for j, label in enumerate(labels) if label != anchor]
        clamped = {j: max(table[i][j], clamp) for j in others}
        inside = [j for j in others if low < clamped[j] < high]
        weights = [0.0] * len(labels)
        for j in inside or others:
            weights[j] = 1 / density(clamped[j], rows.shape[1]) if inside and weighted else 1.0
        total = sum(weights) or 1.0
        probabilities.append([w / total for w in weights])
        exists.append(bool(others))
        in_band.append(bool(inside))
    return probabilities, exists, in_band


def positive_pairs(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Ordered (a, p), a != p, of the same label."""
    n = len(labels)
    return [(a, p) for a in range(n) for p in range(n) if a != p and labels[a] == labels[p]]


def triplet(
    layers: Sequence[Tensor],
    labels: Sequence[int],
    index: Sequence[Sequence[int]],
    polarity: str,
    margin: float,
) -> Tensor:
    """Mean over positive pairs (a,p) of sum over layers of the hinge; index[a][p] is the pair's negative."""
    total = sum(0.0 * layer.sum() for layer in layers)
    pairs = positive_pairs(labels) if len(set(labels)) > 1 else []
    for layer in layers:
        for a, p in pairs:
            anchor, same, other = unit(layer[a]), unit(layer[p]), unit(layer[index[a][p]])
            near, far = distance(anchor, same), distance(anchor, other)
            hinge = near - far + margin if polarity == "gather" else far - near + margin
            if hinge > 0:
                total = total + hinge
    return total / max(1, len(pairs))


def fallback_share(labels: Sequence[int], exists: Sequence[bool], in_band: Sequence[bool]) -> float:
    """Of the anchors with a positive and a negative: the share without a negative inside the band."""
    anchors = [i for i, label in enumerate(labels) if list(labels).count(label) > 1 and exists[i]]
    return sum(not in_band[i] for i in anchors) / len(anchors) if anchors else 0.0


def relation_distances(rows: Tensor, labels: Sequence[int]) -> tuple[float, float]:
    """Mean distance of same-label and of different-label pairs; 0 without pairs."""
    table = distances(rows.double())
    same, different = [], []
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j:
                (same if labels[i] == labels[j] else different).append(float(table[i][j]))
    return math.fsum(same) / max(1, len(same)), math.fsum(different) / max(1, len(different))


# Contrast -------------------------------------------------------------------------------------------------------


def contrastive(local: Tensor, anchor: Tensor, batch: int, temperature: float) -> Tensor:
    """Mean over the batch's rows plus mean over the memory's rows of -ln softmax_j(<l_i, a_j> / tau) at j = i."""
    losses = []
    for i in range(len(local)):
        similarities = [(local[i] * anchor[j].detach()).sum() / temperature for j in range(len(anchor))]
        losses.append(-torch.log(softmax(torch.stack(similarities))[i]))
    loss = sum(losses[:batch]) / batch
    memory = losses[batch:]
    return loss + sum(memory) / len(memory) if memory else loss


# Views ----------------------------------------------------------------------------------------------------------


def crop_flip(image: Tensor, top: int, left: int, mirrored: bool, padding: int) -> Tensor:
    """One image: zeros around it, a window at (top, left), mirrored or not."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    window = padded[:, top : top + height, left : left + width]
    return window.flip(2) if mirrored else window


def crop(image: Tensor, left: float, top: float, right: float, bottom: float) -> Tensor:
    """One image: pixel (i, j) of the result lies i, j even steps from corner to corner of the box, its value is the
    bilinear mean of the four pixels around it."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            y, x = top + (bottom - top) * i / (height - 1), left + (right - left) * j / (width - 1)
            y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
            fy, fx = y - y0, x - x0
            upper = (1 - fx) * image[:, y0, x0] + fx * image[:, y0, x0 + 1]
            lower = (1 - fx) * image[:, y0 + 1, x0] + fx * image[:, y0 + 1, x0 + 1]
            out[:, i, j] = (1 - fy) * upper + fy * lower
    return out
