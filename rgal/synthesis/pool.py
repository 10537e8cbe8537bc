"""The image pool: uint8 images and labels, on the device that trains on them; too many images for it in a file."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.synthesis.spilled import SpilledImages

HELD = 2**30  # bytes of images that are held in memory, where a file may take more
HELD_SHARE = 0.25  # the same on a GPU, as a share of its memory


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [0,1] to 0..255, rounded to nearest; truncating, as others do, darkens by half a level.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 0.5, 1.0]))
    tensor([  0,   0, 128, 255], dtype=torch.uint8)
    """
    return images.clamp(0, 1).mul(255).add_(0.5).to(torch.uint8)


def _held(device: torch.device) -> float:
    """Return how many bytes of images a device holds before a file takes them."""
    if device.type == "cuda":
        return HELD_SHARE * torch.cuda.get_device_properties(device).total_memory
    return HELD


class _Classes:
    """Know which rows of labels (N,) have which of the L labels that occur, in ascending order of labels.

    Attributes:
        counts: rows of each label, (L,).
    """

    def __init__(self, labels: Tensor) -> None:
        _, self._label, self.counts = labels.unique(return_inverse=True, return_counts=True)
        self._start = (self.counts.cumsum(0) - self.counts)[:, None]
        self._largest, self._size = int(self.counts.max()), len(labels)
        # A table with a line for each label, unless one label has most of the rows.
        balanced = self._largest * len(self.counts) <= 4 * self._size
        self._table = self._lines(self._label.argsort(stable=True), self._largest) if balanced else None

    def _lines(self, order: Tensor, count: int) -> Tensor:
        """Put rows that are ordered by label into a table (L, count); what a label lacks is filled by any row."""
        place = torch.arange(count, device=order.device)
        return order[(self._start + place).clamp(max=self._size - 1)]

    def first(self, keys: Tensor, count: int) -> Tensor:
        """Return the rows of each label with the smallest keys (N,) in [0,1), ascending: (L, `count` or fewer)."""
        count = min(count, self._largest)
        if self._table is None:
            return self._lines((self._label + keys).argsort(), count)
        lacking = torch.arange(self._largest, device=keys.device) >= self.counts[:, None]
        nearest = keys[self._table].masked_fill_(lacking, 1.0).topk(count, largest=False).indices
        return self._table.gather(1, nearest)


class ImagePool:
    """Store images and sample batches of them.

    Storage doubles when it is full, so that adding an image takes constant time. Sampling goes through the pool in
    shuffled epochs without replacement, and every batch is full. Adding images ends the epoch: the next batch begins a
    new order over all of them, as in the releases of RGAL, CMI, DeepInversion, Fast and NAYER, which make a new data
    loader after every synthesis. A pool that never grows goes through its epochs to the end.

    Args:
        shape: (C, H, W) of the images.
        device: where they are stored.
        capacity: the most images to hold; further ones overwrite the oldest. None holds all.
        file: takes the images once they have more than `HELD` bytes, on a GPU `HELD_SHARE` of its memory; None: they
            stay in memory. Those of a pool with a capacity always do, as a file that is written over does not fit an
            older checkpoint.

    Raises:
        ValueError: the capacity is below one.

    >>> pool = ImagePool((1, 2, 2), capacity=2)
    >>> pool.add(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2]))
    >>> len(pool), pool.added, pool.targets.tolist()
    (2, 2, [1, 2])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
        capacity: int | None = None,
        file: Path | None = None,
    ) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"a pool needs a capacity of at least one image, got {capacity}")
        self.shape, self.device, self.capacity = shape, torch.device(device), capacity
        self.file = file if capacity is None else None
        self._spilled: SpilledImages | None = None
        self._images = torch.empty(0, *shape, dtype=torch.uint8, device=self.device)
        self._targets = torch.empty(0, dtype=torch.int64, device=self.device)
        self._priorities = torch.empty(0, device=self.device)
        self._born = torch.empty(0, dtype=torch.int64, device=self.device)
        self.added = 0
        self._order = torch.empty(0, dtype=torch.int64, device=self.device)
        self._cursor = 0
        self._by_label: _Classes | None = None  # cleared by `add`

    def __len__(self) -> int:
        return self.added if self.capacity is None else min(self.added, self.capacity)

    @property
    def images(self) -> Tensor:
        """Return the images, uint8 (len,C,H,W), in storage order and without a copy; those in a file on the host."""
        return self._images[: len(self)] if self._spilled is None else self._spilled.mapped(len(self))

    @property
    def targets(self) -> Tensor:
        """Return the labels, int64 (len,), in storage order and without a copy."""
        return self._targets[: len(self)]

    @property
    def priorities(self) -> Tensor:
        """Return the priorities, float32 (len,), in storage order; new images have the largest that there is, or 1."""
        return self._priorities[: len(self)]

    @property
    def born(self) -> Tensor:
        """Return which image of all that were ever added stands in each row, from 0, int64 (len,)."""
        return self._born[: len(self)]

    def class_counts(self, classes: int) -> Tensor:
        """Count the images of each class, int64 (classes,), on the pool's device."""
        return torch.bincount(self.targets, minlength=classes)

    def set_priorities(self, rows: Tensor, priorities: Tensor) -> None:
        """Give the images in these rows (N,) their priorities (N,); of a row that comes twice, the larger counts."""
        self._priorities.scatter_reduce_(0, rows, priorities.float(), "amax", include_self=False)

    def add(self, images: Tensor, targets: Tensor, over: Tensor | None = None) -> None:
        """Add images (N,C,H,W), either in [0,1] or uint8, with their labels (N,), and end the epoch if N > 0.

        Args:
            images, targets: the new images.
            over: rows that make room once the pool is full, the first ones first; None: those of the oldest images.
        """
        if not len(images):
            return
        self._order, self._cursor = self._order[:0], 0
        if images.dtype != torch.uint8:
            images = to_uint8(images)
        if self.capacity is not None:
            images, targets = images[-self.capacity :], targets[-self.capacity :]
        largest = self.priorities.max() if len(self) else torch.ones((), device=self.device)
        self._reserve(self.added + len(images))
        self._by_label = None
        count = torch.arange(len(images), device=self.device)
        rows = count + self.added
        if self.capacity is not None:
            rows %= self.capacity
            if over is not None:
                free = max(0, self.capacity - self.added)
                rows = torch.cat([rows[:free], over[: len(images) - min(free, len(images))]])
        if self._spilled is None:
            self._images[rows] = images.to(self.device)
        else:
            self._spilled.write(images, self.added)
        self._targets[rows] = targets.to(self.device)
        self._priorities[rows] = largest
        self._born[rows] = count + self.added
        self.added += len(images)

    def _reserve(self, count: int) -> None:
        if self.capacity is not None:
            count = min(count, self.capacity)
        if self.file is not None and self._spilled is None and count * prod(self.shape) > _held(self.device):
            self._spilled = SpilledImages(self.file, self.shape)
            self._spilled.write(self._images[: len(self)], 0)
            self._images = self._images[:0].clone()
        room = len(self._targets)
        if count <= room:
            return
        room = max(count, 2 * room)
        if self.capacity is not None:
            room = min(room, self.capacity)
        extra = room - len(self._targets)
        if self._spilled is None:
            self._images = torch.cat([self._images, self._images.new_empty(extra, *self.shape)])
        self._targets = torch.cat([self._targets, self._targets.new_zeros(extra)])
        self._priorities = torch.cat([self._priorities, self._priorities.new_zeros(extra)])
        self._born = torch.cat([self._born, self._born.new_zeros(extra)])

    def sample(self, n: int, rng: torch.Generator, per_class: int = 0) -> tuple[Tensor, Tensor]:
        """Return the next images of the shuffled order, float (n,C,H,W) in [0,1], and their labels (n,); see `rows`."""
        return self.at(self.rows(n, rng, per_class))

    def rows(self, n: int, rng: torch.Generator, per_class: int = 0) -> Tensor:
        """Return where the next images of the shuffled order stand, (n,).

        Args:
            n: number of images.
            rng: generator on the pool's device.
            per_class: if not 0, draw classes instead of images, and this many different images of each class. Such
                batches have no epochs: each is drawn from all images that the pool holds.

        Raises:
            ValueError: the pool is empty.
        """
        if not len(self):
            raise ValueError("the image pool is empty: synthesise before sampling")
        if per_class:
            return self._by_class(n, per_class, rng)
        taken: list[Tensor] = []
        missing = n
        while missing:
            if self._cursor >= len(self._order):
                self._order = torch.randperm(len(self), generator=rng, device=self.device)
                self._cursor = 0
            rows = self._order[self._cursor : self._cursor + missing]
            self._cursor += len(rows)
            missing -= len(rows)
            taken.append(rows)
        return torch.cat(taken)

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images in these rows (n,), float (n,C,H,W) in [0,1], and their labels (n,)."""
        return self.uint8_at(rows).float().div_(255), self._targets[rows]

    def uint8_at(self, rows: Tensor) -> Tensor:
        """Return the images in these rows (n,) as they are stored, uint8 (n,C,H,W), on the pool's device."""
        return self._images[rows] if self._spilled is None else self._spilled.read(rows).to(self.device)

    def _by_class(self, n: int, per_class: int, rng: torch.Generator) -> Tensor:
        """Choose the rows (n,) of a batch of n / per_class classes with per_class images each.

        If there are fewer classes, they take turns. A class with fewer images than its share repeats them.
        """
        classes = self._classes()
        keys = torch.rand(len(self), generator=rng, device=self.device, dtype=torch.float64)
        shuffled = torch.randperm(len(classes.counts), generator=rng, device=self.device)
        slot = torch.arange(n, device=self.device)
        group, turn = slot // per_class, slot // per_class // len(shuffled)
        label = shuffled[group % len(shuffled)]
        position = (slot % per_class + turn * per_class) % classes.counts[label]
        # A class's images in the order of their keys, as far as a batch reaches.
        deepest = per_class * -(-n // (per_class * len(shuffled)))
        return classes.first(keys, deepest)[label, position]

    def _classes(self) -> _Classes:
        """Return which images are of which label. Cached: a size that depends on data synchronises the device."""
        if self._by_label is None:
            self._by_label = _Classes(self.targets)
        return self._by_label

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """Return the pool for a checkpoint. contents=False leaves the images out: only the state of sampling.

        Of images in a file, which is on the disk then, it has the number.
        """
        state: dict[str, Any] = {"order": self._order.cpu(), "cursor": self._cursor}
        if contents:
            if self._spilled is None:
                state["images"] = self.images.cpu().clone()
            else:
                self._spilled.flush()
                state["in_file"] = len(self)
            state |= {
                "targets": self.targets.cpu().clone(),
                "priorities": self.priorities.cpu().clone(),
                "born": self.born.cpu().clone(),
                "added": self.added,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the pool of a checkpoint, with its images if they are in it, or in the file.

        Raises:
            UserError: the file has fewer images than the checkpoint says.
        """
        self._order, self._cursor = state["order"].to(self.device), int(state["cursor"])
        if "targets" in state:
            count = len(state["targets"])
            state = {"priorities": torch.ones(count), "born": torch.arange(count)} | state  # of an older run
            for name in ("targets", "priorities", "born"):
                setattr(self, f"_{name}", state[name].to(self.device))
            self._take_images(state)
            self.added = int(state["added"])
        self._by_label = None

    def _take_images(self, state: dict[str, Any]) -> None:
        if "images" in state:
            self._images, self._spilled = state["images"].to(self.device), None
            return
        if self.file is None:
            raise UserError("the checkpoint's images are in a file, and this run keeps its images in memory")
        self._images = torch.empty(0, *self.shape, dtype=torch.uint8, device=self.device)
        self._spilled = SpilledImages(self.file, self.shape)
        self._spilled.cut(int(state["in_file"]))
