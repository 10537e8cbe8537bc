"""Objectives: lists of named, weighted terms. Each network makes one forward pass per view, for all terms together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import Observation, batch_norms, observe
from rgal.core.problem import Domain, evaluating
from rgal.core.seeding import Streams
from rgal.terms.context import Context as Context
from rgal.terms.context import PoolView
from rgal.terms.context import Progress as Progress
from rgal.terms.context import labels_of as labels_of
from rgal.terms.observer import Observer
from rgal.terms.observer import Reads as Reads


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

    def stepped(self, ctx: Context) -> None:
        """Take note that the student's optimiser has taken the step of this context."""


def of_the_best(kept: Tensor, current: Tensor, better: Tensor) -> Tensor:
    """Return what a term remembers of the best images of a round, one row an image.

    Args:
        kept: what it remembered, (N,...); written into, unless its rows are those of another batch.
        current: of this step's images, (N,...).
        better: whether these are the best so far, a bool scalar.
    """
    return current.clone() if len(kept) != len(current) else kept.copy_(torch.where(better, current, kept))


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
        pool: the images that are kept; None where there is no pool.
        steps: optimiser steps that the term will be in; 0 where that is not known.
    """

    domain: Domain
    nets: Mapping[str, nn.Module]
    seed: int = 0
    task_data: object | None = None
    pool: PoolView | None = None
    steps: int = 0

    @torch.no_grad()
    def probe(self, name: str, what: str) -> Observation:
        """Observe a network on one black image, to size a term by. `what`: see `rgal.core.observe`."""
        net = self.nets[name]
        image = torch.zeros(1, *self.domain.shape, device=next(net.parameters()).device)
        with evaluating(net):
            return observe(net, image, [what])


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
        ValueError: a term reads a network that there is none of.
    """
    for read in (*term.reads, *term.asks):
        if read.net not in nets:
            raise ValueError(
                f"the term '{name}' reads a network '{read.net}'; there are {', '.join(sorted(nets))}"
            )
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
        weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Context]:
        """Add up the active terms. Nothing synchronises the device.

        Args:
            images: (N,C,H,W) in [0,1].
            targets: labels (N,), or shares of the classes (N,C).
            views: normalised inputs of the networks, by the name of the view.
            streams: all random draws of terms.
            progress: how far the run is.
            groups: named ranges of rows, where a task tells kinds of images apart.
            weights: importance weights (N,) of the images; None: all weigh the same.

        Returns:
            The total loss; the unweighted losses and the notes by name, detached, with the total as "total"; the
            context that the terms were given.
        """
        active = self.active(progress)
        observer = Observer(self._observe, self.no_grad, images.device.type)
        ctx = self._context(active, images, targets, views, observer, streams)
        ctx.progress, ctx.groups, ctx.weights = progress, groups or {}, weights
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
            pool=self.context.pool,
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

    def stepped(self, ctx: Context) -> None:
        """Call `stepped` of all terms that were active in a student step."""
        for loss_term in self.active(ctx.progress):
            self._term(loss_term).stepped(ctx)
