"""What a term may look at in one step: images, views, what was observed of the networks, the pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from rgal.core.observe import Observation
from rgal.core.problem import Domain
from rgal.core.seeding import Streams
from rgal.terms.observer import Observer


class PoolView(Protocol):
    """What terms may read of the pool of images that are kept, see `rgal.synthesis.pool.ImagePool`."""

    def __len__(self) -> int: ...

    @property
    def images(self) -> Tensor: ...

    @property
    def targets(self) -> Tensor: ...

    @property
    def priorities(self) -> Tensor: ...

    def class_counts(self, classes: int) -> Tensor:
        """Count the images of each class, (classes,)."""
        ...


@dataclass(frozen=True)
class Progress:
    """Say how far a run is, for terms that are switched on or off on the way.

    >>> Progress(round=3, rounds=5, warmup=1).fraction
    0.5

    Args:
        round: complete rounds.
        rounds: all rounds of the run.
        warmup: how many of the first rounds have no student steps.
        within: share of the current round's student steps that is done, in [0,1), for runs whose terms may change
            inside a round; 0 elsewhere.
    """

    round: int = 0
    rounds: int = 1
    warmup: int = 0
    within: float = 0.0

    @property
    def fraction(self) -> float:
        """Share of the rounds after warm-up that is done, in [0,1)."""
        return max(0.0, self.round + self.within - self.warmup) / max(1, self.rounds - self.warmup)


def labels_of(targets: Tensor) -> Tensor:
    """Return labels (N,): targets that are labels already, or the class of the largest share of mixed images (N,C).

    >>> import torch
    >>> labels_of(torch.tensor([[0.3, 0.7], [0.6, 0.4]]))
    tensor([1, 0])
    """
    return targets if targets.ndim == 1 else targets.argmax(1)


@dataclass
class Context:
    """Hold what a term may look at in one step.

    Args:
        domain: the image domain.
        images: (N,C,H,W) in [0,1], before any view; smaller while synthesis works at a low resolution.
        targets: labels (N,).
        views: normalised inputs (N,C,H,W) by the name of the view.
        observations: what was observed in the forward pass of each (network, view).
        streams: all random draws of terms.
        progress: how far the run is.
        notes: scalars that a term reports beside its loss; they are never added to it.
        shares: share of each class in each mixed image, (N,C); `targets` are then the largest. None: every image is of
            one class.
        groups: named ranges of rows, where a task tells kinds of images apart; empty elsewhere.
        observer: observes networks on further inputs, see `observe`.
        graphs: as `observations`, with the graph from the view on where a term reads it.
        pool: the images that are kept; None where there is no pool. It is empty before the first round's end.
        weights: importance weights (N,) of images that were drawn by priority (`rgal.synthesis.sampling`); None: all
            weigh the same.
        priority: what a term of the student sets: priorities (N,), at least 0, that the step's images have from now on.
            They count where the pool is sampled by priority, or ranks its images by it.
    """

    domain: Domain
    images: Tensor
    targets: Tensor
    views: Mapping[str, Tensor]
    observations: dict[tuple[str, str], Observation]
    streams: Streams
    progress: Progress = field(default_factory=Progress)
    notes: dict[str, Tensor] = field(default_factory=dict)
    shares: Tensor | None = None
    groups: Mapping[str, slice] = field(default_factory=dict)
    observer: Observer | None = None
    graphs: dict[tuple[str, str], Observation] = field(default_factory=dict)
    pool: PoolView | None = None
    weights: Tensor | None = None
    priority: Tensor | None = None

    def mean(self, per_sample: Tensor) -> Tensor:
        """Average a loss (N,) over the samples, each times its importance weight where there are any."""
        return (per_sample if self.weights is None else self.weights * per_sample).mean()

    @property
    def cross_entropy_targets(self) -> Tensor:
        """The targets of a cross-entropy: shares (N,C) of mixed images, labels (N,) of all others."""
        return self.targets if self.shares is None else self.shares

    def of(self, net: str, view: str = "global", graph: bool = False) -> Observation:
        """Return what was observed of a network on a view: what the step's terms read, and the logits in any case.

        Args:
            net, view: names of the network and the view.
            graph: whether gradients reach the view through it, which a term has to declare in its `Reads`.

        Raises:
            KeyError: no active term reads that network on that view.
        """
        return (self.graphs if graph else self.observations)[net, view]

    def observe(
        self, net: str, inputs: Tensor, what: Iterable[str] = ("logits",), graph: bool = False
    ) -> Observation:
        """Observe a network on an input of a term's own, in a further forward pass; see `Observer`.

        Terms that ask for the same network on the same tensor share the pass. A term declares in `Term.asks` what it
        asks for.

        Args:
            net: the network's name.
            inputs: (N,C,H,W), normalised.
            what: names in `rgal.core.observe.WHAT`.
            graph: whether gradients reach `inputs` even through a network that is otherwise observed without them.

        Raises:
            ValueError: this context was made by hand, without networks.
        """
        if self.observer is None:
            raise ValueError("this context has no networks to observe")
        return self.observer(net, inputs, what, graph)
