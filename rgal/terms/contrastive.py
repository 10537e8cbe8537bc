"""CMI's contrastive term: each image must be told apart from the batch and from earlier images, across two views.

Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation", IJCAI 2021.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import batch_norms
from rgal.core.seeding import global_seed
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext, of_the_best


def contrastive_loss(local: Tensor, anchor: Tensor, batch: int, temperature: float) -> Tensor:
    """Compute the cross-entropy of <local_i, anchor_j> / temperature with target j = i.

    No gradient reaches the anchors. The result is the mean over the batch's rows plus the mean over the memory's rows,
    so that a large memory does not dilute the batch's gradient.

    Args:
        local: unit vectors (N+M, D) of the local views: the N current images first, then M of the memory.
        anchor: unit vectors (N+M, D) of the same images' global views.
        batch: N.
        temperature: divides the cosines.
    """
    similarity = local @ anchor.detach().T / temperature
    target = torch.arange(len(local), device=local.device)
    per_row = F.cross_entropy(similarity, target, reduction="none")
    loss = per_row[:batch].mean()
    return loss if len(local) == batch else loss + per_row[batch:].mean()


STAGES = ("layer1", "layer2", "layer3", "layer4")
What = Literal["bn_pooled", "layer_inputs"]


def instance_feature(teacher: nn.Module) -> What:
    """Choose what describes an image: the teacher's batch norm inputs, or the inputs of its four residual stages.

    CMI's driver reads the inputs of all batch norms, but those of layer1 to layer4 alone under a ResNet-34: 512 numbers
    instead of 8,512 (it means their outputs and hooks their inputs). ResNet-18, a teacher in none of its pairs, is read
    alike.
    """
    stages = tuple(name.rpartition(".")[2] for name in getattr(teacher, "layer_names", ()))
    return "layer_inputs" if stages == STAGES else "bn_pooled"


class Contrastive(Term):
    """Project images' features by a trained head and contrast them with a memory bank.

    An image's feature is the concatenation of spatial means inside the teacher (`instance_feature`). The bank is a
    ring buffer, to which each round adds the features of its kept images; the rows that join a step are drawn without
    replacement. State: the head's parameters, the bank (local and global features side by side) and the number of
    features written.

    Args:
        context: what the term sizes itself by; the teacher must have BatchNorm2d layers.
        temperature: see `contrastive_loss`.
        bank: images that the bank holds.
        sampled: images of the bank that join each step.
        width: outputs of the projection head.
    """

    def __init__(self, context: TermContext, temperature: float, bank: int, sampled: int, width: int) -> None:
        super().__init__()
        teacher = context.nets["teacher"]
        if not batch_norms(teacher):
            raise UserError("the term 'cr' reads batch norm inputs, but the teacher has no BatchNorm2d layer")
        self.what = instance_feature(teacher)
        self.reads = (Reads("teacher", self.what, "global"), Reads("teacher", self.what, "local"))
        feature = context.probe("teacher", self.what).required(self.what)
        dimension = feature.shape[1]
        with global_seed(context.seed, "contrastive head"):
            self.head = nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, width))
        self.temperature, self.sampled = temperature, sampled
        self.written = 0
        # Not a buffer, which would put the empty part of the bank (900 MB for WRN-40-2) into every checkpoint.
        self.bank = torch.zeros(bank, 2 * dimension, device=feature.device)
        self.kept_features = self.bank[:0]

    def get_extra_state(self) -> dict[str, int | Tensor]:
        filled = self.bank[: min(self.written, len(self.bank))].clone()
        return {"written": self.written, "bank": filled, "kept": self.kept_features.clone()}

    def set_extra_state(self, state: dict[str, int | Tensor]) -> None:
        filled, kept = state["bank"], state["kept"]
        assert isinstance(filled, Tensor) and isinstance(kept, Tensor)
        self.written = int(state["written"])
        self.bank[: len(filled)] = filled.to(self.bank.device)
        self.kept_features = kept.to(self.bank.device).clone()

    def forward(self, ctx: Context) -> Tensor:
        local, anchor = self._features(ctx)
        batch = len(local)
        filled = min(self.written, len(self.bank))
        if filled and self.sampled:
            count = min(self.sampled, filled)
            rng = ctx.streams.get("contrastive memory")
            rows = torch.randperm(filled, generator=rng, device=self.bank.device)[:count]
            memory_local, memory_anchor = self.bank[rows].chunk(2, dim=1)
            local, anchor = torch.cat([local, memory_local]), torch.cat([anchor, memory_anchor])
        projected = F.normalize(self.head(torch.cat([local, anchor])).float(), dim=1)
        local, anchor = projected.chunk(2)
        return contrastive_loss(local, anchor, batch, self.temperature)

    def _features(self, ctx: Context) -> tuple[Tensor, Tensor]:
        local, anchor = ctx.of("teacher", "local"), ctx.of("teacher", "global")
        return local.required(self.what), anchor.required(self.what)

    @torch.no_grad()
    def kept(self, ctx: Context, better: Tensor) -> None:
        current = torch.cat(self._features(ctx), dim=1)
        self.kept_features = of_the_best(self.kept_features, current, better)

    @torch.no_grad()
    def end_round(self) -> None:
        features = self.kept_features[-len(self.bank) :]
        rows = torch.arange(len(features), device=self.bank.device)
        self.bank[(rows + self.written) % len(self.bank)] = features
        self.written += len(features)
        self.kept_features = self.kept_features[:0]


def contrastive(
    weight: float, temperature: float = 0.1, bank: int = 40_960, sampled: int = 4_096, width: int = 256
) -> LossTerm:
    """Contrast images as CMI does (`Contrastive`); the recipe must have the views "global" and "local".

    Args:
        weight: the term's weight.
        temperature: divides the cosines.
        bank: images that the memory bank holds.
        sampled: images of the bank that join each step.
        width: outputs of the projection head.
    """
    return LossTerm("cr", weight, lambda context: Contrastive(context, temperature, bank, sampled, width))
