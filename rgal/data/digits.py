"""The handwritten digits that come with scikit-learn: 1,797 scans of 8x8 pixels, without a download."""

from __future__ import annotations

import torch
from torch import Tensor

from rgal.data.dataset import Decoded, ImageSet, fingerprint

TEST_IMAGES = 500


def read() -> Decoded:
    """Read 1,297 training and 500 test images (N,1,8,8), always in the same stratified split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images)[:, None]  # float64, 0..16
    scans = ImageSet(
        (images * 255 / 16).round().to(torch.uint8), torch.from_numpy(bunch.target).to(torch.int64)
    )
    train_index, test_index = split_indices(scans.labels)
    train, test = scans.subset(train_index), scans.subset(test_index)
    return Decoded(train, test, tuple(str(digit) for digit in range(10)), fingerprint(train, test))


def split_indices(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the training scans and of the test scans among all `labels` (1797,)."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, random_state=0, stratify=labels.numpy()
    )
    return torch.from_numpy(train), torch.from_numpy(test)
