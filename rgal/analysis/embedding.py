"""Place images in the plane by t-SNE of their features, reproducibly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgal.core.errors import in_short

FEWEST = 30  # images of either kind that a meaningful map takes
STEPS = 500
PERPLEXITY = 30.0  # at most; fewer points have fewer neighbours
DIGITS = 2


def embedding(features: NDArray[np.float32], labels: Sequence[int], synthetic: int) -> dict[str, Any]:
    """Compute coordinates in the plane by t-SNE (van der Maaten & Hinton, JMLR 2008), as scikit-learn has it.

    Args:
        features: (N,D).
        labels: (N,).
        synthetic: how many of the first rows are synthetic images.

    Returns:
        "x", "y", "label" and "synthetic", lists of N values, and "perplexity"; or "skipped" with the reason if t-SNE
        fails for any reason.
    """
    if not np.ptp(features, axis=0).any():  # native code of scikit-learn ends the process over these
        return {"skipped": "t-SNE: all features are equal"}
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    try:
        points = _tsne(features, perplexity)
    except Exception as error:
        return {"skipped": f"t-SNE: {in_short(error)}"}
    if not np.isfinite(points).all():
        return {"skipped": "t-SNE: coordinates that are not finite"}
    return {
        "perplexity": round(perplexity, DIGITS),
        **{
            axis: [round(float(v), DIGITS) for v in column]
            for axis, column in zip("xy", points.T, strict=True)
        },
        "label": [int(label) for label in labels],
        "synthetic": [row < synthetic for row in range(len(features))],
    }


def _tsne(features: NDArray[np.float32], perplexity: float) -> NDArray[np.float32]:
    """Run t-SNE in one thread: several threads add in varying order, and t-SNE magnifies the difference."""
    from sklearn.manifold import TSNE  # takes a second to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,import-not-found]

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = TSNE(2, perplexity=perplexity, init="pca", max_iter=STEPS, random_state=0)
        points: NDArray[np.float32] = mapping.fit_transform(features)
    return points
