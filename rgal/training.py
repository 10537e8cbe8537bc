"""THE student loop: SGD over batches under an objective. Teachers, students and reference rows all train here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rgal.data.batches import evaluate_batches
from rgal.data.dataset import ImageSet
from rgal.meters import Meter
from rgal.precision import Precision, autocast
from rgal.problem import Domain, evaluating
from rgal.recipe import SGD
from rgal.seeding import Streams, seed_for
from rgal.synthesis.views import View, crop_flip, fmix
from rgal.terms.objective import Objective, Progress, Setting, Weighted


class StudentLoop:
    """Trains `nets["student"]` on batches it is handed; the other nets only look on, without gradient.

    One call of `step` is one SGD step. The step count, schedule and all state survive in `state_dict`.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        domain: Domain,
        terms: Sequence[Weighted],
        optimiser: SGD,
        total_steps: int,
        streams: Streams,
        precision: Precision = "fp32",
        view: View = crop_flip,
        pairs: bool = False,
        mix: bool = False,
    ) -> None:
        self.student, self.domain, self.spec, self.total_steps = (
            nets["student"],
            domain,
            optimiser,
            total_steps,
        )
        self.streams, self.precision, self.view, self.pairs, self.mix = streams, precision, view, pairs, mix
        self.device = next(self.student.parameters()).device
        setting = Setting(domain, nets, seed_for(*streams.parts, "student terms"))
        self.objective = Objective(terms, setting, no_grad=set(nets) - {"student"}).to(self.device)
        parameters = [p for p in self.student.parameters() if p.requires_grad] + list(
            self.objective.parameters()
        )
        self.optimiser = torch.optim.SGD(
            parameters,
            lr=optimiser.lr,
            momentum=optimiser.momentum,
            weight_decay=optimiser.weight_decay,
            nesterov=optimiser.nesterov,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.steps = 0
        self.meter = Meter()

    def learning_rate(self, step: int) -> float:
        """Of step 0 .. total_steps - 1."""
        rise = self.spec.rise * self.total_steps
        if step < rise:
            return self.spec.lr * (step + 1) / math.ceil(rise)
        if self.spec.schedule == "constant":
            return self.spec.lr
        done = (step - rise) / max(1.0, self.total_steps - rise)
        if self.spec.schedule == "quarters":
            return self.spec.lr * 0.1 ** int(4 * done)
        return self.spec.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def step(self, images: Tensor, targets: Tensor, progress: Progress = Progress()) -> None:  # noqa: B008
        """One SGD step on images (N,C,H,W) in [0,1] and labels (N,) or shares of the classes (N,C). No host
        synchronisation."""
        if self.pairs:
            images, targets = torch.cat([images, images]), torch.cat([targets, targets])
        seen = self.view(images, self.domain, self.streams.get("student view"))
        if self.mix:
            seen, _, _ = fmix(seen, self.streams.get("fmix"))
        inputs = self.domain.normalise(seen).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            total, parts, _ = self.objective(images, targets, {"global": inputs}, self.streams, progress)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.steps)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        self.steps += 1
        self.meter.add(parts)

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


@torch.no_grad()
def top1(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    domain: Domain,
    precision: Precision = "fp32",
    batch: int = 512,
) -> float:
    """Top-1 accuracy in percent on uint8 images (N,C,H,W), in evaluation mode; the net's modes are put back."""
    device = next(net.parameters()).device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(net), autocast(device, precision):
        for pixels, targets in evaluate_batches(ImageSet(images, labels), batch, device):
            logits = net(domain.normalise(pixels).contiguous(memory_format=torch.channels_last))
            correct += (logits.argmax(1) == targets).sum()
    return 100.0 * int(correct) / len(images)
