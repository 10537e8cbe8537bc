"""FeTrIL's classifier: old classes as translations of new ones, in the space of an extractor that does not change.

Petit et al., WACV 2023, arXiv 2211.13131. A pseudo-feature of old class p is f(x) - mu_q + mu_p, where x is an image of
the new class q from which p is translated.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.negatives import BANDS, sample_negatives
from rgal.terms.relation import triplet

SourceClass = Literal["nearest", "spread"]


def source_classes(
    means: Tensor, old: int, features: Tensor, labels: Tensor, rule: SourceClass, rng: torch.Generator
) -> Tensor:
    """Choose for each old class the new class q, old <= q < C, from which it is translated.

    Args:
        means: of all classes, old ones first, (C,D).
        old: number of old classes.
        features: of the new classes, (N,D).
        labels: theirs, (N,).
        rule: "nearest": the least Euclidean distance of the means. "spread": the least spread triplet of RGAL of the
            translation among the features of the new classes: own features far apart, those of others near.
        rng: draws the triplets' negatives.

    Returns:
        One new class for each old one, (old,).
    """
    if rule == "nearest":
        return torch.cdist(means[:old], means[old:]).argmin(1) + old
    rows = [features[labels == q] - means[q] for q in range(old, len(means))]
    sources = []
    for p in range(old):
        losses = [_spread(part + means[p], features, labels, rng) for part in rows]
        sources.append(int(torch.stack(losses).argmin()) + old)
    return torch.tensor(sources, device=means.device)


def _spread(
    translated: Tensor, features: Tensor, labels: Tensor, rng: torch.Generator, limit: int = 64
) -> Tensor:
    """Return RGAL's spread triplet of translated features (M,D) with negatives among features (N,D).

    At most `limit` of each are used, evenly taken, which is enough for a choice.
    """
    ours, others = _thinned(translated, limit), _thinned(features, limit)
    rows = torch.cat([ours, others])
    row_labels = torch.cat([torch.full((len(ours),), -1, device=labels.device), _thinned(labels, limit)])
    mine = row_labels < 0
    negatives = sample_negatives(rows, row_labels, BANDS["focal"], rng, among=mine[:, None] & ~mine[None, :])
    return triplet([rows], negatives, "spread")


def _thinned(rows: Tensor, limit: int) -> Tensor:
    number = min(limit, len(rows))
    return rows[torch.arange(number, device=rows.device) * len(rows) // number]


def translated_features(
    means: Tensor, source: Tensor, features: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return features and labels of all classes: translated ones of old classes, then the new classes' own.

    Args:
        means: of all classes, (C,D).
        source: for each old class p the new class whose features are moved by mu_p - mu_source[p], (old,).
        features: of the new classes, (N,D).
        labels: theirs, (N,).
    """
    rows, row_labels = [], []
    for p, q in enumerate(source.tolist()):
        part = features[labels == q]
        rows.append(part - means[q] + means[p])
        row_labels.append(torch.full((len(part),), p, dtype=labels.dtype, device=labels.device))
    return torch.cat([*rows, features]), torch.cat([*row_labels, labels])


def fit_classifier(
    features: Tensor, labels: Tensor, kind: Literal["svc", "fc"], seed: int
) -> tuple[Tensor, Tensor]:
    """Fit a linear classifier of all classes 0..C-1 with scikit-learn.

    Args:
        features: (N,D).
        labels: (N,).
        kind: "svc": for each class a linear SVM against the rest, C = 1, on features of unit length (the official one).
            "fc": multinomial logistic regression on the features as they are, to which the SGD of the authors' "fc"
            variant converges.
        seed: of the SVMs.

    Returns:
        weight (C,D) and bias (C,).
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
