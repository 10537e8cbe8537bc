"""The image pool: uint8 images and labels in memory, on the device that trains on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """[0,1] -> 0..255, rounded to nearest (the public implementations truncate, which darkens by half a level)."""
    return images.clamp(0, 1).mul(255).add_(0.5).to(torch.uint8)


class ImagePool:
    """Append-only store of images with an optional capacity, beyond which the oldest are overwritten.

    Storage doubles when full, so appending is O(1) per image. Sampling goes through shuffled epochs without
    replacement; images that were added meanwhile join at the next epoch, and every batch is full.
    """

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device | str = "cpu", capacity: int | None = None
    ) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"a pool needs a capacity of at least one image, got {capacity}")
        self.shape, self.device, self.capacity = shape, torch.device(device), capacity
        self._images = torch.empty(0, *shape, dtype=torch.uint8, device=self.device)
        self._targets = torch.empty(0, dtype=torch.int64, device=self.device)
        self.added = 0
        self._order = torch.empty(0, dtype=torch.int64, device=self.device)
        self._cursor = 0
        self._by_label: tuple[Tensor, Tensor] | None = None  # until the next image comes: see `_classes`

    def __len__(self) -> int:
        return self.added if self.capacity is None else min(self.added, self.capacity)

    @property
    def images(self) -> Tensor:
        """uint8 (len, C, H, W): a view, in storage order."""
        return self._images[: len(self)]

    @property
    def targets(self) -> Tensor:
        """int64 (len,): a view, in storage order."""
        return self._targets[: len(self)]

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Append images (N,C,H,W), either in [0,1] or uint8, with their labels (N,)."""
        if images.dtype != torch.uint8:
            images = to_uint8(images)
        if self.capacity is not None:
            images, targets = images[-self.capacity :], targets[-self.capacity :]
        self._reserve(self.added + len(images))
        self._by_label = None
        rows = torch.arange(len(images), device=self.device) + self.added
        if self.capacity is not None:
            rows %= self.capacity
        self._images[rows] = images.to(self.device)
        self._targets[rows] = targets.to(self.device)
        self.added += len(images)

    def _reserve(self, count: int) -> None:
        if self.capacity is not None:
            count = min(count, self.capacity)
        room = len(self._images)
        if count <= room:
            return
        room = max(count, 2 * room)
        if self.capacity is not None:
            room = min(room, self.capacity)
        extra = room - len(self._images)
        self._images = torch.cat([self._images, self._images.new_empty(extra, *self.shape)])
        self._targets = torch.cat([self._targets, self._targets.new_zeros(extra)])

    def sample(self, n: int, rng: torch.Generator, per_class: int = 0) -> tuple[Tensor, Tensor]:
        """n images as float (n,C,H,W) in [0,1] and their labels, next in the shuffled order.

        per_class: if not 0, classes are drawn instead, and that many different images of each of them.
        """
        if not len(self):
            raise ValueError("the image pool is empty: synthesise before sampling")
        if per_class:
            index = self._by_class(n, per_class, rng)
            return self._images[index].float().div_(255), self._targets[index]
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
        index = torch.cat(taken)
        return self._images[index].float().div_(255), self._targets[index]

    def _by_class(self, n: int, per_class: int, rng: torch.Generator) -> Tensor:
        """Rows of a classes x samples batch (n,). Fewer classes than n / per_class: they take turns. A class with
        fewer images than its share repeats them."""
        counts, present = self._classes()
        # One sort puts the images in class order, and in random order inside a class.
        keys = torch.rand(len(self), generator=rng, device=self.device, dtype=torch.float64)
        order = (self.targets + keys).argsort()
        chosen = present[torch.randperm(len(present), generator=rng, device=self.device)]
        slot = torch.arange(n, device=self.device)
        group, turn = slot // per_class, slot // per_class // len(present)
        labels = chosen[group % len(present)]
        position = (slot % per_class + turn * per_class) % counts[labels]
        return order[(counts.cumsum(0) - counts)[labels] + position]

    def _classes(self) -> tuple[Tensor, Tensor]:
        """(images of every label, the labels that occur). Kept, because sizes that depend on data cost a host
        synchronisation."""
        if self._by_label is None:
            counts = torch.bincount(self.targets)
            self._by_label = counts, counts.nonzero().flatten()
        return self._by_label

    def state_dict(self, contents: bool = True) -> dict[str, Any]:
        """contents=False leaves the images out and stores only where sampling stands."""
        state: dict[str, Any] = {"order": self._order.cpu(), "cursor": self._cursor}
        if contents:
            state |= {
                "images": self.images.cpu().clone(),
                "targets": self.targets.cpu().clone(),
                "added": self.added,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order, self._cursor = state["order"].to(self.device), int(state["cursor"])
        if "images" in state:
            self._images, self._targets = state["images"].to(self.device), state["targets"].to(self.device)
            self.added = int(state["added"])
        self._by_label = None
