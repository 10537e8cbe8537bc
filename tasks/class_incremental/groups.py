"""The groups of a class-incremental batch: real images of new classes, then replayed images of old ones.

Terms of this task ask `real_images` where the one ends and the other begins. Targets of replayed images mean nothing:
the old model labels them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rgal.core.problem import Domain
from rgal.core.seeding import Streams
from rgal.engine.batches import Augmentation, BatchSupply, PoolSupply, StudentBatch
from rgal.synthesis.views import crop_flip, rotations
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.terms.objective import Context, TermContext, labels_of
from rgal.terms.relation import Group, RelationSpec, whole_batch

REAL, REPLAYED = "real", "replayed"


def real_images(ctx: Context) -> int:
    """Return how many images of the step, the first ones, are real images of new classes."""
    rows = ctx.groups.get(REAL)
    return 0 if rows is None else int(rows.stop)


def grouped(real: int, total: int) -> dict[str, slice]:
    """Return the groups of a batch of `total` images whose first `real` are real.

    >>> grouped(2, 5)
    {'real': slice(0, 2, None), 'replayed': slice(2, 5, None)}
    >>> grouped(5, 5)
    {'real': slice(0, 5, None)}
    """
    rows = {REAL: slice(0, real), REPLAYED: slice(real, total)}
    return {name: part for name, part in rows.items() if part.stop > part.start}


class IncrementalBatches:
    """Supply real images of new classes and, after them, as many replayed ones where there are any.

    Args:
        real: the supply of real images of the phase.
        replayed: the supply of synthesised images of old classes, or None.
    """

    def __init__(self, real: PoolSupply, replayed: BatchSupply | None) -> None:
        self.real, self.replayed = real, replayed

    def next(self) -> StudentBatch:
        new = self.real.next()
        count = len(new.images)
        if self.replayed is None:
            return StudentBatch(new.images, new.targets, grouped(count, count))
        old = self.replayed.next()
        images = torch.cat([new.images, old.images])
        return StudentBatch(
            images, torch.cat([new.targets, labels_of(old.targets)]), grouped(count, len(images))
        )

    def state_dict(self) -> dict[str, Any]:
        replayed = None if self.replayed is None else self.replayed.state_dict()
        return {"real": self.real.state_dict(), "replayed": replayed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.real.load_state_dict(state["real"])
        if self.replayed is not None:
            self.replayed.load_state_dict(state["replayed"])


@dataclass(frozen=True)
class IncrementalAugmentation(Augmentation):
    """Crop and flip real images of new classes, and show all others through `view`.

    Args:
        rotations: whether each image is shown in its four rotations, each of which is a class of its own (see
            `views.rotations`).
    """

    rotations: bool = False

    def __call__(self, batch: StudentBatch, domain: Domain, streams: Streams) -> tuple[StudentBatch, Tensor]:
        real = batch.groups[REAL].stop if REAL in batch.groups else 0
        parts = []
        if real:
            parts.append(crop_flip(batch.images[:real], domain, streams.get("view of new images")))
        if real < len(batch.images):
            parts.append(self.view(batch.images[real:], domain, streams.get("student view")))
        shown = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self.rotations:
            shown, targets = rotations(shown, batch.targets)
            groups = grouped(4 * real, len(shown)) if batch.groups else {}
            batch = StudentBatch(shown, targets, groups)
        return batch, shown


@dataclass(frozen=True)
class IncrementalTermData:
    """Hold what the terms of this task are given: statistics of old classes, and how triplets are grouped."""

    statistics: ClassStatistics = ClassStatistics()

    def triplet_groups(self, ctx: Context, spec: RelationSpec) -> list[Group]:
        """Form RGAL's gather triplets in the real images and in the replayed ones apart.

        Real and synthetic images differ by texture: triplets across the two would teach that, not classes. The old
        model does not know the classes of real images, so their negatives are drawn on the target's own logits. The
        groups are weighted by their numbers of classes, as an old class has fewer images in a step than a new one.
        With `spec.mixed`, real images are also pushed away from replayed ones, to which no gradient flows then.
        """
        teacher, count = ctx.of("teacher").logits, real_images(ctx)
        if not count:
            return whole_batch(ctx, spec)
        real, replayed = slice(0, count), slice(count, None)
        own, old = ctx.of(spec.target).logits.detach(), teacher.shape[1]
        new = Group("_new", real, ctx.targets[real], own[real, old:])
        if count == len(teacher):
            return [new]
        share = old / own.shape[1]
        labels = teacher[replayed].argmax(1)
        drawn_by = ctx.of(spec.sample_on).logits.detach()[replayed, :old]
        groups = [replace(new, weight=1 - share), Group("", replayed, labels, drawn_by, share)]
        if spec.mixed:
            is_real = torch.arange(len(teacher), device=teacher.device) < count
            among = is_real[:, None] & ~is_real[None, :]
            every = torch.cat([ctx.targets[real], labels])
            groups.append(Group("_mixed", slice(None), every, own, spec.mixed, among, count))
        return groups


def statistics_of(context: TermContext) -> ClassStatistics:
    """Return the statistics of old classes that a run keeps; empty ones in a run of another task."""
    data = context.task_data
    return data.statistics if isinstance(data, IncrementalTermData) else ClassStatistics()
