"""The term of NAPA-VQ: coding vectors in place of a linear classifier, kept apart from their neighbours.

f (N,D) are the model's features; v (M,D) the rows of its classifier, here coding vectors, one for each rotation of each
class. d(x, j) = |x - v_j|.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.tasks.class_incremental.groups import statistics_of
from rgal.tasks.class_incremental.head import rows_of
from rgal.tasks.class_incremental.prototypes import _PrototypeTerm
from rgal.tasks.class_incremental.terms import head_of
from rgal.terms.objective import Context, LossTerm, Reads, TermContext

NEAREST = 15  # vectors near an image that its own nearest one takes as neighbours
FADING = 0.9  # of an edge for each image of the vector that does not confirm it
LEAST = FADING**10  # below which an edge is dropped


def near(distances: Tensor) -> Tensor:
    """Return which of the vectors are among the nearest of each row, (N,M) of 0 and 1, from distances (N,M)."""
    nearest = distances.topk(min(NEAREST, distances.shape[1]), dim=1, largest=False).indices
    return torch.zeros_like(distances).scatter_(1, nearest, 1.0)


def followed(graph: Tensor, distances: Tensor) -> Tensor:
    """Return the graph of neighbours after a batch: e_ij <- max(e_ij, [h_ij > 0]) 0.9^max(0, a_i - h_ij).

    What falls below 0.9^10 becomes 0.
    a_i is the number of images whose nearest vector is i, h_ij of how many of these v_j is among the 15 nearest.

    Args:
        graph: e, (M,M).
        distances: of the batch's images, (N,M).
    """
    owners = F.one_hot(distances.argmin(1), len(graph)).to(graph)
    confirmed = owners.T @ near(distances)
    missed = (owners.sum(0)[:, None] - confirmed).clamp_min(0)
    edges = torch.maximum(graph, (confirmed > 0).to(graph)) * FADING**missed
    return edges.where(edges >= LEAST, torch.zeros_like(edges))


def neighbour_margin_loss(distances: Tensor, labels: Tensor, graph: Tensor) -> Tensor:
    """Return mean_i relu(d(f_i, y)^2 - sum_j w_ij d(f_i, j)^2), j the neighbours of y_i without itself.

    w_i is the softmax over these of -0.001 d^2, a constant; the sum is 0 where there are none.

    Args:
        distances: d, (N,M).
        labels: y, (N,).
        graph: positive where two vectors are neighbours, (M,M).
    """
    squares = distances.square()
    own = F.one_hot(labels, len(graph)).bool()
    beside = (graph[labels] > 0) & ~own
    weights = (-0.001 * squares.detach()).masked_fill(~beside, -1e9).softmax(1) * beside
    return (squares[own] - (weights * squares).sum(1)).relu().mean()


class CodingVectors(_PrototypeTerm):
    """Compute CE(-d(f) / T, y) + NA(f) + p CE(-d(z) / T, 4c) + NA(z), NA `neighbour_margin_loss`.

    z = a m_c + (1-a) m_j, a uniform in [1/2, 1], c an old class and j one whose upright vector is a neighbour of c's,
    c itself among them. Without class means, as in the first phase, there are no z. The graph follows the images'
    features before the loss, and is made symmetric after it. At the start of a phase a new vector has no neighbour; an
    old one has the old ones that are near to it.

    Args:
        context: see `_PrototypeTerm`.
        draws: z per step.
        prototypes: p.
        temperature: T.
    """

    reads = (Reads("student", "feature"),)
    graph: Tensor

    def __init__(self, context: TermContext, draws: int, prototypes: float, temperature: float) -> None:
        super().__init__("coding", context, draws)
        self.head, self.weight, self.temperature = head_of(context.nets["student"]), prototypes, temperature
        means, vectors = statistics_of(context).means, rows_of(self.head[0]).detach()
        old = 0 if means is None else 4 * len(means)
        graph = torch.eye(len(vectors), device=vectors.device)
        if old:
            edges = near(torch.cdist(vectors[:old], vectors[:old]))
            graph[:old, :old] = torch.maximum(edges, edges.T)
        self.register_buffer("graph", graph)

    def forward(self, ctx: Context) -> Tensor:
        distances = torch.cdist(ctx.of("student").required_feature, rows_of(self.head[0]))
        graph = followed(self.graph, distances.detach())
        loss = F.cross_entropy(-distances / self.temperature, ctx.targets)
        loss = loss + neighbour_margin_loss(distances, ctx.targets, graph)
        if self.statistics.means is not None:
            mixed, classes = self.mixed_means(graph, ctx.streams.get(f"{self.name} draws"))
            away = torch.cdist(mixed, rows_of(self.head[0]))
            prototypes = F.cross_entropy(-away / self.temperature, 4 * classes)
            ctx.notes["prototypes"] = prototypes.detach()
            loss = loss + self.weight * prototypes + neighbour_margin_loss(away, 4 * classes, graph)
        self.graph = torch.maximum(graph, graph.T)
        return loss

    def mixed_means(self, graph: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw z (draws,D) and c (draws,)."""
        classes = self.drawn_classes(rng)
        upright = graph[: 4 * len(self.means) : 4, : 4 * len(self.means) : 4]
        others = torch.multinomial((upright[classes] > 0).float(), 1, generator=rng)[:, 0]
        share = 0.5 + 0.5 * torch.rand(self.draws, 1, generator=rng, device=classes.device)
        return share * self.means[classes] + (1 - share) * self.means[others], classes


def coding_vectors(
    weight: float = 1.0, prototypes: float = 10.0, draws: int = 64, temperature: float = 0.1
) -> LossTerm:
    """Make `CodingVectors`."""
    return LossTerm("ce", weight, lambda context: CodingVectors(context, draws, prototypes, temperature))
