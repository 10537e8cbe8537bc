"""The firewall of class-incremental learning: the real images of one phase at a time, and no way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.data.dataset import DataFirewallError, Dataset, ImageSet
from rgal.tasks.class_incremental.protocol import Protocol


class Phases:
    """The training images of a data set, one phase at a time.

    A phase's images exist from the moment it is opened until the next one is; any other read raises
    DataFirewallError. Until then they are bytes, not tensors, so nothing can be computed with them. Labels are
    positions in the protocol's order; images keep the order they have in the data set.

    cumulative (for the upper bound `joint` only): a phase has the images of all phases up to it, grouped by
    phase. They stay until close(), and phases can be opened in any order.

    The data set's training split is closed. Beside it, while they are sorted, the images are in memory once.
    Raises UserError if a class has no training image and DataFirewallError if the training split is closed,
    ValueError if the protocol has another number of classes; the data set is left as it was then.
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
        """The training images of `phase`, 0 to T; the images of all earlier phases are dropped for good.

        Phases are opened in ascending order. Skipping ahead is allowed (a resumed run starts in the middle)
        and drops what is skipped; the current phase can be opened again and gives the same images. What a
        caller took from an earlier phase is its own to drop.

        Raises DataFirewallError if the phase is closed, ValueError if there is no such phase.
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
        """Drop everything that is left: from here on every phase is closed."""
        self._sealed = {}
        self._current = None


@dataclass(frozen=True)
class _Sealed:
    """Images (n, C, H, W) as bytes, with labels (n,). `images` views the bytes, without a copy."""

    pixels: bytearray
    labels: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, index: Tensor) -> _Sealed:
        """A copy of the images (N, C, H, W) and labels (N,) at `index` (n,)."""
        shape = images.shape[1:]
        pixels = bytearray(len(index) * shape.numel())
        view = torch.frombuffer(pixels, dtype=torch.uint8).view(len(index), *shape)
        torch.index_select(images, 0, index, out=view)
        return cls(pixels, labels[index], tuple(shape))

    def images(self, count: int | None = None) -> ImageSet:
        """The first `count` images, or all: no byte of the others is in the tensor's storage."""
        count = len(self.labels) if count is None else count
        size = torch.Size(self.shape).numel()
        pixels = torch.frombuffer(self.pixels, dtype=torch.uint8, count=count * size)
        return ImageSet(pixels.view(count, *self.shape), self.labels[:count].clone())


def seen_test(dataset_test: ImageSet, protocol: Protocol) -> ImageSet:
    """The test images of all classes, in their order, with labels that are positions in the protocol's order.

    Those seen after phase t are labels < protocol.seen(t). The pixels are shared with `dataset_test`.
    Raises UserError if a phase has no test image, because it could not be measured.
    """
    labels = protocol.to_label[dataset_test.labels]
    per_class = torch.bincount(labels, minlength=protocol.classes)
    for phase, counts in enumerate(per_class.split(protocol.sizes)):
        if not counts.any():
            classes = ", ".join(str(protocol.order[label]) for label in protocol.labels(phase)[:10])
            raise UserError(f"no test image of phase {phase}, classes {classes}; expected one or more")
    return ImageSet(dataset_test.images, labels)
