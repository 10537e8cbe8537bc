"""Suppliers of student batches, and how the student is shown a batch.

Four suppliers cover the tasks with one teacher: a pool of images (synthesised, or real ones of a reference row), fresh
draws of a generator, and the batch that was synthesised last. A task with other batches brings a supplier of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.synthesis.image_source import ImageSource
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.sampling import Prioritised
from rgal.synthesis.views import View, crop_flip, fmix

NEXT_BATCH = "student batches"  # the stream that batches are drawn by


@dataclass(frozen=True)
class StudentBatch:
    """Hold the images of one student step, with their targets.

    Args:
        images: (N,C,H,W) in [0,1].
        targets: labels (N,), or each class's share of each image (N,C).
        groups: named, disjoint ranges of rows where a task tells kinds of images apart; empty elsewhere. Terms of that
            task read them from their context.
        rows: where in the pool the images stand (N,); None where they come from none.
        weights: their importance weights (N,), where they are drawn by priority; None: all weigh the same.
    """

    images: Tensor
    targets: Tensor
    groups: Mapping[str, slice] = field(default_factory=dict)
    rows: Tensor | None = None
    weights: Tensor | None = None


class BatchSupply(Protocol):
    """Supply the batches of a student, one per step, in an order that depends on the streams alone."""

    def next(self) -> StudentBatch:
        """Return the batch of the next student step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what the coming batches depend on beside the streams and the run's own pool."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        ...


class PoolSupply:
    """Draw batches from a pool of images.

    Args:
        pool: the images.
        streams: where the draws come from.
        size: images per batch.
        per_class: if not 0, a batch holds that many images of each class that is drawn.
        purpose: the stream of the draws.
        real: whether these are real images, which come from the data set: the supplier then stores the place in the
            pool's shuffled order, but no image. A pool of synthesised images is stored by the run.
    """

    def __init__(
        self,
        pool: ImagePool,
        streams: Streams,
        size: int,
        per_class: int = 0,
        purpose: str = NEXT_BATCH,
        real: bool = False,
    ) -> None:
        self.pool, self.streams, self.size, self.per_class = pool, streams, size, per_class
        self.purpose, self.real = purpose, real

    def next(self) -> StudentBatch:
        rows = self.pool.rows(self.size, self.streams.get(self.purpose), self.per_class)
        return StudentBatch(*self.pool.at(rows), rows=rows)

    def state_dict(self) -> dict[str, Any]:
        return {"pool": self.pool.state_dict(contents=False)} if self.real else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.real:
            self.pool.load_state_dict(state["pool"])


class PrioritySupply(PoolSupply):
    """Draw batches from a pool by the priorities of its images.

    Args:
        pool, streams, size, purpose: see `PoolSupply`.
        sampling: how priorities become probabilities and weights.
        fraction: tells the share of the run that is done.
    """

    def __init__(
        self,
        pool: ImagePool,
        streams: Streams,
        size: int,
        sampling: Prioritised,
        fraction: Callable[[], float],
        purpose: str = NEXT_BATCH,
    ) -> None:
        super().__init__(pool, streams, size, purpose=purpose)
        self.sampling, self.fraction = sampling, fraction

    def next(self) -> StudentBatch:
        if not len(self.pool):
            raise ValueError("the image pool is empty: synthesise before sampling")
        rng = self.streams.get(self.purpose)
        rows, weights = self.sampling.draw(self.pool, self.size, rng, self.fraction())
        return StudentBatch(*self.pool.at(rows), rows=rows, weights=weights)


class LastBatchSupply:
    """Hand over the batch that was synthesised last, as it is. The run sets `latest`."""

    def __init__(self) -> None:
        self.latest: tuple[Tensor, Tensor] | None = None

    def next(self) -> StudentBatch:
        if self.latest is None:
            raise RuntimeError("a student step is due before any image was synthesised")
        return StudentBatch(*self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.latest = state["latest"]


class GeneratorSupply:
    """Draw fresh images of a persistent generator for every step. `drawn` counts them.

    Args:
        source: the generator.
        problem: its teacher labels what is kept to look at.
        streams: where the codes come from.
        size: images per batch.
        pool: takes the batches that are kept to look at, under the teacher's labels. No student reads it.
        shown: whether the batch of the current step is kept.
    """

    def __init__(
        self,
        source: ImageSource,
        problem: Problem,
        streams: Streams,
        size: int,
        pool: ImagePool,
        shown: Callable[[], bool],
    ) -> None:
        self.source, self.problem, self.streams, self.size = source, problem, streams, size
        self.pool, self.shown, self.drawn = pool, shown, 0

    def next(self) -> StudentBatch:
        images, labels = self.source.draw_labelled(self.size, self.streams.get(NEXT_BATCH))
        self.drawn += len(images)
        if self.shown():
            with torch.no_grad():
                logits = self.problem.teacher(self.problem.domain.normalise(images))
            self.pool.add(images, logits.argmax(1))
        if labels is None:
            labels = images.new_zeros(self.size, dtype=torch.int64)
        return StudentBatch(images, labels)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = int(state["drawn"])


@dataclass(frozen=True)
class Augmentation:
    """Show a batch to the student.

    Args:
        view: augments each image.
        pairs: whether every image is shown twice in a batch, augmented independently.
        fmix: whether the augmented images are mixed by FMix. The teacher labels the mixtures.
    """

    view: View = crop_flip
    pairs: bool = False
    fmix: bool = False

    def __call__(self, batch: StudentBatch, domain: Domain, streams: Streams) -> tuple[StudentBatch, Tensor]:
        """Return the batch, doubled if `pairs`, and its images (N,C,H,W) as the student sees them."""
        if self.pairs:
            names = ("images", "targets", "rows", "weights")
            parts = {name: getattr(batch, name) for name in names}
            doubled = {k: torch.cat([v, v]) for k, v in parts.items() if v is not None}
            batch = replace(batch, **doubled)  # type: ignore[arg-type]
        shown = self.view(batch.images, domain, streams.get("student view"))
        if self.fmix:
            shown, _, _ = fmix(shown, streams.get("fmix"))
        return batch, shown
