"""Put two decoded splits together: the checks that need both of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rgal.core.errors import UserError
from rgal.data.dataset import Decoded, ImageSet, fingerprint


def assemble(
    train: ImageSet | None, test: ImageSet | None, names: Sequence[str] | None, root: Path
) -> Decoded:
    """Check that two splits belong together and name their classes.

    Args:
        train, test: the decoded splits, of which one may be missing.
        names: class names in the order of the labels; None uses the labels themselves.
        root: where the images came from, for messages.

    Raises:
        UserError: one split is grayscale and the other RGB, the image sizes differ, or labels are not 0..C-1.
    """
    if train is not None and test is not None:
        _check_alike(train, test, root)
    class_names = _class_names(train, test, names, root)
    return Decoded(train, test, class_names, fingerprint(train, test))


def _check_alike(train: ImageSet, test: ImageSet, root: Path) -> None:
    """Raise UserError where the images of two splits differ in channels or size."""
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


def _class_names(
    train: ImageSet | None, test: ImageSet | None, names: Sequence[str] | None, root: Path
) -> tuple[str, ...]:
    """Return one name per class, after checking that each has an image to learn from: else its output is untrained.

    Without a training split every class needs a test image, unless the classes are named.
    """
    highest = max(int(part.labels.max()) for part in (train, test) if part is not None)
    if names is not None and highest >= len(names):
        raise UserError(
            f"'{root}': found label {highest}, expected 0 to {len(names) - 1}: {len(names)} classes are named"
        )
    classes = highest + 1 if names is None else len(names)
    part, kind = (train, "training") if train is not None else (test, "test")
    present = set() if part is None else set(torch.unique(part.labels).tolist())
    # Stops at the first gap, so that identifiers mistaken for labels cost no time.
    missing = next((label for label in range(classes) if label not in present), None)
    if missing is not None and (train is not None or names is None):
        called = "" if names is None else f" ({names[missing]!r})"
        raise UserError(
            f"'{root}': class {missing}{called} has no {kind} image; expected every label "
            f"0 to {classes - 1} in the {kind} split, found {len(present)} different ones"
        )
    return tuple(names) if names is not None else tuple(str(label) for label in range(classes))
