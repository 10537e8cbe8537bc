"""The inversion loop, one step at a time, so that a run can stop and resume between any two steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.meters import Meter
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Problem, evaluating
from rgal.core.seeding import Streams, seed_for
from rgal.synthesis.image_source import Adam, ImageSpec
from rgal.synthesis.views import View
from rgal.terms.context import Context, PoolView
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext


def check_sizes(objective: Objective, sizes: Iterable[tuple[int, int]]) -> None:
    """Check that the networks which an objective reads take images of all these (height, width).

    Raises:
        UserError: a network does not.
    """
    channels, full_height, full_width = objective.context.domain.shape
    for (height, width), name in product(sizes, sorted(objective.nets())):
        net = objective.context.nets[name]
        device = next((parameter.device for parameter in net.parameters()), None)
        try:
            with torch.no_grad(), evaluating(net):
                net(torch.zeros(1, channels, height, width, device=device))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"the {name} does not take the {width}x{height} images that this method starts from, only "
                f"{full_width}x{full_height}; use a network for any size, or a method at one size"
            ) from error


@dataclass(frozen=True)
class InversionSpec:
    """What the inversion loop optimises and how: a recipe's synthesis half.

    Args:
        images: what is optimised.
        terms: the terms of the objective.
        views: what the networks see, by name.
        optimiser: Adam's settings for the images.
        batch: images per round.
        steps: optimiser steps per round.
        keep: which iterate is kept, the one with the lowest loss or the last.
        per_class: if not 0, that many images of each drawn class.
    """

    images: ImageSpec
    terms: tuple[LossTerm, ...]
    views: Mapping[str, View]
    optimiser: Adam
    batch: int
    steps: int
    keep: Literal["best", "last"] = "best"
    per_class: int = 0


class Inversion:
    """Optimise one batch of images per round under a recipe's synthesis objective.

    A round is begin(), then step() `steps` times, then finish(), which returns the kept images. If the recipe
    keeps "best", these are the images with the lowest total loss among those that networks saw at full size; the choice
    is made on the device. Inside a round, steps write into the tensors that its first step left. The terms may read
    the student, which the caller freezes meanwhile.

    Args:
        spec: what is optimised and how.
        problem: the teacher and its domain.
        others: the other networks that terms read by their names: "student", and further ones.
        streams: random streams of the run.
        precision: of the networks' forward passes.
        pool: what terms may read of the images that are kept; None: nothing.

    Raises:
        UserError: a network does not take images of the sizes that the method shows it.
        ValueError: the recipe makes no images, or a term reads a view that it does not have.
    """

    def __init__(
        self,
        spec: InversionSpec,
        problem: Problem,
        others: Mapping[str, nn.Module],
        streams: Streams,
        precision: Precision = "fp32",
        pool: PoolView | None = None,
    ) -> None:
        self.spec, self.problem, self.streams, self.precision = spec, problem, streams, precision
        seed = seed_for(*streams.parts, "synthesis parameters")
        self.images = spec.images.build(problem.domain, problem.device, seed)
        self.images.meet(problem.teacher)
        context = TermContext(problem.domain, {"teacher": problem.teacher, **others}, seed, pool=pool)
        self.objective = Objective(spec.terms, context).to(problem.device)
        if missing := self.objective.views() - set(spec.views):
            raise ValueError(f"the recipe has no view {sorted(missing)}; it has {sorted(spec.views)}")
        check_sizes(self.objective, self.images.sizes)
        parameters = [
            {"params": list(term.parameters()), "lr": spec.optimiser.lr}
            for term in self.objective.terms.values()
            if list(term.parameters())
        ]
        self.term_optimiser = torch.optim.Adam(parameters) if parameters else None
        self.meter = Meter()
        self.targets = torch.empty(0, dtype=torch.int64, device=problem.device)
        self.best = torch.empty(0, *problem.domain.shape, device=problem.device)
        self.best_loss = torch.tensor(float("inf"), device=problem.device)

    def begin(self) -> None:
        """Draw the round's targets, sorted, and start the images."""
        n = self.spec.batch
        rng = self.streams.get("synthesis")
        self.targets = self._draw_targets(n, rng).sort().values
        self.images.attach(n, rng, self.spec.steps)
        self.images.start(self.targets, self.spec.optimiser)
        self.best = torch.zeros(n, *self.problem.domain.shape, device=self.problem.device)
        self.best_loss = torch.full((), float("inf"), device=self.problem.device)

    def _draw_targets(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n labels (n,), all classes equally likely.

        If the recipe asks for it, `per_class` labels of each drawn class; else the labels that the images require, if
        they require any.
        """
        classes, device = self.problem.domain.classes, self.problem.device
        if not self.spec.per_class:
            if (required := self.images.required_labels(n, rng)) is not None:
                return required
            return torch.randint(0, classes, (n,), generator=rng, device=device)
        shuffled = torch.randperm(classes, generator=rng, device=device)
        return shuffled[(torch.arange(n, device=device) // self.spec.per_class) % classes]

    @property
    def wanted(self) -> Tensor:
        """Return the targets of the round's images: labels (N,), or shares of the classes (N,C) if images mix them."""
        return self.targets if self.images.shares is None else self.images.shares

    def step(self, progress: Progress) -> Context:
        """Take one optimiser step on the images, without synchronising the device. Returns what terms were given."""
        with autocast(self.problem.device, self.precision):
            images = self.images.images()
            shown = self.images.shown(images)
            total, parts, ctx = self.objective(shown, self.wanted, self._views(shown), self.streams, progress)
        with torch.no_grad():
            loss = total.detach()
            better = (
                loss < self.best_loss if self.spec.keep == "best" else torch.ones_like(loss, dtype=torch.bool)
            )
            if not self.images.whole:
                better = torch.zeros_like(better)
            self.best.copy_(torch.where(better, images.detach(), self.best))
            self.best_loss.copy_(torch.where(better, loss, self.best_loss))
            self.objective.kept(ctx, better)
        if self.term_optimiser is not None:
            self.term_optimiser.zero_grad(set_to_none=True)
        self.images.step(total)
        if self.term_optimiser is not None:
            self.term_optimiser.step()
        self.meter.add(parts)
        return ctx

    def _views(self, images: Tensor) -> dict[str, Tensor]:
        domain = self.problem.domain
        with torch.autocast(images.device.type, enabled=False):
            return {
                name: domain.normalise(view(images, domain, self.streams.get(f"view {name}"))).contiguous(
                    memory_format=torch.channels_last
                )
                for name, view in self.spec.views.items()
            }

    def finish(self) -> tuple[Tensor, Tensor]:
        """End the round and return its images, clamped to [0,1], and their targets.

        The images are (N,C,H,W); the targets are labels (N,), or shares of the classes (N,C) if images mix them. In a
        round without steps the images are returned as they started.
        """
        kept = self.best if self.spec.steps else self.images.images().detach()
        self.images.finish()
        self.objective.end_round()
        return kept.clamp(0, 1), self.wanted

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a run needs to resume between two steps."""
        return {
            "images": self.images.state_dict(),
            "terms": self.objective.state_dict(),
            "term_optimiser": None if self.term_optimiser is None else self.term_optimiser.state_dict(),
            "targets": self.targets,
            "best": self.best.clone(),
            "best_loss": self.best_loss.clone(),
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        steps = self.spec.steps
        self.images.attach(len(state["targets"]), self.streams.get("synthesis"), steps)
        self.images.load_state_dict(state["images"])
        self.objective.load_state_dict(state["terms"])
        if self.term_optimiser is not None:
            self.term_optimiser.load_state_dict(state["term_optimiser"])
        self.targets, self.best, self.best_loss = (
            state["targets"],
            state["best"].clone(),
            state["best_loss"].clone(),
        )
        self.meter.load_state_dict(state["meter"])
