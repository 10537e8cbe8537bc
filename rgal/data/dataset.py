"""Data sets: two splits of uint8 images in memory, of which the training split can be closed for good."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.problem import Domain

HOLD_OUT_SEED = 0  # fixed: every run and every seed must choose settings on the same held-out images


class DataFirewallError(RuntimeError):
    """Report that code asked for training images after they were closed: a fault in the code, not in the input."""


@dataclass(frozen=True)
class ImageSet:
    """Hold decoded images in memory: uint8 (N,C,H,W) in 0..255, with int64 labels (N,).

    >>> images = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1]))
    >>> len(images.subset(images.labels == 1))
    2
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images are {self.images.dtype} {tuple(self.images.shape)}, not uint8 (N, C, H, W)"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, not int64 (N,)")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> ImageSet:
        """Copy the images at `index`: int64 positions (M,) or a bool mask (N,). The copy shares no memory."""
        return ImageSet(self.images[index], self.labels[index])


@dataclass(frozen=True)
class DataSpec:
    """Describe a data set without holding its images.

    Args:
        name: the name it was loaded under.
        classes: number of classes.
        shape: (C, H, W).
        mean, std: normalisation of each channel, for pixels in [0,1].
        flip: whether a mirrored image keeps its label.
        crop_padding: pixels by which a random crop pads each side.
        class_names: in the order of the labels.
        fingerprint: a hash that changes with any image or label.
        encoding: "JPEG" if the source stores its first test image so, else "".
        source: who says how images are normalised, in words.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop_padding: int
    class_names: tuple[str, ...]
    fingerprint: str
    encoding: str = ""
    source: str = ""

    @property
    def domain(self) -> Domain:
        """Return what networks have to know of the images."""
        return Domain(
            self.shape, self.classes, self.mean, self.std, self.flip, self.crop_padding, self.source
        )


@dataclass(frozen=True)
class Decoded:
    """Hold what a source returns: both splits, class names in the order of the labels, and a fingerprint of both.

    Of the splits one may be missing. `encoding` is "JPEG" if the source stores its first test image so, else "".
    `notes` say what was left out.
    """

    train: ImageSet | None
    test: ImageSet | None
    class_names: tuple[str, ...]
    fingerprint: str
    encoding: str = ""
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[ImageSet, ...]:
        """The splits that there are, at least one."""
        return tuple(part for part in (self.train, self.test) if part is not None)


class Dataset:
    """Hold a training split that can be closed for good, and a test split that stays open; either may be missing.

    Attributes:
        has_train, has_test: whether there is such a split.
        notes: what of its files was left out, in words.
    """

    def __init__(
        self, spec: DataSpec, train: ImageSet | None, test: ImageSet | None, notes: tuple[str, ...] = ()
    ) -> None:
        self.spec = spec
        self.notes = notes
        self.has_train, self.has_test = train is not None, test is not None
        self._train, self._test = train, test

    @property
    def test(self) -> ImageSet:
        """Return the test images. Raises UserError if there are none."""
        if self._test is None:
            raise UserError(f"data set '{self.spec.name}' has no test images")
        return self._test

    @property
    def train(self) -> ImageSet:
        """Return the training images. Raises DataFirewallError once they are closed, UserError if there are none."""
        if not self.has_train:
            raise UserError(f"data set '{self.spec.name}' has no training images")
        if self._train is None:
            raise DataFirewallError(
                f"the training images of '{self.spec.name}' were closed: "
                "what follows is data-free, or gets them one phase at a time"
            )
        return self._train

    def close_training_data(self) -> None:
        """Drop the training images for good. A caller that took images from `train` before must drop them itself."""
        self._train = None

    def renamed(self, spec: DataSpec) -> Dataset:
        """Return the same images under another description."""
        return Dataset(spec, self._train, self._test, self.notes)

    def hold_out(self, fraction: float = 0.1) -> Dataset:
        """Split the training images again, so that settings can be chosen without the real test images.

        The result's `test` holds a `fraction` in (0,1) of every class, its `train` the rest. The same images are held
        out in every run.

        Raises:
            UserError: nothing would be held out, or the fraction is out of range.
            DataFirewallError: the training images are closed.
        """
        if not 0 < fraction < 1:
            raise UserError(f"hold-out fraction is {fraction:g}; expected a number between 0 and 1")
        train = self.train
        rest, held = stratified_split(train.labels, fraction, HOLD_OUT_SEED)
        if len(held) == 0:
            raise UserError(f"nothing to hold out: no class of '{self.spec.name}' has two training images")
        origin = f"{self.spec.fingerprint} hold_out {fraction!r} {HOLD_OUT_SEED}"
        spec = replace(self.spec, fingerprint=hashlib.sha256(origin.encode()).hexdigest()[:12])
        return Dataset(spec, train.subset(rest), train.subset(held), self.notes)

    def select(self, classes: Sequence[int]) -> Dataset:
        """Restrict both splits to some classes; a label becomes the class's position in `classes`.

        Images keep their order and are copies, so that closing one of the two data sets does not close the other.

        Raises:
            UserError: `classes` is empty, names a class twice, or names one that does not exist.
            DataFirewallError: the training images are closed.
        """
        labels = [int(label) for label in classes]
        if not labels:
            raise UserError(f"no class of '{self.spec.name}' selected; expected one or more")
        for label in labels:
            if not 0 <= label < self.spec.classes:
                raise UserError(
                    f"'{self.spec.name}' has no class {label}; expected 0 to {self.spec.classes - 1}"
                )
            if labels.count(label) > 1:
                raise UserError(f"class {label} of '{self.spec.name}' is selected twice; expected once")
        position = torch.full((self.spec.classes,), -1, dtype=torch.int64)
        position[labels] = torch.arange(len(labels))

        def restrict(part: ImageSet) -> ImageSet:
            positions = position[part.labels]
            keep = positions >= 0
            return ImageSet(part.images[keep], positions[keep])

        origin = f"{self.spec.fingerprint} select {labels}"
        spec = replace(
            self.spec,
            classes=len(labels),
            class_names=tuple(self.spec.class_names[label] for label in labels),
            fingerprint=hashlib.sha256(origin.encode()).hexdigest()[:12],
        )
        return Dataset(spec, restrict(self.train), restrict(self.test) if self.has_test else None)


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split images by class into a held-out part and the rest.

    Of the n_c images of class c, round(fraction * n_c) are held out: at least one, but never the last one.

    Args:
        labels: (N,).
        fraction: share of each class that is held out, in (0,1).
        seed: of the draw.

    Returns:
        The ascending indices of the rest, and of the held-out images.

    >>> rest, held = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1]), 0.5, seed=0)
    >>> len(rest), len(held)
    (3, 3)
    """
    import numpy as np

    random = np.random.RandomState(seed)  # the legacy stream is frozen, so the split survives every upgrade
    held: list[Tensor] = []
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero()[:, 0]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held.append(members[torch.from_numpy(random.permutation(len(members)))[:count]])
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    is_held[torch.cat(held)] = True
    return (~is_held).nonzero()[:, 0], is_held.nonzero()[:, 0]


def fingerprint(train: ImageSet | None, test: ImageSet | None) -> str:
    """Hash the shapes, labels and pixels of both splits to 12 hex digits. Takes about 0.5 s per gigabyte."""
    digest = hashlib.sha256()
    for part in (train, test):
        if part is None:
            digest.update(b"missing")
            continue
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.labels.contiguous().numpy().data)
        digest.update(part.images.contiguous().numpy().data)
    return digest.hexdigest()[:12]
