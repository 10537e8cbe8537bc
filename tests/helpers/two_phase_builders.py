"""Models of two phases, and what they see in a step, for the tests of class-incremental methods."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import Observation
from rgal.core.problem import freeze
from rgal.core.seeding import Streams, global_seed
from rgal.tasks.class_incremental.groups import grouped
from rgal.tasks.class_incremental.head import growing_head
from rgal.terms.objective import Context
from tests.helpers import small

STILL = replace(small.GREY, crop_padding=0)  # images are seen as they are


class Tiny(nn.Module):
    """Convolution, batch norm, ReLU, spatial mean: a feature of `width`; and a linear classifier."""

    layer_names = ("conv",)
    head_name = "fc"

    def __init__(self, classes: int, width: int = 5) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Linear(width, classes)

    def feature(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.feature(x))


def two_phases(old: int = 4, new: int = 2, outputs: int = 1, width: int = 5) -> dict[str, nn.Module]:
    """A frozen old model, and a new one that has grown and moved away from it, training."""
    with global_seed("two phases", old, new, outputs, width):
        teacher = Tiny(old * outputs, width)
        nn.init.uniform_(teacher.bn.weight, 0.5, 1.5)
        nn.init.uniform_(teacher.bn.running_var, 0.2, 0.6)
        nn.init.normal_(teacher.fc.weight)
        growing_head(teacher)
        student = copy.deepcopy(teacher)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    growing_head(student).add(new * outputs, "grown")
    freeze(teacher)
    return {"student": student.train(), "teacher": teacher}


def observed(net: nn.Module, features: Tensor) -> Observation:
    """As if the net's extractor had given these features."""
    return Observation(growing_head(net)(features), features)


def step_context(
    nets: dict[str, nn.Module], features: Tensor, old_features: Tensor, labels: Tensor, real: int
) -> Context:
    """A step's context by its features; the old model's are observed without gradient, as a loop does it."""
    with torch.no_grad():
        teacher = observed(nets["teacher"], old_features)
    ctx = small.context(
        STILL,
        torch.zeros(len(features), *STILL.shape),
        labels,
        Streams("cpu", "step"),
        student=observed(nets["student"], features),
        teacher=teacher,
    )
    ctx.groups = grouped(real, len(features))
    return ctx


def logits_context(student: Tensor, teacher: Tensor, labels: Tensor, real: int) -> Context:
    """A step's context by its logits."""
    ctx = small.context(targets=labels, student=Observation(student), teacher=Observation(teacher))
    ctx.groups = grouped(real, len(student))
    return ctx


def gradients(net: nn.Module) -> dict[str, Tensor]:
    """By name, of the parameters that have one."""
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
