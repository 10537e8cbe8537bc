"""THE student loop: optimiser steps under an objective. Teachers, students and reference rows train here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.meters import Meter
from rgal.core.optimiser import StudentOptimiser
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, evaluating
from rgal.core.seeding import Streams, global_seed, seed_for
from rgal.data.batches import evaluate_batches
from rgal.data.dataset import ImageSet
from rgal.synthesis.views import View, crop_flip, fmix, rotations
from rgal.tasks.class_incremental.statistics import Memory
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext


class StudentLoop:
    """Trains `nets["student"]` on batches it is handed; the other nets only look on, without gradient.

    One call of `step` is one optimiser step. The step count, schedule and all state survive in `state_dict`.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        domain: Domain,
        terms: Sequence[LossTerm],
        optimiser: StudentOptimiser,
        total_steps: int,
        streams: Streams,
        precision: Precision = "fp32",
        view: View = crop_flip,
        pairs: bool = False,
        mix: bool = False,
        rotations: bool = False,
        memory: Memory = Memory(),  # noqa: B008
    ) -> None:
        self.student, self.domain, self.spec, self.total_steps = (
            nets["student"],
            domain,
            optimiser,
            total_steps,
        )
        self.streams, self.precision, self.view = streams, precision, view
        self.pairs, self.mix, self.rotations = pairs, mix, rotations
        self.device = next(self.student.parameters()).device
        context = TermContext(domain, nets, seed_for(*streams.parts, "student terms"), memory)
        self.objective = Objective(terms, context, no_grad=set(nets) - {"student"}).to(self.device)
        parameters = [p for p in self.student.parameters() if p.requires_grad] + list(
            self.objective.parameters()
        )
        self.optimiser = optimiser.make(parameters, fused=self.device.type in ("cpu", "cuda"))
        self.steps = 0
        self.meter = Meter()

    def learning_rate(self, step: int) -> float:
        """Of step 0 .. total_steps - 1."""
        return self.spec.learning_rate(step, self.total_steps)

    def step(
        self,
        images: Tensor,
        targets: Tensor,
        progress: Progress = Progress(),  # noqa: B008
        real: int = 0,
    ) -> None:
        """One optimiser step on images (N,C,H,W) in [0,1] and labels (N,) or shares of the classes (N,C). The first
        `real` of them are real images of new classes, see `Context`. No host synchronisation."""
        if self.pairs:
            images, targets = torch.cat([images, images]), torch.cat([targets, targets])
        seen = self._seen(images, real)
        if self.mix:
            seen, _, _ = fmix(seen, self.streams.get("fmix"))
        if self.rotations:
            seen, targets = rotations(seen, targets)
            images, real = seen, 4 * real
        inputs = self.domain.normalise(seen).contiguous(memory_format=torch.channels_last)
        # Dropout draws from torch's own stream: seeded by the step, a run that was stopped goes on with the same draws.
        with (
            global_seed(*self.streams.parts, "student step", self.steps),
            autocast(self.device, self.precision),
        ):
            total, parts, _ = self.objective(
                images, targets, {"global": inputs}, self.streams, progress, real
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.steps)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        self.steps += 1
        self.meter.add(parts)

    def _seen(self, images: Tensor, real: int) -> Tensor:
        """Real images of new classes are cropped and flipped; all others as the recipe says."""
        parts = []
        if real:
            parts.append(crop_flip(images[:real], self.domain, self.streams.get("view of new images")))
        if real < len(images):
            parts.append(self.view(images[real:], self.domain, self.streams.get("student view")))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def state_dict(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "terms": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["terms"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = int(state["steps"])
        self.meter.load_state_dict(state["meter"])


def top1(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    domain: Domain,
    precision: Precision = "fp32",
    outputs: int = 1,
) -> float:
    """Top-1 accuracy in percent on uint8 images (N,C,H,W); see `hits`."""
    return 100.0 * int(hits(net, images, labels, domain, precision, outputs).sum()) / len(images)


@torch.no_grad()
def hits(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    domain: Domain,
    precision: Precision = "fp32",
    outputs: int = 1,
    batch: int = 512,
) -> Tensor:
    """Which of the uint8 images (N,C,H,W) are classified right, bool (N,) on the host, in evaluation mode; the net's
    modes are put back. outputs: the net's logits per class, of which the first counts."""
    device = next(net.parameters()).device
    right = []
    with evaluating(net), autocast(device, precision):
        for pixels, targets in evaluate_batches(ImageSet(images, labels), batch, device):
            logits = net(domain.normalise(pixels).contiguous(memory_format=torch.channels_last))
            right.append(logits[:, ::outputs].argmax(1) == targets)
    return torch.cat(right).cpu()
