"""FeTrIL's classifier: old classes as translations of new ones, in the space of an extractor that does not change.

Petit et al., WACV 2023, arXiv 2211.13131. A pseudo-feature of old class p is f(x) - mu_q + mu_p, x an image of the new
class q that was chosen for p.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.relation import BANDS, sample_negatives, triplet

SourceClass = Literal["nearest", "spread"]


def source_classes(
    means: Tensor, old: int, features: Tensor, labels: Tensor, rule: SourceClass, rng: torch.Generator
) -> Tensor:
    """For each of the first `old` classes of means (C,D), the new class (old,), old <= q < C, it is translated from.

    "nearest": least Euclidean distance of the means. "spread": least synthesis triplet of RGAL of the translation among
    the features (N,D) of the new classes, labels (N,): its own features far apart, those of others near.
    """
    if rule == "nearest":
        return torch.cdist(means[:old], means[old:]).argmin(1) + old
    rows = [features[labels == q] - means[q] for q in range(old, len(means))]
    chosen = []
    for p in range(old):
        losses = [_spread(part + means[p], features, labels, rng) for part in rows]
        chosen.append(int(torch.stack(losses).argmin()) + old)
    return torch.tensor(chosen, device=means.device)


def _spread(
    translated: Tensor, features: Tensor, labels: Tensor, rng: torch.Generator, limit: int = 64
) -> Tensor:
    """RGAL's synthesis triplet of translated features (M,D) with negatives among features (N,D). Of each at most
    `limit`, evenly taken: the choice needs no more."""
    ours, others = _thinned(translated, limit), _thinned(features, limit)
    rows = torch.cat([ours, others])
    known = torch.cat([torch.full((len(ours),), -1, device=labels.device), _thinned(labels, limit)])
    mine = known < 0
    negatives = sample_negatives(rows, known, BANDS["focal"], rng, among=mine[:, None] & ~mine[None, :])
    return triplet([rows], known, negatives, "spread")


def _thinned(rows: Tensor, limit: int) -> Tensor:
    number = min(limit, len(rows))
    return rows[torch.arange(number, device=rows.device) * len(rows) // number]


def translated_features(
    means: Tensor, source: Tensor, features: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """(features, labels) of all classes: the new ones' own (N,D), and for old class p those of source[p], moved from
    mean to mean: as many as that class has images."""
    rows, known = [], []
    for p, q in enumerate(source.tolist()):
        part = features[labels == q]
        rows.append(part - means[q] + means[p])
        known.append(torch.full((len(part),), p, dtype=labels.dtype, device=labels.device))
    return torch.cat([*rows, features]), torch.cat([*known, labels])


def fit_classifier(
    features: Tensor, labels: Tensor, kind: Literal["svc", "fc"], seed: int
) -> tuple[Tensor, Tensor]:
    """Linear classifier (weight (C,D), bias (C,)) of features (N,D), labels (N,) of all classes 0..C-1.

    "svc": one linear SVM a class against the rest, C = 1, on features of unit length (the official one). "fc":
    multinomial logistic regression, which is where the SGD of the authors' "fc" variant goes to, on the features as
    they are. Both by scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    x = (F.normalize(features, dim=1) if kind == "svc" else features).double().cpu().numpy()
    y = labels.cpu().numpy()
    if kind == "svc":
        model = LinearSVC(C=1.0, tol=1e-4, random_state=seed % 2**32, max_iter=5000)
    else:
        model = LogisticRegression(max_iter=1000)
    model.fit(x, y)
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if len(weight) == 1:  # scikit-learn has one row for two classes
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    return weight.to(features.device), bias.to(features.device)
