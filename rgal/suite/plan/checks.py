"""Whether the methods of a suite can work with its networks: found out before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from rgal.core.errors import UserError
from rgal.core.observe import shows_everything
from rgal.core.problem import Domain
from rgal.engine.networks import build_networks
from rgal.suite.plan.trial import Trial
from rgal.suite.task import Task, trial_recipe
from rgal.synthesis.loop import check_sizes
from rgal.terms.objective import Objective, TermContext


def check_networks(
    trials: Iterable[Trial], task: Task, domain: Domain, built: Mapping[str, nn.Module]
) -> None:
    """UserError if a method's terms read what its networks do not have, batch norms say. It names all such methods.

    built: the networks by name. They are used up: the task makes of them what its trials will see.
    """
    pairs: dict[tuple[str, str], dict[str, Trial]] = {}
    for trial in trials:
        pairs.setdefault((trial.teacher, trial.student), {})[trial.method] = trial
    for (teacher, student), methods in pairs.items():
        where = " and ".join(dict.fromkeys((teacher, student)))
        try:
            nets = task.networks(built[teacher], built[student], domain)
        except UserError as error:
            raise UserError(f"task '{task.name}' with {where}: {error}") from error
        if all(map(shows_everything, nets.values())):
            continue  # no term can ask for what is not there, and to build them all takes time
        reasons = {name: _obstacle(trial, domain, nets) for name, trial in methods.items()}
        refused = {name: reason for name, reason in reasons.items() if reason}
        if refused:
            first, *others = refused
            rest = f". Neither can: {', '.join(others)}" if others else ""
            raise UserError(f"method '{first}' cannot run with {where}: {refused[first]}{rest}")


def _obstacle(trial: Trial, domain: Domain, nets: Mapping[str, nn.Module]) -> str:
    """What keeps a trial's terms from being built for these networks; "" if nothing does."""
    recipe = trial_recipe(trial)
    try:
        seen = {**nets, **build_networks(recipe.networks, TermContext(domain, nets))}
        synthesis, _ = (
            Objective(terms, TermContext(domain, seen)) for terms in (recipe.synthesis, recipe.transfer)
        )
        if recipe.images is not None:
            check_sizes(synthesis, recipe.images.build(domain, torch.device("cpu"), 0).sizes)
    except (UserError, ValueError) as error:
        return str(error)
    return ""
