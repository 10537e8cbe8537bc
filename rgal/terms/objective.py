"""An objective is a list of named, weighted terms. Each network is forwarded once a view, for what terms read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import Observation, batch_norms, observe
from rgal.core.problem import Domain
from rgal.core.seeding import Streams


@dataclass(frozen=True)
class Progress:
    """Where the run stands: round r of `rounds`, of which the first `warmup` have no student steps; `within`: the
    share of the round's student steps that is done, where terms change inside a round (class-incremental learning)."""

    round: int = 0
    rounds: int = 1
    warmup: int = 0
    within: float = 0.0

    @property
    def fraction(self) -> float:
        """Share of the rounds after warm-up that is done, in [0,1)."""
        return max(0.0, self.round + self.within - self.warmup) / max(1, self.rounds - self.warmup)


def labels_of(targets: Tensor) -> Tensor:
    """The labels (N,) of targets that are labels (N,) or, of mixed images, shares of the classes (N,C): the class
    with the largest share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


@dataclass
class Context:
    """What a term may look at in one step.

    images: (N,C,H,W) in [0,1], before any view; smaller while synthesis works at a low resolution. targets: (N,)
    labels. views: normalised inputs by view name.
    seen: one Observation a (network, view). notes: scalars a term reports beside its loss (never added to it).
    shares: (N,C) shares of the classes in mixed images; targets are then the largest. None: one class an image.
    groups: named ranges of rows, where a task tells kinds of images apart; empty elsewhere.
    """

    domain: Domain
    images: Tensor
    targets: Tensor
    views: Mapping[str, Tensor]
    seen: dict[tuple[str, str], Observation]
    streams: Streams
    progress: Progress = field(default_factory=Progress)
    notes: dict[str, Tensor] = field(default_factory=dict)
    shares: Tensor | None = None
    groups: Mapping[str, slice] = field(default_factory=dict)

    @property
    def wanted(self) -> Tensor:
        """What cross-entropies aim at: shares (N,C) of mixed images, else labels (N,)."""
        return self.targets if self.shares is None else self.shares

    def of(self, net: str, view: str = "global") -> Observation:
        return self.seen[net, view]


@dataclass(frozen=True)
class Reads:
    """A read of `what` (a name in rgal.core.observe.WHAT) of network `net` on view `view`."""

    net: str
    what: str = "logits"
    view: str = "global"


class Term(nn.Module):
    """A callable (Context) -> scalar. It declares what it reads in `reads`; state lives in buffers and parameters.

    `learning_rate`: Adam step size for the term's own parameters during synthesis (CMI's head); in a student
    objective they join the student's optimiser hint. `hint`: what to do where a network has nothing to read of,
    for the message; default: set the parameter of the term's name to 0.
    """

    reads: tuple[Reads, ...] = ()
    learning_rate: float = 1e-3
    hint: str = ""

    def forward(self, ctx: Context) -> Tensor:
        raise NotImplementedError

    def kept(self, ctx: Context, better: Tensor) -> None:
        """Called after each synthesis step; `better` (bool scalar) says whether its images are the kept ones so far."""

    def end_round(self) -> None:
        """Called once the round's images are in the pool."""


class FunctionTerm(Term):
    """A term without state: a function of the context."""

    def __init__(self, function: Callable[[Context], Tensor], reads: Iterable[Reads]) -> None:
        super().__init__()
        self.function = function
        self.reads = tuple(reads)

    def forward(self, ctx: Context) -> Tensor:
        return self.function(ctx)


@dataclass(frozen=True)
class TermContext:
    """What a term may size itself by: the domain, the networks by name ("teacher", "student", ...), a seed for the
    initialisation of its own parameters, and what was kept of old classes besides the model
    (rgal.tasks.class_incremental.statistics)."""

    domain: Domain
    nets: Mapping[str, nn.Module]
    seed: int = 0
    task_data: object | None = None


@dataclass(frozen=True)
class LossTerm:
    """A named, weighted term of a recipe. `build` makes the (possibly stateful) term for a context.

    Active from the end of warm-up when `after_warmup`, and while `since` <= progress.fraction < `until`.
    """

    name: str
    weight: float
    build: Callable[[TermContext], Term]
    after_warmup: bool = False
    until: float = 1.0
    since: float = 0.0

    def active(self, progress: Progress) -> bool:
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
    """A LossTerm around a plain function of the context."""
    return LossTerm(name, weight, lambda context: FunctionTerm(function, reads), after_warmup, until)


def _check_reads(term: Term, name: str, nets: Mapping[str, nn.Module]) -> None:
    """UserError for a term that reads what a network does not have: a vision transformer has no maps, a VGG may have no
    batch norm."""
    for read in term.reads:
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
    """Sum of weighted terms over shared forward passes.

    Terms of weight 0 are dropped: they cost nothing, draw nothing and change no number.
    """

    def __init__(self, terms: Iterable[LossTerm], context: TermContext, no_grad: Iterable[str] = ()) -> None:
        super().__init__()
        self.weighted = tuple(w for w in terms if w.weight != 0)
        names = [w.name for w in self.weighted]
        if len(set(names)) != len(names):
            raise ValueError(f"two terms share a name: {names}")
        self.context = context
        self.no_grad = frozenset(no_grad)
        self.terms = nn.ModuleDict({w.name: w.build(context) for w in self.weighted})
        for w in self.weighted:
            _check_reads(self._term(w), w.name, context.nets)

    def active(self, progress: Progress) -> list[LossTerm]:
        return [w for w in self.weighted if w.active(progress)]

    def views(self) -> set[str]:
        """Every view a term reads, whether it is active or not."""
        return {read.view for w in self.weighted for read in self._term(w).reads} | {"global"}

    def nets(self) -> set[str]:
        """Every network a term reads, whether it is active or not."""
        return {read.net for w in self.weighted for read in self._term(w).reads}

    def _term(self, weighted: LossTerm) -> Term:
        term = self.terms[weighted.name]
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
        """(total loss, unweighted parts and notes by name as detached tensors, the context). Nothing syncs.

        targets: labels (N,), or shares of the classes (N,C).
        """
        active = self.active(progress)
        shares = targets if targets.ndim == 2 else None
        ctx = Context(
            self.context.domain,
            images,
            labels_of(targets),
            views,
            {},
            streams,
            progress,
            shares=shares,
            groups=groups or {},
        )
        reads: dict[tuple[str, str], set[str]] = {}
        for weighted in active:
            for read in self._term(weighted).reads:
                reads.setdefault((read.net, read.view), set()).add(read.what)
        for (net, view), what in reads.items():
            ctx.seen[net, view] = self._observe(net, views[view], what)
        total = images.new_zeros(())
        parts: dict[str, Tensor] = {}
        # Networks may run in bf16; what is computed from them never does.
        with torch.autocast(images.device.type, enabled=False):
            for weighted in active:
                value = self._term(weighted)(ctx)
                parts[weighted.name] = value.detach()
                total = total + weighted.weight * value
        parts["total"] = total.detach()
        parts.update(ctx.notes)
        return total, parts, ctx

    def _observe(self, net: str, inputs: Tensor, what: set[str]) -> Observation:
        with torch.set_grad_enabled(net not in self.no_grad and torch.is_grad_enabled()):
            seen = observe(self.context.nets[net], inputs, what)
        seen.logits = seen.logits.float()  # losses are computed in float32 whatever the nets' precision
        if seen.feature is not None:
            seen.feature = seen.feature.float()
        return seen

    def kept(self, ctx: Context, better: Tensor) -> None:
        for weighted in self.active(ctx.progress):
            self._term(weighted).kept(ctx, better)

    def end_round(self) -> None:
        for weighted in self.weighted:
            self._term(weighted).end_round()
