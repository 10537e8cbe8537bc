"""Class-incremental protocols: which classes come in which phase, and which label each class gets."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rgal.core.errors import UserError, nearest

ORDERS = ("natural", "random:<r>", "seed1993")


@dataclass(frozen=True)
class Protocol:
    """Say which classes come when: `base` classes first, then phases of `step` classes, or of the sizes in `step`.

    The label of a class is its position in the order. Phases are counted from 0, the base, to T = `phases`.

    >>> protocol = Protocol(order=(3, 0, 1, 2), base=2, step=1)
    >>> protocol.name, protocol.sizes, protocol.labels(1), protocol.to_label.tolist()
    ('2+2x1', (2, 1, 1), range(2, 3), [1, 2, 3, 0])

    Args:
        order: the classes in the order in which they come.
        base: classes of the first phase.
        step: classes of every other phase, or of each of them.

    Raises:
        ValueError: `order` is no permutation of 0..classes-1, or the sizes do not fit it with T >= 1.
    """

    order: tuple[int, ...]
    base: int
    step: int | tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(self.classes)):
            raise ValueError(f"order is not a permutation of 0..{self.classes - 1}")
        added = self.classes - self.base
        if self.base < 1 or added < 1 or min(self.steps, default=0) < 1 or sum(self.steps) != added:
            raise ValueError(f"base {self.base} and step {self.step} do not fit {self.classes} classes")

    @property
    def classes(self) -> int:
        """Number of classes of all phases."""
        return len(self.order)

    @property
    def steps(self) -> tuple[int, ...]:
        """Number of new classes in each of the T phases after the base."""
        if isinstance(self.step, tuple):
            return self.step
        return (self.step,) * ((self.classes - self.base) // self.step if self.step > 0 else 0)

    @property
    def phases(self) -> int:
        """T, the number of increments: there are T + 1 phases with the base."""
        return len(self.steps)

    @property
    def name(self) -> str:
        """base + T x step, such as `50+5x10`; ten equal tasks of 10 classes are `10+9x10`, uneven phases `4+3,1,2`."""
        if isinstance(self.step, tuple):
            return f"{self.base}+{','.join(map(str, self.step))}"
        return f"{self.base}+{self.phases}x{self.step}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of new classes in each of the T + 1 phases."""
        return (self.base, *self.steps)

    @property
    def to_label(self) -> Tensor:
        """The label of each class, int64 (classes,): the inverse permutation of `order`, to_label[order[i]] = i."""
        # Not order[c]: mammoth maps so, and gets other tasks than everyone else from the same seed.
        return torch.argsort(torch.tensor(self.order, dtype=torch.int64))

    def seen(self, phase: int) -> int:
        """Return how many classes have come by the end of `phase`. Raises ValueError unless 0 <= phase <= T."""
        if not 0 <= phase <= self.phases:
            raise ValueError(f"phase is {phase}; {self.name} has phases 0 to {self.phases}")
        return self.base + sum(self.steps[:phase])

    def labels(self, phase: int) -> range:
        """Return the labels that are new in `phase`. Raises ValueError unless 0 <= phase <= T."""
        seen = self.seen(phase)
        return range(seen - self.sizes[phase], seen)


def class_order(kind: str, classes: int) -> tuple[int, ...]:
    """Return the order in which the classes 0..classes-1 come.

    >>> class_order("random:0", 5)
    (2, 1, 0, 4, 3)

    Args:
        kind: `seed1993`: numpy's RandomState(1993).permutation(classes), as in PASS and PyCIL. `random:<r>`:
            random.Random(r).shuffle, as in ABD and R-DFCIL with r = 0, 1, 2. `natural`: 0, 1, 2, ..., in which the
            releases of IL2A and SSRE train, so that their numbers cannot be paired with those of PASS.
        classes: their number.

    Raises:
        UserError: another kind.
    """
    if kind == "natural":
        return tuple(range(classes))
    if kind == "seed1993":
        import numpy as np

        return tuple(np.random.RandomState(1993).permutation(classes).tolist())
    if not kind.startswith("random:"):
        raise UserError(f"unknown class order {kind!r}; {nearest(kind, ORDERS)}")
    seed = kind.removeprefix("random:")
    if not re.fullmatch("[0-9]{1,18}", seed):
        raise UserError(
            f"class order {kind!r}: expected random:<r> with r a non-negative integer of at most 18 digits; "
            f"valid: {', '.join(ORDERS)}"
        )
    order = list(range(classes))
    random.Random(int(seed)).shuffle(order)
    return tuple(order)


def make_protocol(classes: int, base: int, step: int | Sequence[int], order: str) -> Protocol:
    """Make the protocol `base` + T x `step`, or that of phases of the sizes in `step`.

    Args:
        classes: number of classes of the data set.
        base: classes of the first phase.
        step: classes of every other phase, or of each of them.
        order: a name that `class_order` knows.

    Raises:
        UserError: there is no such protocol with T >= 1.
    """
    if base < 1:
        raise UserError(f"base={base}: the first phase has at least 1 class; expected 1 or more")
    smallest = step if isinstance(step, int) else min(step, default=0)
    if smallest < 1:
        raise UserError(f"step={step}: a phase adds at least 1 class; expected 1 or more")
    if base >= classes:
        raise UserError(
            f"base={base}: the data set has {classes} classes; "
            "expected fewer in the first phase, so that at least one is left to add"
        )
    added = classes - base
    if not isinstance(step, int):
        if sum(step) != added:
            raise UserError(
                f"step={list(step)}: these phases add {sum(step)} classes, but {classes} classes without the "
                f"base={base} leave {added}; expected sizes with that sum"
            )
        return Protocol(class_order(order, classes), base, tuple(step))
    if added % step:
        fitting = [str(size) for size in range(1, added + 1) if added % size == 0]
        raise UserError(
            f"step={step}: {classes} classes without the base={base} leave {added}, "
            f"which phases of {step} do not divide; expected one of {', '.join(fitting)}, or a list of sizes"
        )
    return Protocol(class_order(order, classes), base, step)
