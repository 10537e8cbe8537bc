"""A network as a graph of calls, without editing its class: what quantization places its grids on."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rgal.errors import UserError

LAYERS = (_ConvNd, nn.Linear)
LAYER_FUNCTIONS = {
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear),
    *(F.bilinear, F.scaled_dot_product_attention, torch.matmul, torch.bmm, operator.matmul),
}
ACTIVATIONS = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.PReLU,
        nn.RReLU,
        nn.ELU,
        nn.CELU,
        nn.SELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
    ),
    *(nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus),
)
RECTIFIERS = {"relu", "relu_", "relu6"}  # of values on a grid, the result is on it too
ACTIVATION_NAMES = RECTIFIERS | {
    *("leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "celu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "hardtanh", "hardsigmoid", "sigmoid", "sigmoid_", "tanh", "tanh_", "softplus"),
}
SUMS = {"add", "add_", "iadd", "sub", "sub_", "isub"}
OTHERS = {"mul", "mul_", "imul", "cat", "concat", "mean", "avg_pool2d", "adaptive_avg_pool2d"}
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
# What moves values about without changing them.
PASSING = (
    nn.MaxPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
)
PASSING_NAMES = RECTIFIERS | {
    *(
        "max_pool2d",
        "boolean_dispatch",
        "adaptive_max_pool2d",
        "flatten",
        "view",
        "reshape",
        "contiguous",
        "dropout",
    ),
    *("squeeze", "unsqueeze", "permute", "transpose", "chunk", "split", "getitem", "pixel_shuffle"),
}


class Tracer(fx.Tracer):
    """Convolution and linear layers of any class are leaves; branches on shapes take the way of the example.

    outputs: module path -> the node of what that module returned.
    """

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.outputs: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._evaluating = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LAYERS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            self.outputs[self.path_of_module(m)] = result.node
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self._example_of(obj))

    def iter(self, obj: fx.Proxy) -> Any:
        return iter([obj[i] for i in range(len(self._example_of(obj)))])  # type: ignore[index]

    @torch.no_grad()
    def _example_of(self, obj: fx.Proxy) -> Any:
        """What the proxy stands for when the network is given the example."""
        self._evaluating = True
        try:
            return self._value(obj.node)
        finally:
            self._evaluating = False

    def _value(self, node: fx.Node) -> Any:
        if node not in self._values:
            if node.op == "placeholder":
                self._values[node] = self.example
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
                self._values[node] = self._call(node, args, kwargs)
        return self._values[node]

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
    """A copy of `net` in evaluation mode as a graph, and the node of every module's output. `net` is left as it is.

    shape: (C, H, W) of its inputs. UserError if it cannot be followed, or holds no convolution or linear layer.
    """
    own = copy.deepcopy(net).eval()
    name = type(net).__name__
    if not any(isinstance(m, LAYERS) for m in own.modules()):
        raise UserError(f"{name} cannot be quantized: it has no convolution or linear layer")
    tracer = Tracer(torch.zeros(1, *shape, device=next(own.parameters()).device))
    try:
        graph = tracer.trace(own)
    except Exception as error:  # a foreign forward may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name} cannot be quantized: its forward cannot be followed ({reason})") from error
    followed = fx.GraphModule(own, graph, name)
    followed.graph = graph  # not a copy: the nodes in `outputs` are this graph's
    graph.eliminate_dead_code()  # branches on shapes, decided by now
    with torch.no_grad():
        _MarkImages(followed).run(tracer.example)
    return followed, {path: node for path, node in tracer.outputs.items() if node in set(graph.nodes)}


class _MarkImages(fx.Interpreter):
    """Notes for every node whether it holds floating-point values, and not a size or an index."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["values"] = isinstance(value, Tensor) and value.is_floating_point()
        return value


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def call_name(node: fx.Node) -> str:
    """The name of the function or method a node calls; "" for modules."""
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return str(node.target) if node.op == "call_method" else ""


def is_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), LAYERS)


def is_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), ACTIVATIONS) or call_name(node) in ACTIVATION_NAMES


def is_passing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's output lies on the grid that its input lies on."""
    return isinstance(module_of(graph, node), PASSING) or call_name(node) in PASSING_NAMES


def is_computing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes values that lie on no grid, and an integer runtime would have to requantize."""
    kinds = (*LAYERS, _BatchNorm, *POOLS, *ACTIVATIONS)
    names = SUMS | OTHERS | ACTIVATION_NAMES
    if not node.meta.get("values"):
        return False
    return node.op == "placeholder" or isinstance(module_of(graph, node), kinds) or call_name(node) in names


def source(node: fx.Node) -> fx.Node | None:
    """The first node among the arguments."""
    return next(iter(node.all_input_nodes), None)


def label(graph: fx.GraphModule, node: fx.Node) -> str:
    """A name people recognise: the path of the module whose values a node carries on, or where a function stands."""
    while is_activation(graph, node) and (before := source(node)) is not None:
        node = before
    if node.op == "placeholder":
        return "image"
    if node.op == "call_module":
        return str(node.target)
    scope = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
    return f"{scope}.{call_name(node)}".strip(".")


def fold_batch_norms(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Put every batch norm that directly follows a convolution or linear layer into that layer's weights.

    Returns, for every node that is gone, the one that has its value now.
    """
    gone: dict[fx.Node, fx.Node] = {}
    modules = [n.target for n in graph.graph.nodes if n.op == "call_module"]
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node)
        before = source(node) if isinstance(norm, _BatchNorm) else None
        if before is None or not is_layer(graph, before) or len(before.users) > 1:
            continue
        if modules.count(before.target) > 1 or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        layer = module_of(graph, before)
        if isinstance(layer, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(layer, norm)  # type: ignore[arg-type]
        else:
            assert isinstance(layer, _ConvNd)
            fused = fuse_conv_bn_eval(layer, norm, layer.transposed)
        graph.add_submodule(str(before.target), fused)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        gone[node] = before
    graph.delete_all_unused_submodules()
    graph.recompile()
    return gone
