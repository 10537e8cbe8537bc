"""Objectives: lists of named, weighted terms. Each network makes one forward pass per view, for all terms together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import Observation, batch_norms, observe
from rgal.core.problem import Domain
from rgal.core.seeding import Streams
from rgal.terms.observer import Observer
from rgal.terms.observer import Reads as Reads


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


class Term(nn.Module):
    """Compute a scalar loss from a Context. State lives in buffers and parameters, so that it is stored with the run.

    Its own parameters are trained by Adam at the images' step size in synthesis (CMI's head), and in a student's
    objective by the student's optimiser.

    Attributes:
        reads: what the term reads. Nothing else is observed for it.
        asks: what the term observes on inputs of its own by `ctx.observe`; checked at the start, as `reads` are, but
            not observed ahead.
        hint: what a user can do if a network lacks what the term reads, for the error; by default, to use another
            network or to set the parameter of the term's name to 0.
    """

    reads: tuple[Reads, ...] = ()
    asks: tuple[Reads, ...] = ()
    hint: str = ""

    def forward(self, ctx: Context) -> Tensor:
        """Return the loss, a scalar, before its weight."""
        raise NotImplementedError

    def kept(self, ctx: Context, better: Tensor) -> None:
        """Take note of a synthesis step; `better` (bool scalar): its images are the best so far."""

    def end_round(self) -> None:
        """Take note that the round's images are in the pool."""


class FunctionTerm(Term):
    """Make a term of a function of the context, which keeps no state."""

    def __init__(
        self, function: Callable[[Context], Tensor], reads: Iterable[Reads], asks: Iterable[Reads] = ()
    ) -> None:
        super().__init__()
        self.function = function
        self.reads, self.asks = tuple(reads), tuple(asks)

    def forward(self, ctx: Context) -> Tensor:
        return self.function(ctx)


@dataclass(frozen=True)
class TermContext:
    """Hold what a term may look at when it is built.

    Args:
        domain: the image domain.
        nets: the networks by name: "teacher", "student", ...
        seed: for the initialisation of the term's own parameters.
        task_data: what a task hands to its own terms, which know its type; None elsewhere.
    """

    domain: Domain
    nets: Mapping[str, nn.Module]
    seed: int = 0
    task_data: object | None = None


@dataclass(frozen=True)
class LossTerm:
    """Name and weight a term of a recipe.

    Args:
        name: under which its values are logged; unique in an objective.
        weight: factor of the loss. A term of weight 0 is never built.
        build: makes the term, which may keep state, for a context.
        after_warmup: whether warm-up rounds go without the term.
        until: progress from which on the term is off, in [0,1].
        since: progress from which on the term is on, in [0,1].
    """

    name: str
    weight: float
    build: Callable[[TermContext], Term]
    after_warmup: bool = False
    until: float = 1.0
    since: float = 0.0

    def active(self, progress: Progress) -> bool:
        """Return whether the term counts in a step at this point of the run."""
        return self.since <= progress.fraction < self.until and not (
            self.after_warmup and progress.round < progress.warmup
        )


def stateless(
    name: str,
    weight: float,
    function: Callable[[Context], Tensor],
    *reads: Reads,
    after_warmup: bool = False,
    until: float = 1.0,
) -> LossTerm:
    """Make a LossTerm of a plain function of the context.

    Args:
        name: under which its values are logged.
        weight: factor of the loss.
        function: from the context to a scalar.
        reads: what the function reads.
        after_warmup: whether warm-up rounds go without the term.
        until: progress from which on the term is off, in [0,1].
    """
    return LossTerm(name, weight, lambda context: FunctionTerm(function, reads), after_warmup, until)


def _with_gradient(views: Mapping[str, Tensor], names: set[str]) -> Mapping[str, Tensor]:
    """Let gradients reach the views of these names. In synthesis they reach all of them anyway."""
    if not any(not views[name].requires_grad for name in names):
        return views
    return {
        name: view.detach().requires_grad_() if name in names and not view.requires_grad else view
        for name, view in views.items()
    }


def _check_reads(term: Term, name: str, nets: Mapping[str, nn.Module]) -> None:
    """Refuse a term that reads what a network lacks: a vision transformer has no maps, a VGG may have no batch norm.

    Raises:
        UserError: such a term.
    """
    for read in (*term.reads, *term.asks):
        net, lacking = nets[read.net], ""
        if read.what == "layers" and not getattr(net, "layer_names", ()):
            lacking = "layers, but it has none that are maps (N,C,H,W)"
        elif read.what == "feature" and not getattr(net, "head_name", ""):
            lacking = "feature, but no linear layer of it returns the logits"
        elif read.what.startswith("bn") and not batch_norms(net):
            lacking = "batch norm statistics, but it has no BatchNorm2d layer"
        if lacking:
            hint = term.hint or f"use another {read.net} or set the method's parameter {name}=0"
            raise UserError(f"the term '{name}' reads the {read.net}'s {lacking}; {hint}")


class Objective(nn.Module):
    """Add up weighted terms over shared forward passes.

    Terms of weight 0 are dropped: they cost nothing, draw nothing and change no number.

    Args:
        terms: the terms of a recipe.
        context: what they are built from.
        no_grad: names of networks that are forwarded without gradient.

    Raises:
        ValueError: two terms have one name.
        UserError: a term reads what a network does not have.
    """

    def __init__(self, terms: Iterable[LossTerm], context: TermContext, no_grad: Iterable[str] = ()) -> None:
        super().__init__()
        self.loss_terms = tuple(term for term in terms if term.weight != 0)
        names = [term.name for term in self.loss_terms]
        if len(set(names)) != len(names):
            raise ValueError(f"two terms share a name: {names}")
        self.context = context
        self.no_grad = frozenset(no_grad)
        self.terms = nn.ModuleDict({term.name: term.build(context) for term in self.loss_terms})
        for loss_term in self.loss_terms:
            _check_reads(self._term(loss_term), loss_term.name, context.nets)

    def active(self, progress: Progress) -> list[LossTerm]:
        """Return the terms that count in a step at this point of the run."""
        return [loss_term for loss_term in self.loss_terms if loss_term.active(progress)]

    def views(self) -> set[str]:
        """Return every view that a term reads, whether it is active or not, and "global"."""
        return {read.view for loss_term in self.loss_terms for read in self._term(loss_term).reads} | {
            "global"
        }

    def nets(self) -> set[str]:
        """Return every network that a term reads, whether it is active or not."""
        terms = [self._term(loss_term) for loss_term in self.loss_terms]
        return {read.net for term in terms for read in (*term.reads, *term.asks)}

    def _term(self, loss_term: LossTerm) -> Term:
        term = self.terms[loss_term.name]
        assert isinstance(term, Term)
        return term

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        views: Mapping[str, Tensor],
        streams: Streams,
        progress: Progress,
        groups: Mapping[str, slice] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Context]:
        """Add up the active terms. Nothing synchronises the device.

        Args:
            images: (N,C,H,W) in [0,1].
            targets: labels (N,), or shares of the classes (N,C).
            views: normalised inputs of the networks, by the name of the view.
            streams: all random draws of terms.
            progress: how far the run is.
            groups: named ranges of rows, where a task tells kinds of images apart.

        Returns:
            The total loss; the unweighted losses and the notes by name, detached, with the total as "total"; the
            context that the terms were given.
        """
        active = self.active(progress)
        observer = Observer(self._observe, self.no_grad, images.device.type)
        ctx = self._context(active, images, targets, views, observer, streams)
        ctx.progress, ctx.groups = progress, groups or {}
        total = images.new_zeros(())
        parts: dict[str, Tensor] = {}
        # Networks may run in bf16; what is computed from them never does.
        with torch.autocast(images.device.type, enabled=False):
            for loss_term in active:
                value = self._term(loss_term)(ctx)
                parts[loss_term.name] = value.detach()
                total = total + loss_term.weight * value
        parts["total"] = total.detach()
        if observer.further:
            ctx.notes["further_passes"] = total.new_full((), observer.further)
        parts.update(ctx.notes)
        return total, parts, ctx

    def _context(
        self,
        active: Iterable[LossTerm],
        images: Tensor,
        targets: Tensor,
        views: Mapping[str, Tensor],
        observer: Observer,
        streams: Streams,
    ) -> Context:
        """Make the context of a step, with all that its terms read of the networks on the views."""
        reads = [read for loss_term in active for read in self._term(loss_term).reads]
        views = _with_gradient(views, {read.view for read in reads if read.graph})
        shares = targets if targets.ndim == 2 else None
        ctx = Context(
            self.context.domain,
            images,
            labels_of(targets),
            views,
            {},
            streams,
            shares=shares,
            observer=observer,
        )
        for (net, view, graph), seen in observer.ahead(reads, views).items():
            (ctx.graphs if graph else ctx.observations)[net, view] = seen
        return ctx

    def _observe(self, net: str, inputs: Tensor, what: Iterable[str], graph: bool = False) -> Observation:
        with torch.set_grad_enabled((graph or net not in self.no_grad) and torch.is_grad_enabled()):
            observation = observe(self.context.nets[net], inputs, what)
        observation.logits = (
            observation.logits.float()
        )  # losses are float32 whatever the precision of the networks
        if observation.feature is not None:
            observation.feature = observation.feature.float()
        return observation

    def kept(self, ctx: Context, better: Tensor) -> None:
        """Call `kept` of all terms that were active in a synthesis step."""
        for loss_term in self.active(ctx.progress):
            self._term(loss_term).kept(ctx, better)

    def end_round(self) -> None:
        """Call `end_round` of all terms."""
        for loss_term in self.loss_terms:
            self._term(loss_term).end_round()
