"""RGAL's relation term: a triplet whose roles are exchanged between synthesis and student training.

Liang & Fu, "Relation-Guided Adversarial Learning for Data-Free Knowledge Transfer", IJCV 2024, arXiv 2412.11380.

`gather` (student steps): same-label samples together, different-label samples apart.
`spread` (synthesis steps): the roles exchanged: same-label apart (intra-class diversity), different-label
together (inter-class confusion).

Negatives follow distance-weighted sampling (Wu et al., "Sampling matters in deep embedding learning", ICCV 2017)
within a band of distances; the paper's *focal weighted sampling* is the finite band 0.5 < d < 1.0.

Everything is dense, N x N: static shapes, O(N^2) memory, no host synchronisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext

Polarity = Literal["spread", "gather"]
Net = Literal["teacher", "student"]
Feature = Literal["layers", "global", "logits"]
BandName = Literal["distance", "focal", "uniform"]


@dataclass(frozen=True)
class Band:
    """Say which distances a negative may have: low < d < high, after d is clamped up to `clamp`.

    Args:
        low: lower limit, exclusive.
        high: upper limit, exclusive.
        clamp: smaller distances count as this one.
        weighted: whether draws are weighted by the inverse density of distances, or uniform inside the band.
    """

    low: float = 0.0
    high: float = 2.0
    clamp: float = 0.0
    weighted: bool = True

    def between(self, low: float | None, high: float | None) -> Band:
        """Return the band with other limits, where they are given; a given `low` also ends the clamping.

        Raises:
            ValueError: no distance lies between the limits.
        """
        limits = (self.low if low is None else low, self.high if high is None else high)
        if not limits[0] < limits[1]:
            raise ValueError(f"the band of distances is empty: low={low}, high={high}")
        return Band(*limits, self.clamp if low is None else 0.0, self.weighted)


BANDS: Mapping[BandName, Band] = {
    "distance": Band(high=1.4, clamp=0.5),
    "focal": Band(low=0.5, high=1.0),
    "uniform": Band(low=-1.0, high=float("inf"), weighted=False),
}


@dataclass(frozen=True)
class Negatives:
    """Hold the negatives that were drawn for N anchors.

    Args:
        index: rows of other labels for each anchor, (N, draws).
        exists: whether the anchor has a row of another label at all, (N,).
        in_band: whether it has one inside the band, (N,). If not, its draws are uniform over all other labels.
    """

    index: Tensor
    exists: Tensor
    in_band: Tensor


def unit_distances(u: Tensor) -> Tensor:
    """Return the distances (N,N), float64, of unit vectors (N,D), with zero gradient where two rows coincide.

    d^2 = |u_i|^2 + |u_j|^2 - 2<u_i,u_j> loses half of its digits for close pairs; float64 keeps distance and
    gradient right to float32 precision in O(N^2) memory, where differences of all pairs would need O(N^2 D).
    |u_i|^2 is not taken for 1: float32 unit vectors miss it by 1e-7, which alone is a distance of 3e-4.
    """
    u = u.double()
    squared_length = u.square().sum(1)
    squared = (squared_length[:, None] + squared_length - 2 * (u @ u.T)).clamp(max=4)
    positive = squared > 1e-14
    return torch.where(positive, squared, torch.ones_like(squared)).sqrt() * positive


def log_inverse_density(distance: Tensor, dimension: int) -> Tensor:
    """Return -log q(d) up to a constant, q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2).

    q is the density of the distance of two random points of the unit sphere in R^D (Wu et al. 2017). d^2 is kept off 0
    and 4, where the logarithms diverge.
    """
    squared = distance.square().clamp(1e-8, 4 - 1e-4)
    return -((dimension - 2) / 2 * squared.log() + (dimension - 3) / 2 * (1 - squared / 4).log())


@torch.no_grad()
def sample_negatives(
    embeddings: Tensor,
    labels: Tensor,
    band: Band,
    rng: torch.Generator,
    draws: int | None = None,
    among: Tensor | None = None,
) -> Negatives:
    """Draw `draws` negatives (default N) for each of N anchors, with replacement.

    Inadmissible columns are masked *before* the softmax over the log weights. The release normalises by the row
    maximum over all columns first, which at D = 100 underflows every admissible weight as soon as one close
    same-label neighbour exists. Draws invert the cumulative distribution, which needs no check on the host.

    Args:
        embeddings: (N,D) of any scale. Distances are those of the normalised rows, and D enters the density.
        labels: (N,).
        band: which distances negatives may have.
        rng: of the draws.
        draws: negatives per anchor; None: N.
        among: which columns may be negatives of which row at all, bool (N,N); None: all.
    """
    n, dimension = embeddings.shape
    distance = unit_distances(F.normalize(embeddings.float(), dim=1)).clamp(min=band.clamp)
    other = labels[:, None] != labels[None, :]
    if among is not None:
        other = other & among
    admissible = other & (distance > band.low) & (distance < band.high)
    in_band = admissible.any(1)
    allowed = torch.where(in_band[:, None], admissible, other)
    log_weight = log_inverse_density(distance, dimension) if band.weighted else torch.zeros_like(distance)
    log_weight = torch.where(in_band[:, None], log_weight, 0.0)  # fallback: uniform over all other labels
    log_weight = log_weight.masked_fill(~allowed, float("-inf"))
    exists = other.any(1)
    weight = torch.where(exists[:, None], torch.softmax(log_weight, dim=1), 0.0)
    cumulative = weight.cumsum(1)
    total = cumulative[:, -1:]
    point = torch.rand(n, draws or n, generator=rng, device=embeddings.device) * total
    # Rounding may put a point on the total itself, past the last column of positive weight.
    point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, point, right=True).clamp(max=n - 1)
    return Negatives(index, exists, in_band)


def triplet(
    embeddings: Sequence[Tensor],
    labels: Tensor,
    negatives: Negatives,
    polarity: Polarity,
    margin: float = 0.2,
) -> Tensor:
    """Return the mean over ordered same-label pairs (a,p) of sum_l max(0, +-(|u_a - u_p| - |u_a - u_n|) + margin).

    Pairs whose hinge is zero count in the mean, as in the release. Without a pair, or without a second label, the loss
    is a zero that is attached to the graph.

    Args:
        embeddings: one (N,D_l) for each layer l; they are brought to unit length here.
        labels: (N,).
        negatives: their index is (N,N); column p holds the negative of the pair (a,p).
        polarity: "gather" takes the sign +, "spread" -.
        margin: in units of the distance of unit vectors, 0 to 2.
    """
    sign = {"gather": 1.0, "spread": -1.0}[polarity]
    same = labels[:, None] == labels[None, :]
    pair = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device) & negatives.exists[:, None]
    total = embeddings[0].new_zeros((), dtype=torch.float64)
    for embedding in embeddings:
        distance = unit_distances(F.normalize(embedding.float(), dim=1))
        gap = distance - distance.gather(1, negatives.index)
        total = total + F.relu(sign * gap + margin).masked_fill(~pair, 0.0).sum()
    return (total / pair.sum().clamp(min=1)).float()


def fallback_share(labels: Tensor, negatives: Negatives) -> Tensor:
    """Return the share of anchors with a pair and a negative whose negatives all lie outside the band, or 0."""
    counts = (labels[:, None] == labels[None, :]).sum(1)
    anchors = negatives.exists & (counts > 1)
    return (anchors & ~negatives.in_band).sum() / anchors.sum().clamp(min=1)


def relation_distances(u: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean distances of same-label and of different-label rows of u (N,D), normalised; 0 without any."""
    distance = unit_distances(F.normalize(u.float(), dim=1))
    same = labels[:, None] == labels[None, :]
    pair = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (distance * pair).sum() / pair.sum().clamp(min=1), (distance * ~same).sum() / (~same).sum().clamp(
        min=1
    )


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
        ctx.notes[f"{label}_fallback"] = fallback_share(group.labels, negatives)
        rows = [embedding[group.rows] for embedding in embeddings]
        with torch.no_grad():
            same, different = relation_distances(rows[-1], group.labels)
            ctx.notes[f"{label}_same"], ctx.notes[f"{label}_different"] = same, different
        if group.trained is not None:
            rows = [torch.cat([row[: group.trained], row[group.trained :].detach()]) for row in rows]
        loss = triplet(rows, group.labels, negatives, self.polarity, self.spec.margin)
        return loss if group.weight == 1 else group.weight * loss


def relation(
    name: Polarity,
    weight: float,
    spec: RelationSpec = RelationSpec(),  # noqa: B008
    until: float = 1.0,
    after_warmup: bool = False,
) -> LossTerm:
    """Make the relation term of synthesis or of the student.

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
