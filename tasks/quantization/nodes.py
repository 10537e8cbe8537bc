"""What the nodes of a traced network are: layers, activation functions, or calls that keep values as they are."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

LAYERS = (_ConvNd, nn.Linear)
LAYER_FUNCTIONS = {
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear),
    *(F.bilinear, F.scaled_dot_product_attention, torch.matmul, torch.bmm, operator.matmul),
}
PRODUCT_NAMES = {"matmul", "bmm", "einsum"}
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
RECTIFIERS = {"relu", "relu_", "relu6"}  # of quantized values, the result is quantized too
ACTIVATION_NAMES = RECTIFIERS | {
    *("leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "celu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "hardtanh", "hardsigmoid", "sigmoid", "sigmoid_", "tanh", "tanh_", "softplus"),
}
# Calls that move values about without changing them: what was quantized stays quantized.
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


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls; None if it calls a function or a method."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def call_name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls; "" for modules."""
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return str(node.target) if node.op == "call_method" else ""


def is_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node calls a convolution or linear layer."""
    return isinstance(module_of(graph, node), LAYERS)


def is_product(node: fx.Node) -> bool:
    """Tell whether a node multiplies two tensors as matrices, as a function or method."""
    return call_name(node) in PRODUCT_NAMES and len(node.all_input_nodes) > 1


def is_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node calls an activation function, as a module, function or method."""
    return isinstance(module_of(graph, node), ACTIVATIONS) or call_name(node) in ACTIVATION_NAMES


def is_rectifier(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node calls a rectifier, which integer runtimes absorb into the layer before it.

    One quantizer behind it suffices: it cuts at 0 and, of ReLU6, at 6. Any other activation function is computed from
    values that the layer before it has to quantize already.
    """
    return is_activation(graph, node) and is_passing(graph, node)


def is_passing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node only moves values about, so that its output is quantized as its input is."""
    if call_name(node) == "pad":
        return not node.kwargs.get("value")  # every quantizer represents 0
    return isinstance(module_of(graph, node), PASSING) or call_name(node) in PASSING_NAMES


def is_computing(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node makes new values, which an integer runtime has to quantize again."""
    if not node.meta.get("values") or node.op in ("get_attr", "output"):
        return False
    return not is_passing(graph, node)


def is_skipped_in_names(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a factor of a product has the name of what it is computed from: "q_proj", not "transpose"."""
    return is_activation(graph, node) or is_passing(graph, node)


def source(node: fx.Node) -> fx.Node | None:
    """Return the first node among the arguments of a node."""
    return next(iter(node.all_input_nodes), None)


def label(
    graph: fx.GraphModule, node: fx.Node, skipped: Callable[[fx.GraphModule, fx.Node], bool] = is_activation
) -> str:
    """Return a name that people recognise for the values of a node.

    That is the path of the module that made them; for a function, the path of the module that calls it and the name of
    the function; "image" for the input.

    Args:
        graph: the network.
        node: the node.
        skipped: tells which nodes have the name of what they are computed from.
    """
    while skipped(graph, node) and (previous := source(node)) is not None:
        node = previous
    if node.op == "placeholder":
        return "image"
    if node.op == "call_module":
        return str(node.target)
    scope = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
    return f"{scope}.{call_name(node)}".strip(".")


def free_path(graph: fx.GraphModule, path: str) -> str:
    """Return a path at which the graph has no module yet: `path`, or `path` with underscores behind it."""
    paths = {name for name, _ in graph.named_modules(remove_duplicate=False)}
    while path in paths:
        path += "_"
    return path


def computed_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes whose values depend on the images; the others are made of parameters alone."""
    computed: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or not computed.isdisjoint(node.all_input_nodes):
            computed.add(node)
    return computed
