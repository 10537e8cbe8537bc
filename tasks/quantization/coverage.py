"""Account for every layer of a quantized network: what is quantized, what stayed in float, how many calls there are."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rgal.tasks.quantization.nodes import (
    LAYER_FUNCTIONS,
    LAYERS,
    call_name,
    computed_nodes,
    is_layer,
    is_passing,
    is_product,
    label,
    module_of,
    source,
)
from rgal.tasks.quantization.quantized_net import Coverage, QuantizedLayer
from rgal.tasks.quantization.quantizers import ActivationQuantizer

ADDITIONS = {"add", "add_", "iadd"}


def count_layers(graph: fx.GraphModule) -> int:
    """Count the calls of convolutions and linear layers, and the additions of two computed values.

    What pooling, norms and other operators add up inside is no layer of the network, whatever operators of ONNX they
    become; nor is the addition of a parameter.
    """
    computed = computed_nodes(graph)

    def is_counted(node: fx.Node) -> bool:
        if call_name(node) in ADDITIONS:
            return sum(operand in computed for operand in node.args[:2]) == 2
        return (
            _is_function(node) or is_layer(graph, node) or isinstance(module_of(graph, node), QuantizedLayer)
        )

    return sum(map(is_counted, graph.graph.nodes))


def _is_function(node: fx.Node) -> bool:
    """Tell whether a node computes a layer or a product that is no module."""
    return is_product(node) or (node.op == "call_function" and node.target in LAYER_FUNCTIONS)


def _reads_quantized_values(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether everything that a product multiplies comes from activation quantizers."""
    for operand in node.all_input_nodes:
        origin: fx.Node | None = operand
        while origin is not None and is_passing(graph, origin):
            origin = source(origin)
        if origin is None or not isinstance(module_of(graph, origin), ActivationQuantizer):
            return False
    return True


def cover(graph: fx.GraphModule, net: nn.Module) -> Coverage:
    """Account for every convolution and linear layer of a network, whether its forward pass reaches it or not.

    Every other parameter that the forward pass uses is named too.

    Args:
        graph: the network as a graph, quantized.
        net: the network that it was made from.
    """
    modules = dict(graph.named_modules())
    quantized = [name for name, m in modules.items() if isinstance(m, QuantizedLayer)]
    layers = [name for name, m in net.named_modules() if isinstance(m, LAYERS)]
    unquantized = [name for name in layers if name not in quantized]
    attentions = [name for name, m in modules.items() if isinstance(m, nn.MultiheadAttention)]
    functions = [
        label(graph, node)
        for node in graph.graph.nodes
        if _is_function(node) and not (is_product(node) and _reads_quantized_values(graph, node))
    ]
    norms = [name for name, m in modules.items() if isinstance(m, _BatchNorm)]
    own = [*quantized, *norms, *(name for name, m in modules.items() if isinstance(m, ActivationQuantizer))]
    sizes = {name: p.numel() for name, p in graph.named_parameters()}
    rest = [name for name in sizes if not name.startswith(tuple(f"{path}." for path in own))]
    share = sum(sizes[name] for name in rest) / max(1, sum(sizes.values()))
    left = (*unquantized, *attentions, *functions)
    return Coverage(tuple(quantized), left, tuple(norms), tuple(rest), share)
