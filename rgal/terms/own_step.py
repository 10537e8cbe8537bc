"""A student step of a method's own, for what no sum of terms over shared forward passes can say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads


@dataclass(frozen=True)
class ShownBatch:
    """Hold the batch of a student step as the networks are shown it.

    Args:
        inputs: (N,C,H,W), augmented and normalised.
        targets: labels (N,), or shares of the classes (N,C).
        groups: named ranges of rows, where a task tells kinds of images apart; empty elsewhere.
    """

    inputs: Tensor
    targets: Tensor
    groups: Mapping[str, slice]


def student_step(function: Callable[[ShownBatch, Context], Tensor], *asks: Reads) -> LossTerm:
    """Make the loss of a student step from a function of its batch and its context.

    The function observes whatever it wants by `ctx.observe("student", batch.inputs)`, on any input; nothing is observed
    for it. Its loss is logged as "step" and is added to the recipe's other terms, those of RGAL among them, and the
    student's optimiser minimises the sum. Random draws come from `ctx.streams`.

    Args:
        function: returns a scalar.
        asks: what the function will observe, so that a network that lacks it is refused at the start.
    """

    def loss(ctx: Context) -> Tensor:
        return function(ShownBatch(ctx.views["global"], ctx.cross_entropy_targets, ctx.groups), ctx)

    return LossTerm("step", 1.0, lambda context: FunctionTerm(loss, (), asks))
