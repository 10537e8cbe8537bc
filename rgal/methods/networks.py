"""Further networks of a method, as data: a copy that follows a network, one that stays as it is, one that is trained.

Terms read them by the name that the recipe gives them. A run builds them on its device, moves and trains them after its
steps, and stores them with its state (`rgal.engine.networks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from rgal.synthesis.image_source import Adam
from rgal.terms.objective import LossTerm, TermContext


@dataclass(frozen=True)
class Following:
    """Follow the student by an exponential moving average: w <- m w + (1 - m) w_student after each student step.

    Numbers that are no floats, and all before the first step, are the student's. It is in evaluation mode.

    Args:
        momentum: m.
    """

    momentum: float = 0.999


@dataclass(frozen=True)
class Fixed:
    """Build a network that is never trained, such as a second teacher, or the teacher under disturbed layers.

    Args:
        build: makes it from the domain and the networks "teacher" and "student", seeded. What it returns may be a
            changed copy of one of these, never the network itself. It is in evaluation mode.
    """

    build: Callable[[TermContext], nn.Module]


@dataclass(frozen=True)
class Trained:
    """Build a network and train it beside the others, such as a discriminator or a student that challenges.

    After each step of one kind it takes an Adam step of its own on the step's images, as the networks were shown them.

    Args:
        build: makes it from the domain and the networks, seeded. It is in training mode in its own steps, else in
            evaluation mode.
        terms: what it minimises; they read it by its name, and the others without gradient.
        after: which steps it follows.
        optimiser: its own.
    """

    build: Callable[[TermContext], nn.Module]
    terms: tuple[LossTerm, ...]
    after: Literal["synthesis", "student"] = "student"
    optimiser: Adam = Adam()


FurtherNetwork = Following | Fixed | Trained
