"""RGAL's relation term: a triplet whose roles are exchanged between synthesis and student training.

Liang & Fu, "Relation-Guided Adversarial Learning for Data-Free Knowledge Transfer", IJCV 2024, arXiv 2412.11380.

`gather` (student steps): same-label samples together, different-label samples apart.
`spread` (synthesis steps): the roles exchanged: same-label apart (intra-class diversity), different-label
together (inter-class confusion).

Which negatives a pair is compared with is drawn in `rgal.terms.negatives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.negatives import (
    BANDS,
    Band,
    Negatives,
    Pairs,
    row_distances,
    same_label_pairs,
    sample_negatives,
)
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext

Polarity = Literal["spread", "gather"]
Net = Literal["teacher", "student"]
Feature = Literal["layers", "global", "logits"]


def triplet(
    embeddings: Sequence[Tensor], negatives: Negatives, polarity: Polarity, margin: float = 0.2
) -> Tensor:
    """Return the mean over ordered same-label pairs (a,p) of sum_l max(0, +-(|u_a - u_p| - |u_a - u_n|) + margin).

    Pairs whose hinge is zero count in the mean, as in the release. Without a pair, or without a second label, the loss
    is a zero that is attached to the graph.

    Args:
        embeddings: one (N,D_l) for each layer l; they are brought to unit length here.
        negatives: one for each pair.
        polarity: "gather" takes the sign +, "spread" -.
        margin: in units of the distance of unit vectors, 0 to 2.
    """
    return _hinge([row_distances(rows) for rows in embeddings], negatives, polarity, margin)


def _hinge(distances: Sequence[Tensor], negatives: Negatives, polarity: Polarity, margin: float) -> Tensor:
    """Return the triplet loss of each layer's distances (N,N), summed."""
    sign = {"gather": 1.0, "spread": -1.0}[polarity]
    pairs = negatives.pairs
    counted = pairs.real & negatives.exists[:, None]
    total = distances[0].new_zeros(())
    columns = torch.cat([pairs.columns, negatives.index], dim=1)
    for distance in distances:
        near, far = distance.gather(1, columns).chunk(2, dim=1)
        total = total + F.relu(sign * (near - far) + margin).masked_fill(~counted, 0.0).sum()
    return (total / counted.sum().clamp(min=1)).float()


def fallback_share(negatives: Negatives) -> Tensor:
    """Return the share of anchors with a pair and a negative whose negatives all lie outside the band, or 0."""
    anchors = negatives.exists & negatives.pairs.real.any(1)
    return (anchors & ~negatives.in_band).sum() / anchors.sum().clamp(min=1)


def relation_distances(u: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean distances of same-label and of different-label rows of u (N,D), normalised; 0 without any."""
    return _mean_distances(row_distances(u), same_label_pairs(labels))


def _mean_distances(distance: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the mean of the distances (N,N) of pairs, and of those of rows of different labels; 0 without any."""
    n, count = len(distance), pairs.real.sum()
    same = distance.gather(1, pairs.columns).masked_fill_(~pairs.real, 0.0).sum()
    others = n * (n - 1) - count
    different = torch.where(others > 0, distance.sum() - same, 0.0)
    return same / count.clamp(min=1), different / others.clamp(min=1)


@dataclass(frozen=True)
class Group:
    """Name images of a batch among which triplets are formed.

    Args:
        suffix: appended to the term's name for what is logged.
        rows: which rows of the batch these are.
        labels: their labels, (n,).
        drawn_by: what their negatives are drawn by, (n,D).
        weight: weight of the group's loss in the term.
        among: which rows may be whose negatives, (n,n); None: all.
        trained: how many rows, the first, the loss may move; None: all. The others only push these away.
    """

    suffix: str
    rows: slice
    labels: Tensor
    drawn_by: Tensor
    weight: float = 1.0
    among: Tensor | None = None
    trained: int | None = None


@runtime_checkable
class GroupsTriplets(Protocol):
    """Decide, as the `task_data` of a context, which images of a batch form triplets with which."""

    def triplet_groups(self, ctx: Context, spec: RelationSpec) -> list[Group]:
        """Return the groups of the step's images, each with the labels and logits that its triplets are formed by."""
        ...


def whole_batch(ctx: Context, spec: RelationSpec) -> list[Group]:
    """Form triplets among all images, under the teacher's labels: the paper's loss."""
    labels = ctx.of("teacher").logits.argmax(1)
    return [Group("", slice(None), labels, ctx.of(spec.sample_on).logits.detach())]


@dataclass(frozen=True)
class RelationSpec:
    """Say what a relation term measures and draws. Labels are the teacher's argmax.

    Args:
        polarity: which images are pushed apart; None: as the term is called. With `follows=code` it is "gather" in
            synthesis too, as in the release.
        band: which distances negatives may have.
        target: the network on whose embeddings the margin is measured.
        sample_on: the network on whose logits negatives are drawn.
        features: which embeddings are measured.
        layers: (start, end): "layers" are layers[start:end], pooled over H x W.
        margin: of the hinge, in units of the distance of unit vectors, 0 to 2.
        mixed: weight of triplets across the groups of a task's batch, relative to those inside them.
    """

    polarity: Polarity | None = None
    band: Band = BANDS["focal"]
    target: Net = "student"
    sample_on: Net = "teacher"
    features: tuple[Feature, ...] = ("layers",)
    layers: tuple[int, int] = (2, 4)
    margin: float = 0.2
    mixed: float = 0.0


class RelationTriplet(Term):
    """The triplet on a network's embeddings, with negatives drawn on logits."""

    def __init__(self, name: Polarity, spec: RelationSpec, task_data: object | None = None) -> None:
        super().__init__()
        self.name, self.spec = name, spec
        self.groups = task_data.triplet_groups if isinstance(task_data, GroupsTriplets) else whole_batch
        self.polarity = spec.polarity or name
        reads = {"layers": "layers", "global": "feature", "logits": "logits"}
        self.reads = (
            Reads("teacher"),
            Reads(spec.sample_on),
            *(Reads(spec.target, reads[feature]) for feature in spec.features),
        )
        if "layers" in spec.features:
            other = "teacher" if spec.target == "student" else "student"
            way = "feature=global" if name == "gather" else f"target={other}, if that one has layers"
            self.hint = f"set the method's parameter {way}; or {name}=0"

    def embeddings(self, ctx: Context) -> list[Tensor]:
        """Return the embeddings to measure, each (N,D): pooled layers, penultimate feature, logits."""
        observation, spec = ctx.of(self.spec.target), self.spec
        embeddings: list[Tensor] = []
        if "layers" in spec.features:
            layers = observation.layers
            start, end = spec.layers
            # A start beyond the last layer of a shallow net means its last layer, never an empty sum.
            start = min(start, len(layers) - 1)
            embeddings += [layer.float().mean((2, 3)) for layer in layers[start : max(end, start + 1)]]
        if "global" in spec.features:
            embeddings.append(observation.required_feature)
        if "logits" in spec.features:
            embeddings.append(observation.logits)
        return embeddings

    def forward(self, ctx: Context) -> Tensor:
        embeddings = self.embeddings(ctx)
        rng = ctx.streams.get(f"{self.name} negatives")
        losses = [self._loss(ctx, group, embeddings, rng) for group in self.groups(ctx, self.spec)]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _loss(self, ctx: Context, group: Group, embeddings: Sequence[Tensor], rng: torch.Generator) -> Tensor:
        """Return the weighted triplet loss of one group, and note how its images lie to each other."""
        label = f"{self.name}{group.suffix}"
        negatives = sample_negatives(group.drawn_by, group.labels, self.spec.band, rng, among=group.among)
        ctx.notes[f"{label}_fallback"] = fallback_share(negatives)
        rows = [embedding[group.rows] for embedding in embeddings]
        if group.trained is not None:
            rows = [torch.cat([row[: group.trained], row[group.trained :].detach()]) for row in rows]
        distances = [row_distances(row) for row in rows]
        same, different = _mean_distances(distances[-1].detach(), negatives.pairs)
        ctx.notes[f"{label}_same"], ctx.notes[f"{label}_different"] = same, different
        loss = _hinge(distances, negatives, self.polarity, self.spec.margin)
        return loss if group.weight == 1 else group.weight * loss


def relation(
    name: Polarity,
    weight: float,
    spec: RelationSpec = RelationSpec(),  # noqa: B008
    until: float = 1.0,
    after_warmup: bool = False,
) -> LossTerm:
    """Make RGAL's triplet: of synthesis (spread: same labels apart, others together) or of the student (gather).

    Args:
        name: the term's role, under which it is logged: "spread" in synthesis, "gather" in student training.
        weight: of the term in its objective.
        spec: what is measured and drawn.
        until: share of the rounds after which the term is off.
        after_warmup: whether warm-up rounds go without the term.
    """

    def build(context: TermContext) -> Term:
        return RelationTriplet(name, spec, context.task_data)

    return LossTerm(name, weight, build, after_warmup=after_warmup, until=until)
