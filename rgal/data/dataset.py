"""What a data set is here: two splits of uint8 images in memory, the training one behind a door."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rgal.core.errors import UserError

HOLD_OUT_SEED = 0  # fixed: every run and every seed must choose settings on the same held-out images


class DataFirewallError(RuntimeError):
    """Training images were asked for after they were closed: a fault in the code, not in the input."""


@dataclass(frozen=True)
class ImageSet:
    """Images decoded once and kept in memory: uint8 (N, C, H, W) in 0..255, with int64 labels (N,)."""

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
        """A copy of the images at `index` (int64 or bool, (M,) or (N,)), sharing no memory with this set."""
        return ImageSet(self.images[index], self.labels[index])


@dataclass(frozen=True)
class DataSpec:
    """What may be said about a data set without opening it.

    `shape` is (C, H, W); `mean` and `std` are per channel, of pixels in [0, 1]. `flip` says whether a mirror
    image keeps its label, `crop_padding` how many pixels a random crop pads on each side. `fingerprint`
    changes with any image or label. `encoding` is that of `Decoded`.
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


@dataclass(frozen=True)
class Decoded:
    """What a source hands over: both splits, the class names in label order, and their fingerprint.

    `encoding` is "JPEG" where the source stores its first test image so, else "".
    """

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    fingerprint: str
    encoding: str = ""


class Dataset:
    """A training split that can be closed for good, and a test split that stays open."""

    def __init__(self, spec: DataSpec, train: ImageSet, test: ImageSet) -> None:
        self.spec = spec
        self.test = test
        self._train: ImageSet | None = train

    @property
    def train(self) -> ImageSet:
        """The training images. Raises DataFirewallError once they are closed."""
        if self._train is None:
            raise DataFirewallError(
                f"the training images of '{self.spec.name}' were closed: "
                "what follows is data-free, or gets them one phase at a time"
            )
        return self._train

    def close_training_data(self) -> None:
        """Drop the training images for good. What a caller took from `train` before is its own to drop."""
        self._train = None

    def hold_out(self, fraction: float = 0.1) -> Dataset:
        """Split the training images again: `test` is a `fraction` of every class, `train` the rest.

        For choosing settings. The same images are held out in every run, and the real test images are not in
        the result. Raises UserError if nothing would be held out, DataFirewallError once the training images
        are closed.
        """
        if not 0 < fraction < 1:
            raise UserError(f"hold-out fraction is {fraction:g}; expected a number between 0 and 1")
        train = self.train
        rest, held = stratified_split(train.labels, fraction, HOLD_OUT_SEED)
        if len(held) == 0:
            raise UserError(f"nothing to hold out: no class of '{self.spec.name}' has two training images")
        origin = f"{self.spec.fingerprint} hold_out {fraction!r} {HOLD_OUT_SEED}"
        spec = replace(self.spec, fingerprint=hashlib.sha256(origin.encode()).hexdigest()[:12])
        return Dataset(spec, train.subset(rest), train.subset(held))

    def select(self, classes: Sequence[int]) -> Dataset:
        """Both splits restricted to these classes, whose labels become their positions in `classes`.

        Images keep their order. They are copies: the result shares no memory with this data set, so closing
        one does not close the other. Raises UserError if `classes` is empty, names a class twice or one that
        is not there, DataFirewallError once the training images are closed.
        """
        chosen = [int(label) for label in classes]
        if not chosen:
            raise UserError(f"no class of '{self.spec.name}' selected; expected one or more")
        for label in chosen:
            if not 0 <= label < self.spec.classes:
                raise UserError(
                    f"'{self.spec.name}' has no class {label}; expected 0 to {self.spec.classes - 1}"
                )
            if chosen.count(label) > 1:
                raise UserError(f"class {label} of '{self.spec.name}' is selected twice; expected once")
        position = torch.full((self.spec.classes,), -1, dtype=torch.int64)
        position[chosen] = torch.arange(len(chosen))

        def restrict(part: ImageSet) -> ImageSet:
            labels = position[part.labels]
            keep = labels >= 0
            return ImageSet(part.images[keep], labels[keep])

        origin = f"{self.spec.fingerprint} select {chosen}"
        spec = replace(
            self.spec,
            classes=len(chosen),
            class_names=tuple(self.spec.class_names[label] for label in chosen),
            fingerprint=hashlib.sha256(origin.encode()).hexdigest()[:12],
        )
        return Dataset(spec, restrict(self.train), restrict(self.test))


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Ascending indices (rest, held) into labels (N,), by class.

    Of the n_c images of class c, round(fraction * n_c) are held, at least one; but at least one stays.
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


def fingerprint(train: ImageSet, test: ImageSet) -> str:
    """12 hex digits over the shapes, labels and pixels of both splits: about 0.5 s a gigabyte."""
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.labels.contiguous().numpy().data)
        digest.update(part.images.contiguous().numpy().data)
    return digest.hexdigest()[:12]
