"""What a run is told beside its recipe, and what it says of itself on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rgal.core.precision import Precision
from rgal.engine.batches import Augmentation, BatchSupply
from rgal.synthesis.pool import ImagePool

Row = dict[str, Any]
SHOWN = 2_000  # images kept to look at


class Diverged(RuntimeError):
    """A loss is no longer finite. The message names the kind of step, the round and the part of the loss."""


@dataclass(frozen=True)
class Position:
    """Say how far a run is, for a progress line.

    Args:
        mode: the current kind of step.
        at: number of the current unit, from 1.
        of: number of units.
        done: share of the run that is done, in [0,1].
        remaining_seconds: estimate for what is left, of the kinds of step that have been timed.
        at_least: whether a kind of step is left that has not been timed yet.
        unit: what is counted: "round" or "phase".
    """

    mode: str
    at: int
    of: int
    done: float
    remaining_seconds: float
    at_least: bool = False
    unit: str = "round"


@dataclass(frozen=True)
class RunOptions:
    """Set what is no part of the method.

    Args:
        precision: "fp32" or "bf16", of the networks' forward passes.
        evaluate_every: rounds from one evaluation to the next. The last round is always followed by one.
        capacity: how many images the pool holds at most; None: all, or `SHOWN` where no student reads it.
        pool_file: takes the pool's images once they are too many for memory; None: they stay there.
    """

    precision: Precision = "fp32"
    evaluate_every: int = 1
    capacity: int | None = None
    pool_file: Path | None = None


@dataclass(frozen=True)
class Hooks:
    """Say how a task's run differs from "train the student on the pool". Distillation leaves all at their defaults.

    Args:
        train_mode: puts the student into the mode of its training steps.
        on_images: is called with every synthesised batch, (N,C,H,W) in [0,1] and labels (N,), before the student trains
            on it.
        real: real images to train on in place of synthesised ones, for reference rows.
        student_seen_by_synthesis: the network that synthesis takes for the student; None: the student itself.
        batches: makes the supplier of student batches from that of synthesised batches, which is None without
            synthesis.
        augmentation: how batches are shown to the student; None: as the recipe says.
        task_data: what the task hands to its own terms.
        progress_within_rounds: whether terms may be switched on or off inside a round.
    """

    train_mode: Callable[[nn.Module], Any] = nn.Module.train
    on_images: Callable[[torch.Tensor, torch.Tensor], None] | None = None
    real: ImagePool | None = None
    student_seen_by_synthesis: nn.Module | None = None
    batches: Callable[[BatchSupply | None], BatchSupply] | None = None
    augmentation: Augmentation | None = None
    task_data: object | None = None
    progress_within_rounds: bool = False
