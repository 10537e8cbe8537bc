"""What terms read of networks in a step: declared ahead on the step's views, or asked for on inputs of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rgal.core.observe import Observation


@dataclass(frozen=True)
class Reads:
    """Declare that a term reads `what` (a name in `rgal.core.observe.WHAT`) of network `net` on view `view`.

    With `graph`, gradients reach the view, `ctx.views[view]`, and the network's layers, in `ctx.of(net, view,
    graph=True)`, even if the network is otherwise observed without gradient, as a teacher is in the student's steps.
    """

    net: str
    what: str = "logits"
    view: str = "global"
    graph: bool = False


class Observer:
    """Observe networks for the terms of one step: what they read of its views, and what they ask for besides.

    A term runs outside of autocast; what it asks for is computed in the step's precision all the same. A network is
    forwarded once for the same input, unless a later term asks for more than the earlier ones did. Passes beyond those
    of the views are counted and logged as "further_passes".

    Args:
        forward: observes a network by its name, given the input, what to read, and whether to keep the graph.
        no_grad: names of networks that are observed without gradient.
        device: the device's type.
    """

    def __init__(
        self,
        forward: Callable[[str, Tensor, Iterable[str], bool], Observation],
        no_grad: frozenset[str],
        device: str,
    ) -> None:
        self.forward, self.no_grad, self.device = forward, no_grad, device
        self.precision = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        self.further = 0
        # The input is kept, so that no other tensor gets its id within the step.
        self._passes: dict[tuple[str, int, bool], tuple[Tensor, frozenset[str], Observation]] = {}

    def ahead(
        self, reads: Iterable[Reads], views: Mapping[str, Tensor]
    ) -> dict[tuple[str, str, bool], Observation]:
        """Observe, in one forward pass of each (network, view), all that is read of it.

        Returns:
            Observations by (network, view, with graph). Those without graph are constants if the network is observed
            without gradient, so that the backward pass of a loss does not go through it.
        """
        wanted: dict[tuple[str, str], set[str]] = {}
        with_graph = {(read.net, read.view) for read in reads if read.graph}
        for read in reads:
            wanted.setdefault((read.net, read.view), set()).add(read.what)
        observations = {}
        for (net, view), what in wanted.items():
            graph = (net, view) in with_graph
            seen = self._pass(net, views[view], frozenset(what), graph)
            observations[net, view, True] = seen
            observations[net, view, False] = seen.detached() if graph and net in self.no_grad else seen
        return observations

    def __call__(self, net: str, inputs: Tensor, what: Iterable[str], graph: bool) -> Observation:
        """Observe a network on any input, see `Context.observe`."""
        wanted = frozenset(what)
        key = self._key(net, inputs, graph)
        if key in self._passes and wanted <= self._passes[key][1] | {"logits"}:
            return self._passes[key][2]
        self.further += 1
        enabled, dtype = self.precision
        with torch.autocast(self.device, dtype=dtype, enabled=enabled):
            return self._pass(net, inputs, wanted, graph)

    def _pass(self, net: str, inputs: Tensor, what: frozenset[str], graph: bool) -> Observation:
        given = inputs.detach().requires_grad_() if graph and not inputs.requires_grad else inputs
        observation = self.forward(net, given, what, graph)
        self._passes[self._key(net, inputs, graph)] = inputs, what, observation
        return observation

    def _key(self, net: str, inputs: Tensor, graph: bool) -> tuple[str, int, bool]:
        # A pass that was asked for without gradient is not shared with a term that needs one.
        return net, id(inputs), (graph or net not in self.no_grad) and torch.is_grad_enabled()
