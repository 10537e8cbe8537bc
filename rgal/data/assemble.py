"""Put two decoded splits together: the checks that need both of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rgal.core.errors import UserError
from rgal.data.dataset import Decoded, ImageSet, fingerprint


def assemble(train: ImageSet, test: ImageSet, names: Sequence[str] | None, root: Path) -> Decoded:
    """Check that two splits belong together and name their classes.

    Args:
        train, test: the decoded splits.
        names: class names in the order of the labels; None uses the labels themselves.
        root: where the images came from, for messages.

    Raises:
        UserError: one split is grayscale and the other RGB, the image sizes differ, or labels are not 0..C-1.
    """
    train_channels, test_channels = train.images.shape[1], test.images.shape[1]
    if train_channels != test_channels:
        kind = {1: "grayscale", 3: "RGB"}
        raise UserError(
            f"'{root}': found {kind[train_channels]} training images and {kind[test_channels]} test images, "
            "expected the same in both"
        )
    if train.images.shape[2:] != test.images.shape[2:]:
        (h, w), (test_h, test_w) = train.images.shape[2:], test.images.shape[2:]
        raise UserError(
            f"'{root}': found training images of {w}x{h} and test images of {test_w}x{test_h} pixels, "
            "expected one size; give --set image_size=... to resize them all"
        )
    class_names = _class_names(train, test, names, root)
    return Decoded(train, test, class_names, fingerprint(train, test))


def _class_names(train: ImageSet, test: ImageSet, names: Sequence[str] | None, root: Path) -> tuple[str, ...]:
    """Return one name per class, after checking that each class has a training image: else its output is untrained."""
    highest = int(max(train.labels.max(), test.labels.max()))
    if names is not None and highest >= len(names):
        raise UserError(
            f"'{root}': found label {highest}, expected 0 to {len(names) - 1}: {len(names)} classes are named"
        )
    classes = highest + 1 if names is None else len(names)
    present = set(torch.unique(train.labels).tolist())
    # Stops at the first gap, so that identifiers mistaken for labels cost no time.
    missing = next((label for label in range(classes) if label not in present), None)
    if missing is not None:
        called = "" if names is None else f" ({names[missing]!r})"
        raise UserError(
            f"'{root}': class {missing}{called} has no training image; expected every label "
            f"0 to {classes - 1} in the training split, found {len(present)} different ones"
        )
    return tuple(names) if names is not None else tuple(str(label) for label in range(classes))
