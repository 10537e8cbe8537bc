"""The check that a teacher knows its classes: nothing can be distilled from one that guesses."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain, evaluating
from rgal.suite.store.folders import read_json

CAUSES = "likely: another normalisation, order of classes, range of inputs or data set"
LOST = 10.0  # points below its record at which a teacher is not the one that was recorded


def weakness(top1: float, classes: int, recorded: float | None = None) -> str:
    """Say in words what is wrong with a teacher's accuracy; "" if nothing is.

    Args:
        top1: on test images, in percent.
        classes: how many it tells apart; chance is 100 / classes percent. Near chance is below twice that, and with
            fewer than ten classes below ten points more than that.
        recorded: what another measurement of the same weights says, in percent.
    """
    chance = 100 / classes
    if top1 < chance + min(chance, 10.0):
        return f"{top1:.2f} % top-1, near chance ({chance:.2f} %)"
    if recorded is not None and top1 < recorded - LOST:
        return f"{top1:.2f} % top-1 on the test images, far below the {recorded:.2f} % of its record"
    return ""


def recorded_top1(weights: Path, dataset: str) -> float | None:
    """The accuracy in percent that the record beside a weights file of ours holds for this data set."""
    record = read_json(weights.with_suffix(".json")) or {}
    top1 = record.get("top1")
    return float(top1) if record.get("dataset") == dataset and isinstance(top1, int | float) else None


def check_given(weights: Path, dataset: str, top1: float, classes: int) -> None:
    """Refuse weights that hardly know the classes of a data set.

    Args:
        weights: the file that the user gave.
        dataset: name of the data set.
        top1: measured on its test images, in percent.
        classes: how many there are.

    Raises:
        UserError: the accuracy is near chance, or far below that of the record beside the file.
    """
    if wrong := weakness(top1, classes, recorded_top1(weights, dataset)):
        raise UserError(f"--teacher-weights {weights}: {wrong}; {CAUSES}; or --set allow_weak_teacher=true")


@torch.no_grad()
def check_answers(net: nn.Module, weights: Path, domain: Domain) -> None:
    """Refuse weights whose answers are no numbers: all that can be said of a teacher without test images.

    Args:
        net: the network with the weights.
        weights: the file that the user gave.
        domain: the images it takes.

    Raises:
        UserError: a logit is not finite.
    """
    images = torch.rand(8, *domain.shape, generator=torch.Generator().manual_seed(0))
    with evaluating(net):
        logits = net(domain.normalise(images))
    if not logits.isfinite().all():
        raise UserError(
            f"--teacher-weights {weights}: the network's answers are not finite for images in [0, 1]; expected numbers"
        )
