"""Batch norms that a network calls as functions, as timm's do: turned back into modules, which can be folded."""

from __future__ import annotations

import inspect
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_OF_DIMENSIONS: dict[int, type[_BatchNorm]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
_TENSORS = ("running_mean", "running_var", "weight", "bias")


def norms_as_modules(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Replace calls of `torch.nn.functional.batch_norm` by batch norm modules of the same tensors.

    A call is replaced if all of its tensors belong to one module, and it takes its statistics from there. The new
    module stands where that one stood and keeps its parts, so that no path changes.

    Returns:
        For every node that was removed, the node that has its value now.
    """
    replaced: dict[fx.Node, fx.Node] = {}
    for node in [n for n in graph.graph.nodes if n.op == "call_function" and n.target is F.batch_norm]:
        given = _arguments(node)
        owners = {str(given[name].target).rpartition(".")[0] for name in _TENSORS if given[name] is not None}
        norm = _module(graph, node, given)
        if norm is None or len(owners) != 1 or not (path := owners.pop()):
            continue
        for name, part in graph.get_submodule(path).named_children():
            norm.add_module(name, part)
        graph.add_submodule(path, norm)
        with graph.graph.inserting_before(node):
            called = graph.graph.call_module(path, (given["input"],))
        called.meta = dict(node.meta)
        node.replace_all_uses_with(called)
        graph.graph.erase_node(node)
        replaced[node] = called
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return replaced


def _arguments(node: fx.Node) -> dict[str, Any]:
    bound = inspect.signature(F.batch_norm).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _module(graph: fx.GraphModule, node: fx.Node, given: dict[str, Any]) -> _BatchNorm | None:
    """Make the module of a call; None where a tensor is computed, or the statistics are those of the batch."""
    kind = _OF_DIMENSIONS.get(node.meta["dim"])
    nodes = [given[name] for name in _TENSORS]
    if kind is None or given["training"] or None in nodes[:2] or (nodes[2] is None) != (nodes[3] is None):
        return None
    if any(n is not None and n.op != "get_attr" for n in nodes):
        return None
    tensors: dict[str, Any] = {
        name: None if n is None else _tensor(graph, str(n.target))
        for name, n in zip(_TENSORS, nodes, strict=True)
    }
    norm = kind(tensors["running_mean"].numel(), eps=given["eps"], affine=nodes[2] is not None).eval()
    for name, tensor in tensors.items():
        if tensor is not None:
            setattr(norm, name, tensor)
    return norm


def _tensor(graph: fx.GraphModule, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(graph.get_submodule(owner), name)
