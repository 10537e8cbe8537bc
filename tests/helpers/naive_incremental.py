"""Slow, obvious versions of what class-incremental methods minimise and keep: loops over images, classes and channels.

Written from the formulas of papers and releases, not from the code under test. float64 and differentiable, as in
`naive`. A batch is R real images of new classes, then S replayed ones of old classes; O classes are old, C all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.helpers import naive

# Outputs --------------------------------------------------------------------------------------------------------


def head_logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """w_c f + b_c of every row f and class c."""
    rows = []
    for f in features:
        rows.append(torch.stack([(w * f).sum() + b for w, b in zip(weight, bias, strict=True)]))
    return torch.stack(rows)


def surprise(z: Tensor, label: int) -> Tensor:
    """-ln softmax(z)[label] of one row."""
    return -torch.log(naive.softmax(z)[label])


def local_cross_entropy(logits: Tensor, labels: Sequence[int], old: int) -> Tensor:
    """Mean cross-entropy among the classes old, old + 1, ... alone."""
    total = 0.0 * logits.sum()
    for z, label in zip(logits, labels, strict=True):
        total = total + surprise(z[old:], label - old)
    return total / len(logits)


def balanced_head(logits: Tensor, labels: Sequence[int], real: int, old: int) -> Tensor:
    """(1/N) [(n/C) sum of real CE + (O/C) sum of replayed CE], N all images, n = C - O."""
    classes, total = logits.shape[1], 0.0 * logits.sum()
    for i, (z, label) in enumerate(zip(logits, labels, strict=True)):
        share = (classes - old) / classes if i < real else old / classes
        total = total + share * surprise(z, label)
    return total / len(logits)


def counted_cross_entropy(logits: Tensor, labels: Sequence[int], so_far: Sequence[int]) -> Tensor:
    """sum_i w_i CE_i / sum_i w_i, w_i = (number of seen labels) / (how many of them are label i), at least 1."""
    total, weights = 0.0 * logits.sum(), 0.0
    for z, label in zip(logits, labels, strict=True):
        weight = max(1.0, len(so_far) / list(so_far).count(label))
        total, weights = total + weight * surprise(z, label), weights + weight
    return total / weights


def soft_cross_entropy(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """-(1/N) sum_i sum_{c<O} p_c ln q_c, p and q softmaxes of O logits over T; LwF."""
    total = 0.0 * logits.sum()
    for z, t in zip(logits, old_logits, strict=True):
        p, q = naive.softmax(t / temperature), naive.softmax(z[: len(t)] / temperature)
        for c in range(len(t)):
            total = total - p[c] * torch.log(q[c])
    return total / len(logits)


def factors(old: int, new: int) -> tuple[float, float]:
    """R-DFCIL's alpha = log2(n/2 + 1) and beta = sqrt(O/n)."""
    return math.log(new / 2 + 1) / math.log(2), math.sqrt(old / new)


def hard_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """alpha beta (1/SO) sum_i sum_{c<O} |z_ic - t_ic|."""
    old = old_logits.shape[1]
    alpha, beta = factors(old, logits.shape[1] - old)
    total = 0.0 * logits.sum()
    for z, t in zip(logits, old_logits, strict=True):
        for c in range(old):
            total = total + (z[c] - t[c]).abs()
    return alpha * beta * total / old_logits.numel()


# Features -------------------------------------------------------------------------------------------------------


def feature_distillation(features: Tensor, old_features: Tensor, old_weight: Tensor) -> Tensor:
    """(1/N) sum_i (1/O) |V (f_i - g_i)|^2."""
    total = 0.0 * features.sum()
    for f, g in zip(features, old_features, strict=True):
        for v in old_weight:
            total = total + (v * (f - g)).sum() ** 2 / len(old_weight)
    return total / len(features)


def frobenius(features: Tensor, old_features: Tensor) -> Tensor:
    """Root of the sum of all squared differences."""
    return naive.norm(list((features - old_features).flatten()))


def cosine_at(i: int, j: int, k: int, rows: Tensor) -> Tensor:
    """Cosine of the angle at row i between rows j and k; 0 where j or k is i."""
    if j == i or k == i:
        return 0.0 * rows.sum()
    a, b = rows[j] - rows[i], rows[k] - rows[i]
    return (naive.unit(a) * naive.unit(b)).sum()


def angle_distillation(new: Tensor, old: Tensor) -> Tensor:
    """(1/N^3) sum over all (i,j,k) of |cosine in new - cosine in old|."""
    n, total = len(new), 0.0 * new.sum() + 0.0 * old.sum()
    for i in range(n):
        for j in range(n):
            for k in range(n):
                total = total + (cosine_at(i, j, k, new) - cosine_at(i, j, k, old)).abs()
    return total / n**3


# Prototypes -----------------------------------------------------------------------------------------------------


def prototype_cross_entropy(
    weight: Tensor, bias: Tensor, drawn: Tensor, classes: Sequence[int], outputs: int, temperature: float
) -> Tensor:
    """Mean CE of (W z + b) / T at the drawn z, labels outputs * c."""
    logits = head_logits(drawn, weight, bias)
    labels = torch.tensor([outputs * c for c in classes])
    return naive.cross_entropy(logits / temperature, labels)


def semantic_augmentation(
    weight: Tensor,
    bias: Tensor,
    means: Tensor,
    covariances: Tensor,
    classes: Sequence[int],
    strength: float,
    temperature: float,
) -> Tensor:
    """Mean CE of (w_j m_c + b_j + (k/2) q_j) / T, q_j = sum_ab d_a S_ab d_b with d = w_j - w_c; IL2A."""
    total = 0.0 * weight.sum()
    for m, s, c in zip(means, covariances, classes, strict=True):
        logits = []
        for j in range(len(weight)):
            d, q = weight[j] - weight[c], 0.0
            for a in range(len(d)):
                for b in range(len(d)):
                    q = q + d[a] * s[a, b] * d[b]
            logits.append(((weight[j] * m).sum() + bias[j] + strength / 2 * q) / temperature)
        total = total + surprise(torch.stack(logits), c)
    return total / len(means)


# Images of old classes ------------------------------------------------------------------------------------------


def content(logits: Tensor, temperature: float) -> Tensor:
    """Mean CE of t / T with each row's own most likely class."""
    return naive.cross_entropy(logits / temperature, torch.tensor([int(t.argmax()) for t in logits]))


def diversity(logits: Tensor) -> Tensor:
    """1 + sum_c P_c ln P_c / ln O, P_c the mean of the softmaxes."""
    shares = sum(naive.softmax(t) for t in logits) / len(logits)
    return 1 + sum(p * torch.log(p) for p in shares) / math.log(logits.shape[1])


def running_divergence(inputs: Sequence[Tensor], running: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over layers of the mean over channels of KL(N(M,V) || N(m,v)) = ln(s/S) + (V + (M - m)^2) / 2v - 1/2, with
    the batch's (m, v = s^2) and the running (M, V = S^2); 1e-8 is added to both variances."""
    layers = []
    for x, (running_mean, running_var) in zip(inputs, running, strict=True):
        parts = []
        for c, (mean, var) in enumerate(zip(*naive.channel_statistics(x), strict=True)):
            v, wanted = var + 1e-8, running_var[c].double() + 1e-8
            shift = running_mean[c].double() - mean
            parts.append(torch.log(torch.sqrt(v) / torch.sqrt(wanted)) + (wanted + shift**2) / (2 * v) - 0.5)
        layers.append(sum(parts) / len(parts))
    return sum(layers) / len(layers)


def mirrored(at: int, size: int) -> int:
    """Where a position outside 0 .. size - 1 is reflected to, the border itself not repeated."""
    at = abs(at)
    return at if at < size else 2 * (size - 1) - at


def roughness(images: Tensor) -> Tensor:
    """Mean of (x - blurred x)^2, weights exp(-(dx^2 + dy^2) / 4) of 5x5 neighbours, made to sum to 1."""
    reach = range(-2, 3)
    weights = {(dy, dx): math.exp(-(dx * dx + dy * dy) / 4) for dy in reach for dx in reach}
    height, width = images.shape[2:]
    total = 0.0 * images.sum()
    for y in range(height):
        for x in range(width):
            blurred = sum(
                w / sum(weights.values()) * images[:, :, mirrored(y + dy, height), mirrored(x + dx, width)]
                for (dy, dx), w in weights.items()
            )
            total = total + ((images[:, :, y, x] - blurred) ** 2).sum()
    return total / images.numel()


# What real images are shown as ----------------------------------------------------------------------------------


def turned(x: Tensor) -> Tensor:
    """A quarter turn to the left: what was at the right edge is on top."""
    size = x.shape[2]
    out = torch.empty_like(x)
    for row in range(size):
        for column in range(size):
            out[:, :, row, column] = x[:, :, column, size - 1 - row]
    return out


def four_turns(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """All images upright, then all turned once, twice, three times; labels 4y + turns."""
    images, turned_labels = [x], [4 * labels]
    for turns in (1, 2, 3):
        images.append(turned(images[-1]))
        turned_labels.append(4 * labels + turns)
    return torch.cat(images), torch.cat(turned_labels)


# What is kept of old classes ------------------------------------------------------------------------------------


def class_mean(rows: Sequence[Tensor]) -> Tensor:
    return sum(rows) / len(rows)


def class_covariance(rows: Sequence[Tensor]) -> Tensor:
    """S_ab = (1/n) sum_i (f_ia - m_a) (f_ib - m_b)."""
    mean, size = class_mean(rows), len(rows[0])
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for a in range(size):
        for b in range(size):
            covariance[a, b] = sum((f[a] - mean[a]) * (f[b] - mean[b]) for f in rows) / len(rows)
    return covariance


def members(features: Tensor, labels: Sequence[int], label: int) -> list[Tensor]:
    return [f.double() for f, y in zip(features, labels, strict=True) if y == label]


def radius(covariances: Sequence[Tensor]) -> float:
    """Root of the mean over classes of trace / D."""
    traces = [sum(float(s[a, a]) for a in range(len(s))) / len(s) for s in covariances]
    return math.sqrt(sum(traces) / len(traces))


def nearest_donors(means: Tensor, old: int) -> list[int]:
    """For each old class the new one whose mean is nearest."""
    donors = []
    for p in range(old):
        apart = {q: float(((means[p] - means[q]) ** 2).sum()) for q in range(old, len(means))}
        donors.append(min(apart, key=lambda q: apart[q]))
    return donors


def translated(
    means: Tensor, donors: Sequence[int], features: Tensor, labels: Sequence[int]
) -> list[tuple[int, Tensor]]:
    """(label, feature): of every old class p its donor q's features minus mean q plus mean p; then the new ones' own
    features."""
    rows = []
    for p, q in enumerate(donors):
        for f, y in zip(features, labels, strict=True):
            if y == q:
                rows.append((p, f - means[q] + means[p]))
    return rows + [(y, f) for f, y in zip(features, labels, strict=True)]


# Relations ------------------------------------------------------------------------------------------------------

Table = Sequence[Sequence[int]]


def among_probabilities(
    rows: Tensor, labels: Sequence[int], among: Tensor, limits: tuple[float, float, float, bool]
) -> list[list[float]]:
    """P(j | anchor i) where i may have the rows j of among[i] only: as if no others were there."""
    probabilities = []
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if bool(among[i, j]) and j != i]
        part = [i, *others]
        table, _, _ = naive.negative_probabilities(rows[part], [labels[j] for j in part], *limits)
        row = [0.0] * len(labels)
        for j, probability in zip(part, table[0], strict=True):
            row[j] = probability
        probabilities.append(row)
    return probabilities


def apart_triplet(
    layers: Sequence[Tensor], labels: Sequence[int], real: int, old: int, classes: int, index: Sequence[Table]
) -> Tensor:
    """Gather in the real images and in the replayed ones, each alone: (n/C) the one + (O/C) the other. index: the
    negatives of either, as rows of its own."""
    new_side = naive.triplet([x[:real] for x in layers], labels[:real], index[0], "gather", 0.2)
    old_side = naive.triplet([x[real:] for x in layers], labels[real:], index[1], "gather", 0.2)
    return (classes - old) / classes * new_side + old / classes * old_side


def against_constants(
    layers: Sequence[Tensor], labels: Sequence[int], real: int, index: Table, margin: float = 0.2
) -> Tensor:
    """Mean over same-label pairs (a,p) of the first `real` rows of [|u_a - u_p| - |u_a - u_n| + m]_+, n = index[a][p]
    one of the others, which are constants."""
    pairs = naive.positive_pairs(labels[:real])
    total = sum(0.0 * layer.sum() for layer in layers)
    for layer in layers:
        for a, p in pairs:
            n = index[a][p]
            assert n >= real
            anchor, same, other = (naive.unit(v) for v in (layer[a], layer[p], layer[n].detach()))
            hinge = naive.distance(anchor, same) - naive.distance(anchor, other) + margin
            if hinge > 0:
                total = total + hinge
    return total / max(1, len(pairs))
