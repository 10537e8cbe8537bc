"""Further networks of a recipe during a run: built, kept on the device, moved after steps, stored with the state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.precision import Precision, autocast, place
from rgal.core.problem import Problem, evaluating
from rgal.core.seeding import Streams, global_seed, seed_for
from rgal.engine.schedule import Mode
from rgal.methods.networks import Following, FurtherNetwork, Trained
from rgal.nets.following import follow
from rgal.terms.context import Context
from rgal.terms.objective import Objective, Progress, TermContext


class FurtherNetworks:
    """Hold the further networks of a recipe by name, in `nets`.

    Their parameters have no gradient outside of their own steps, and only gradients to images pass through them. In
    these steps the student is in evaluation mode.

    Args:
        specs: the networks by name.
        problem: the teacher and its domain.
        student: what is followed and copied.
        streams: seeds, and the draws of their terms.
        precision: of forward passes.
    """

    def __init__(
        self,
        specs: Mapping[str, FurtherNetwork],
        problem: Problem,
        student: nn.Module,
        streams: Streams,
        precision: Precision,
    ) -> None:
        self.specs, self.problem, self.student = specs, problem, student
        self.streams, self.precision = streams, precision
        self.steps = dict.fromkeys(specs, 0)
        seed = seed_for(*streams.parts, "further networks")
        sources: dict[str, nn.Module] = {"teacher": problem.teacher, "student": student}
        built = build_networks(specs, TermContext(problem.domain, sources, seed))
        self.nets = {name: place(net, problem.device) for name, net in built.items()}
        self.objectives = {name: self._objective(name, spec) for name, spec in self._trained().items()}
        self.optimisers = {name: self._optimiser(name, spec) for name, spec in self._trained().items()}

    def _trained(self) -> dict[str, Trained]:
        return {name: spec for name, spec in self.specs.items() if isinstance(spec, Trained)}

    def _objective(self, name: str, spec: Trained) -> Objective:
        nets = {"teacher": self.problem.teacher, "student": self.student, **self.nets}
        seed = seed_for(*self.streams.parts, "terms of", name)
        context = TermContext(self.problem.domain, nets, seed)
        return Objective(spec.terms, context, no_grad=set(nets) - {name}).to(self.problem.device)

    def _optimiser(self, name: str, spec: Trained) -> torch.optim.Adam:
        parameters = [*self.nets[name].parameters(), *self.objectives[name].parameters()]
        return torch.optim.Adam(parameters, spec.optimiser.lr, spec.optimiser.betas)

    def before_student(self) -> None:
        """Bring copies that have not moved yet to the student as it starts, with ranges that were set meanwhile."""
        for name, spec in self.specs.items():
            if isinstance(spec, Following) and not self.steps[name]:
                self.nets[name].load_state_dict(self.student.state_dict())

    def after(self, mode: Mode, ctx: Context, progress: Progress) -> dict[str, Tensor]:
        """Move what follows a kind of step, and train what is trained after it.

        Args:
            mode: the kind of the step.
            ctx: what the step's terms were given.
            progress: how far the run is.

        Returns:
            The losses of trained networks, as NAME_TERM.
        """
        parts: dict[str, Tensor] = {}
        for name, spec in self.specs.items():
            if isinstance(spec, Following) and mode == "student":
                follow(self.nets[name], self.student, spec.momentum)
                self.steps[name] += 1
            elif isinstance(spec, Trained) and spec.after == mode:
                losses = self._train(name, ctx, progress)
                parts |= {f"{name}_{term}": loss for term, loss in losses.items()}
        return parts

    def _train(self, name: str, ctx: Context, progress: Progress) -> dict[str, Tensor]:
        """Do a step of a trained network on the images of a step, as the networks were shown them."""
        net = self.nets[name].train().requires_grad_(True)
        seed = (*self.streams.parts, name, self.steps[name])
        views = {"global": ctx.views["global"].detach()}
        try:
            with (
                global_seed(*seed),
                evaluating(self.student),
                autocast(self.problem.device, self.precision),
            ):
                total, parts, _ = self.objectives[name](
                    ctx.images.detach(), ctx.cross_entropy_targets, views, self.streams, progress
                )
            self.optimisers[name].zero_grad(set_to_none=True)
            total.backward()
            self.optimisers[name].step()
        finally:
            net.eval().requires_grad_(False)
        self.steps[name] += 1
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        return {
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "steps": dict(self.steps),
            "terms": {name: objective.state_dict() for name, objective in self.objectives.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.steps = dict(state["steps"])
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        for name in self.objectives:
            self.objectives[name].load_state_dict(state["terms"][name])
            self.optimisers[name].load_state_dict(state["optimisers"][name])


def build_networks(specs: Mapping[str, FurtherNetwork], context: TermContext) -> dict[str, nn.Module]:
    """Build the further networks of a recipe, in evaluation mode and without gradients.

    Args:
        specs: the networks by name.
        context: the domain, the networks "teacher" and "student", and the seed.

    Raises:
        ValueError: a network is one of those that it was to be built from.
    """
    nets: dict[str, nn.Module] = {}
    for name, spec in specs.items():
        with global_seed(context.seed, name):
            net = (
                copy.deepcopy(context.nets["student"]) if isinstance(spec, Following) else spec.build(context)
            )
        for source, given in context.nets.items():
            if net is given:
                raise ValueError(f"the network '{name}' is the {source} itself; build a copy")
        nets[name] = net.eval().requires_grad_(False)
    return nets
