"""Account for every layer of a quantized network: what is quantized, what stayed in float, how many calls there are."""

from __future__ import annotations

from torch import fx
from torch.nn.modules.batchnorm import _BatchNorm

from rgal.tasks.quantization.nodes import (
    LAYER_FUNCTIONS,
    call_name,
    computed_nodes,
    is_layer,
    label,
    module_of,
)
from rgal.tasks.quantization.quantized_net import Coverage, QuantizedLayer

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
        is_function = node.op == "call_function" and node.target in LAYER_FUNCTIONS
        return is_function or is_layer(graph, node) or isinstance(module_of(graph, node), QuantizedLayer)

    return sum(map(is_counted, graph.graph.nodes))


def cover(graph: fx.GraphModule, layers: list[str]) -> Coverage:
    """Account for every convolution and linear layer of a network, whether its forward pass reaches it or not.

    Args:
        graph: the network as a graph, quantized.
        layers: module paths of the layers of the network that it was made from.
    """
    quantized = [name for name, m in graph.named_modules() if isinstance(m, QuantizedLayer)]
    unquantized = [name for name in layers if name not in quantized]
    functions = [
        label(graph, node)
        for node in graph.graph.nodes
        if node.op == "call_function" and node.target in LAYER_FUNCTIONS
    ]
    norms = [name for name, m in graph.named_modules() if isinstance(m, _BatchNorm)]
    return Coverage(tuple(quantized), (*unquantized, *functions), tuple(norms))
