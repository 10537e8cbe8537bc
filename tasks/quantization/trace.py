"""Follow a network's forward pass as a graph of calls, without editing its class."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from rgal.core.errors import UserError
from rgal.tasks.quantization.attention import add_projections, followed
from rgal.tasks.quantization.called_norms import norms_as_modules
from rgal.tasks.quantization.nodes import LAYERS, call_name, is_layer

# Calls that tell the shape or kind of a tensor; so does `getattr` where it returns no tensor.
METADATA = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size"),
    *("is_floating_point", "is_complex", "is_contiguous", "get_device"),
}


class Tracer(fx.Tracer):
    """Records the calls that a network makes.

    Convolution and linear layers of any class are leaves; torch's own attention is followed part by part. Arguments of
    the network beside the images keep their defaults. A branch on shapes goes where the example goes; a branch on the
    images' values is an error.

    Attributes:
        outputs: for every module path, the node of what that module returned.
    """

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.outputs: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._by_value: set[fx.Node] = set()  # nodes that depend on more than the shape of the images
        self._evaluating = False

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if followed(m) is not None or type(m) is nn.TransformerEncoderLayer:
            return False
        return isinstance(m, LAYERS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        parts = followed(m)
        forward = forward if parts is None else functools.partial(parts, m)
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            self.outputs[self.path_of_module(m)] = result.node
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self._example_of(obj)
        if obj.node in self._by_value:
            raise TypeError("it branches on the values of the images")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Any:
        return iter([obj[i] for i in range(len(self._example_of(obj)))])  # type: ignore[index]

    @torch.no_grad()
    def _example_of(self, obj: fx.Proxy) -> Any:
        """Return the value of the proxy when the network is given the example."""
        wanted = obj.node  # before the loop: that of an attribute is made when it is asked for
        self._evaluating = True
        try:
            for node in self.graph.nodes:
                if node not in self._values:
                    self._values[node] = self._evaluate(node)
        finally:
            self._evaluating = False
        return self._values[wanted]

    def _evaluate(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            self._by_value.add(node)
            return self.example
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        value = self._call(node, args, kwargs)
        is_metadata = call_name(node) in METADATA or (
            call_name(node) == "getattr" and not isinstance(value, Tensor)
        )
        if not is_metadata and not self._by_value.isdisjoint(node.all_input_nodes):
            self._by_value.add(node)
        return value

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        assert isinstance(self.root, nn.Module)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        path, _, attribute = str(node.target).rpartition(".")
        if node.op == "get_attr":
            return getattr(self.root.get_submodule(path), attribute)
        return self.root.get_submodule(str(node.target))(*args, **kwargs)


def trace(net: nn.Module, shape: tuple[int, int, int]) -> tuple[fx.GraphModule, dict[str, fx.Node]]:
    """Copy a network in evaluation mode as a graph of calls; `net` is left as it is.

    Args:
        net: the network, from images (N,C,H,W) to logits.
        shape: (C, H, W) of its images.

    Returns:
        The graph, and for every module path the node of that module's output.

    Raises:
        UserError: the forward pass cannot be followed, or calls no convolution or linear layer.
    """
    name = type(net).__name__
    if not any(isinstance(m, LAYERS) for m in net.modules()):
        raise UserError(f"{name} cannot be quantized: it has no convolution or linear layer")
    for path, m in net.named_modules():
        if isinstance(m, LAYERS) and "weight" not in m._parameters:
            raise UserError(
                f"{name} cannot be quantized: the weight of '{path}' is computed (as by a weight norm)"
            )
    net_copy = copy.deepcopy(net).eval()
    add_projections(net_copy)
    tracer = Tracer(torch.zeros(1, *shape, device=next(net_copy.parameters()).device))
    try:
        graph = tracer.trace(net_copy)
        module = fx.GraphModule(net_copy, graph, name)
        module.graph = graph  # not a copy: the nodes in `outputs` are this graph's
        for node in [n for n in graph.nodes if n.target is torch._assert]:
            graph.erase_node(node)  # it held for the example; as a reader of values it would hinder folding
        graph.eliminate_dead_code()  # branches on shapes, decided by now
        module.recompile()
        with torch.no_grad():
            _NoteShapes(module).run(tracer.example)
            _check_same_results(module, net_copy, tracer.example)
    except Exception as error:  # a foreign forward may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name} cannot be quantized: its forward cannot be followed ({reason})") from error
    _require_single_inputs(module)
    replaced = norms_as_modules(module)
    outputs = {path: replaced.get(node, node) for path, node in tracer.outputs.items()}
    return module, {path: node for path, node in outputs.items() if node in set(graph.nodes)}


def _check_same_results(graph: fx.GraphModule, net: nn.Module, example: Tensor) -> None:
    """Raise ValueError unless the graph computes what the network does.

    A loop over the images, or an effect that the graph has lost, would go unnoticed otherwise.
    """
    noise = torch.randn(3, *example.shape[1:], generator=torch.Generator().manual_seed(0)).to(example)
    expected, actual = net(noise.clone()), graph(noise)
    if isinstance(expected, Tensor) and not (
        expected.shape == actual.shape
        and torch.allclose(expected, actual, rtol=1e-3, atol=1e-4, equal_nan=True)
    ):
        raise ValueError("its graph gives other results")


def _require_single_inputs(graph: fx.GraphModule) -> None:
    """Make sure that every layer is called with one input, and pass it by position."""
    name = type(graph).__name__
    layers = [node for node in graph.graph.nodes if is_layer(graph, node)]
    if not layers:
        raise UserError(f"{name} cannot be quantized: its forward calls no convolution or linear layer")
    for node in layers:
        inputs = [a for a in (*node.args, *node.kwargs.values()) if a is not None]
        if len(inputs) != 1:
            raise UserError(f"{name} cannot be quantized: '{node.target}' is called with more than one input")
        node.args, node.kwargs = tuple(inputs), {}


class _NoteShapes(fx.Interpreter):
    """Notes for every node its number of dimensions, and whether it holds floating-point values ("values")."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["values"] = isinstance(value, Tensor) and value.is_floating_point()
        n.meta["dim"] = value.dim() if isinstance(value, Tensor) else 0
        return value
