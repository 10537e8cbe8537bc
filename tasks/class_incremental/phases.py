"""The firewall of class-incremental learning: it hands out real images one phase at a time, with no way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.data.dataset import DataFirewallError, Dataset, ImageSet
from rgal.tasks.class_incremental.protocol import Protocol


class Phases:
    """Hand out the training images of a data set, one phase at a time, and close its training split.

    The images of a phase exist from the moment in which it is opened until the next one is; any other read raises
    DataFirewallError. Before, they are bytes and not tensors, so that nothing can be computed with them. Labels are
    positions in the protocol's order; images keep the order that they have in the data set.

    Args:
        dataset: its training split is closed. After an error it is left as it was.
        protocol: which classes come in which phase.
        cumulative: whether a phase has the images of all phases up to it, grouped by phase, for the upper bound `joint`
            only. They stay until `close`, and phases can be opened in any order.

    Raises:
        UserError: a class has no training image.
        DataFirewallError: the training split is closed already.
        ValueError: the protocol has another number of classes.
    """

    def __init__(self, dataset: Dataset, protocol: Protocol, cumulative: bool = False) -> None:
        spec, train = dataset.spec, dataset.train
        if protocol.classes != spec.classes:
            raise ValueError(f"'{spec.name}' has {spec.classes} classes, the protocol {protocol.classes}")
        labels = protocol.to_label[train.labels]
        per_class = torch.bincount(labels, minlength=protocol.classes)
        if not per_class.all():
            name = spec.class_names[protocol.order[int(per_class.argmin())]]
            raise UserError(f"class {name!r} of '{spec.name}' has no training image; expected one or more")
        counts = [int(part.sum()) for part in per_class.split(protocol.sizes)]
        phase_of_label = torch.arange(protocol.phases + 1).repeat_interleave(torch.tensor(protocol.sizes))
        by_phase = torch.argsort(phase_of_label[labels], stable=True)
        parts = (by_phase,) if cumulative else by_phase.split(counts)

        self.protocol = protocol
        self._name = spec.name
        self._ends = torch.tensor(counts).cumsum(0).tolist() if cumulative else None
        self._sealed = {phase: _Sealed.of(train.images, labels, part) for phase, part in enumerate(parts)}
        self._current: tuple[int, ImageSet] | None = None
        dataset.close_training_data()

    def open(self, phase: int) -> ImageSet:
        """Return the training images of `phase`, 0 to T; the images of all earlier phases are dropped for good.

        Phases are opened in ascending order. Skipping ahead is allowed, as a resumed run starts in the middle, and
        drops what is skipped. The current phase can be opened again and gives the same images. A caller must itself
        drop what it took from an earlier phase.

        Raises:
            DataFirewallError: the phase is closed.
            ValueError: there is no such phase.
        """
        self.protocol.seen(phase)
        if self._ends is not None and self._sealed:
            return self._sealed[0].images(self._ends[phase])
        if self._current is None or self._current[0] != phase:
            if phase not in self._sealed:
                raise DataFirewallError(
                    f"phase {phase} of '{self._name}' is closed: its training images were dropped"
                )
            images = self._sealed[phase].images()
            self._sealed = {later: sealed for later, sealed in self._sealed.items() if later > phase}
            self._current = phase, images
        return self._current[1]

    def close(self) -> None:
        """Drop all images that are left, and close every phase."""
        self._sealed = {}
        self._current = None


class NewClasses:
    """Hand out the images of one phase of new classes, after a first phase whose images are gone.

    Args:
        protocol: the classes of the model so far, then the new ones as its only phase.
        images: of the new classes; labels are positions in the protocol's order.
    """

    def __init__(self, protocol: Protocol, images: ImageSet) -> None:
        self.protocol, self._images = protocol, images

    def open(self, phase: int) -> ImageSet:
        """Return the images of phase 1. Raises DataFirewallError for any other."""
        if phase != 1:
            raise DataFirewallError(f"phase {phase}: only images of new classes were given, those of phase 1")
        return self._images


@dataclass(frozen=True)
class _Sealed:
    """Hold images (n,C,H,W) as bytes, with labels (n,). `images` views the bytes without a copy."""

    pixels: bytearray
    labels: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, index: Tensor) -> _Sealed:
        """Copy the images (N,C,H,W) and labels (N,) at `index` (n,)."""
        shape = images.shape[1:]
        pixels = bytearray(len(index) * shape.numel())
        view = torch.frombuffer(pixels, dtype=torch.uint8).view(len(index), *shape)
        torch.index_select(images, 0, index, out=view)
        return cls(pixels, labels[index], tuple(shape))

    def images(self, count: int | None = None) -> ImageSet:
        """Return the first `count` images, or all. No byte of the others is in the tensor's storage."""
        count = len(self.labels) if count is None else count
        size = torch.Size(self.shape).numel()
        pixels = torch.frombuffer(self.pixels, dtype=torch.uint8, count=count * size)
        return ImageSet(pixels.view(count, *self.shape), self.labels[:count].clone())


def seen_test(dataset_test: ImageSet, protocol: Protocol) -> ImageSet:
    """Return all test images, in their order, with labels that are positions in the protocol's order.

    The labels seen by phase t are those below protocol.seen(t). The pixels are shared with `dataset_test`.

    Raises:
        UserError: a phase has no test image, so it could not be measured.
    """
    labels = protocol.to_label[dataset_test.labels]
    per_class = torch.bincount(labels, minlength=protocol.classes)
    for phase, counts in enumerate(per_class.split(protocol.sizes)):
        if not counts.any():
            classes = ", ".join(str(protocol.order[label]) for label in protocol.labels(phase)[:10])
            raise UserError(f"no test image of phase {phase}, classes {classes}; expected one or more")
    return ImageSet(dataset_test.images, labels)
