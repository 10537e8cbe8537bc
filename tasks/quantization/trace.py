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

from rgal.core.errors import UserError

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
# What moves values about without changing them.
PASSING = (
    *(
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.MaxPool3d,
        nn.AdaptiveMaxPool1d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveMaxPool3d,
    ),
    *(nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.ZeroPad2d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, nn.ReLU, nn.ReLU6),
)
PASSING_NAMES = RECTIFIERS | {
    *("max_pool1d", "max_pool2d", "max_pool3d", "boolean_dispatch", "amax"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("flatten", "unflatten", "view", "reshape", "contiguous", "clone", "detach", "to", "float", "expand"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "stochastic_depth"),
    *("squeeze", "unsqueeze", "permute", "transpose", "chunk", "split", "unbind", "getitem", "flip"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "getattr"),
}
# What tells the shape or kind of a tensor; `getattr` does too where it returns no tensor.
METADATA = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size"),
    *("is_floating_point", "is_complex", "is_contiguous", "get_device"),
}


class Tracer(fx.Tracer):
    """Convolution and linear layers of any class are leaves; further arguments of the network keep their defaults;
    branches on shapes take the way of the example. A branch on values is an error.

    outputs: module path -> the node of what that module returned.
    """

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.example = example
        self.outputs: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._by_value: set[fx.Node] = set()  # whose results depend on more than the shape of the images
        self._evaluating = False

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

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
        value = self._example_of(obj)
        if obj.node in self._by_value:
            raise TypeError("it branches on the values of the images")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Any:
        return iter([obj[i] for i in range(len(self._example_of(obj)))])  # type: ignore[index]

    @torch.no_grad()
    def _example_of(self, obj: fx.Proxy) -> Any:
        """What the proxy stands for when the network is given the example."""
        self._evaluating = True
        try:
            for node in self.graph.nodes:
                if node not in self._values:
                    self._values[node] = self._evaluate(node)
        finally:
            self._evaluating = False
        return self._values[obj.node]

    def _evaluate(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            self._by_value.add(node)
            return self.example
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        value = self._call(node, args, kwargs)
        asks = call_name(node) in METADATA or (call_name(node) == "getattr" and not isinstance(value, Tensor))
        if not asks and not self._by_value.isdisjoint(node.all_input_nodes):
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
    """A copy of `net` in evaluation mode as a graph, and the node of every module's output. `net` is left as it is.

    shape: (C, H, W) of its inputs. UserError if it cannot be followed, or holds no convolution or linear layer.
    """
    name = type(net).__name__
    if not any(isinstance(m, LAYERS) for m in net.modules()):
        raise UserError(f"{name} cannot be quantized: it has no convolution or linear layer")
    for path, m in net.named_modules():
        if isinstance(m, LAYERS) and "weight" not in m._parameters:
            raise UserError(
                f"{name} cannot be quantized: the weight of '{path}' is computed (as by a weight norm)"
            )
    own = copy.deepcopy(net).eval()
    tracer = Tracer(torch.zeros(1, *shape, device=next(own.parameters()).device))
    try:
        graph = tracer.trace(own)
        followed = fx.GraphModule(own, graph, name)
        followed.graph = graph  # not a copy: the nodes in `outputs` are this graph's
        graph.eliminate_dead_code()  # branches on shapes, decided by now
        followed.recompile()
        with torch.no_grad():
            _MarkImages(followed).run(tracer.example)
            _check(followed, own, tracer.example)
    except Exception as error:  # a foreign forward may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name} cannot be quantized: its forward cannot be followed ({reason})") from error
    _one_input_a_layer(followed)
    return followed, {path: node for path, node in tracer.outputs.items() if node in set(graph.nodes)}


def _check(graph: fx.GraphModule, net: nn.Module, example: Tensor) -> None:
    """That the graph computes what the network does: a loop over the images or a lost effect would go unseen."""
    noise = torch.randn(3, *example.shape[1:], generator=torch.Generator().manual_seed(0)).to(example)
    wanted, found = net(noise.clone()), graph(noise)
    if isinstance(wanted, Tensor) and not (
        wanted.shape == found.shape and torch.allclose(wanted, found, rtol=1e-3, atol=1e-4, equal_nan=True)
    ):
        raise ValueError("its graph gives other results")


def _one_input_a_layer(graph: fx.GraphModule) -> None:
    name = type(graph).__name__
    layers = [node for node in graph.graph.nodes if is_layer(graph, node)]
    if not layers:
        raise UserError(f"{name} cannot be quantized: its forward calls no convolution or linear layer")
    for node in layers:
        given = [a for a in (*node.args, *node.kwargs.values()) if a is not None]
        if len(given) != 1:
            raise UserError(f"{name} cannot be quantized: '{node.target}' is called with more than one input")
        node.args, node.kwargs = tuple(given), {}


class _MarkImages(fx.Interpreter):
    """Notes for every node whether it holds floating-point values, and not a size or an index."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["values"] = isinstance(value, Tensor) and value.is_floating_point()
        n.meta["dim"] = value.dim() if isinstance(value, Tensor) else 0
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
    if call_name(node) == "pad":
        return not node.kwargs.get("value")  # zeros are on every grid
    return isinstance(module_of(graph, node), PASSING) or call_name(node) in PASSING_NAMES


def is_computing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes values that lie on no grid, and an integer runtime would have to requantize."""
    if not node.meta.get("values") or node.op in ("get_attr", "output"):
        return False
    return not is_passing(graph, node)


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


def _is_linear_in_its_weight(layer: nn.Module | None) -> bool:
    """Whether scaling the weights of an output channel scales its output: not if a class has its own forward."""
    kind = next(k for k in type(layer).__mro__ if k.__module__.startswith("torch.nn.modules"))
    own = any(
        getattr(kind, m, None) is not getattr(type(layer), m, None) for m in ("forward", "_conv_forward")
    )
    return not own and not (isinstance(layer, _ConvNd) and layer.transposed and layer.groups > 1)


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
        if not _is_linear_in_its_weight(layer) or (isinstance(layer, nn.Linear) and before.meta["dim"] != 2):
            continue
        if isinstance(layer, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(layer, norm)  # type: ignore[arg-type]
        else:
            assert isinstance(layer, _ConvNd)
            fused = fuse_conv_bn_eval(layer, norm, layer.transposed)
        # A bias that the layer did not have comes back frozen.
        fused.get_parameter("bias").requires_grad_(layer.get_parameter("weight").requires_grad)
        graph.add_submodule(str(before.target), fused)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        gone[node] = before
    graph.delete_all_unused_submodules()
    graph.recompile()
    return gone
