"""A quantized network in the quantize and dequantize operators of ONNX (QDQ, opset 21).

What is stored is what the simulation computes:

weights       integers with a scale for each output channel: int8 or uint8, packed INT4 or UINT4 up to 4 bits; signed
              where the quantizer is symmetric, with zero-points where it is not
biases        int32, in units of input scale x weight scale, where the simulation rounds them so; else float
activations   8-bit integers, which saturate at the ends of their type; narrower ones are clipped to their own ends
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from rgal.tasks.quantization.fake_quant import limits
from rgal.tasks.quantization.nodes import free_path, module_of
from rgal.tasks.quantization.quantized_net import QuantizedLayer
from rgal.tasks.quantization.quantizers import ActivationQuantizer

OPSET = 21  # the first with 4-bit integers
_LARGEST_BIAS = 2**30  # in units of the int32 accumulator; the products need the other half

# Tensors are stored under short names ("zero" for the zero-point): they are part of the file.


def _operator(name: str, inputs: list[Tensor], like: Tensor, dtype: torch.dtype, **attributes: Any) -> Tensor:
    """Stand for an operator of ONNX whose result has the shape of `like`; torch computes nothing for it."""
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=like.shape, version=OPSET)


class _QdqActivation(nn.Module):
    """An activation quantizer. Narrow ones are clipped 8-bit integers and not UINT4: only those have fast kernels."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        dtype = torch.int8 if quantizer.symmetric else torch.uint8
        self.ends = limits(quantizer.bits, quantizer.symmetric)
        self.clips = self.ends != (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        scale, zero_point = quantizer.qparams()
        self.register_buffer("scale", scale.detach().float())
        self.register_buffer("zero", zero_point.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        qparams = [self.get_buffer("scale"), self.get_buffer("zero")]
        q = _operator("QuantizeLinear", [x, *qparams], x, qparams[1].dtype)
        if self.clips:
            q = q.clamp(*self.ends)
        return _operator("DequantizeLinear", [q, *qparams], x, torch.float32)


def _weight_scale(layer: QuantizedLayer, input_scale: Tensor | None) -> Tensor:
    """Return the scale of the weight (output channels,), which is the simulation's wherever the bias fits into int32.

    It does not fit in channels whose weights are all but 0, as weight decay leaves them. There the scale is raised
    until it does, which moves the output by less than 1e-3 of the bias.
    """
    scale = layer.quantizer.qparams(layer.weight)[0].detach()
    if layer.bias is None or input_scale is None:
        return scale
    largest = (layer.bias_scale(input_scale) * _LARGEST_BIAS).clamp_min(1e-30)
    factor = (layer.bias.detach().abs() / largest).clamp_min(1)
    return scale * factor.view(-1, len(scale)).amax(0)


class _QdqLayer(nn.Module):
    """A layer that reads its weight from integers, and its bias too if the scale of its input is given."""

    def __init__(self, layer: QuantizedLayer, input_scale: Tensor | None) -> None:
        super().__init__()
        quantizer = layer.quantizer
        self.layer, self.axis = layer.layer, quantizer.axis
        q, scale, zero_point = quantizer.integers(layer.weight, _weight_scale(layer, input_scale))
        dtype = torch.int8 if quantizer.symmetric else torch.uint8
        self.register_buffer("weight", q.to(dtype))
        self.register_buffer("scale", scale)
        # Stored even if it is 0: ONNX Runtime leaves linear layers in float without.
        self.register_buffer("zero", zero_point.to(dtype))
        self.rounds_bias = layer.bias is not None and input_scale is not None
        if layer.bias is not None and input_scale is not None:
            # A grouped transposed convolution stores the output channels of one group.
            bias_scale = (input_scale * scale).repeat(layer.bias.numel() // scale.numel())
            self.register_buffer("bias", torch.round(layer.bias.detach() / bias_scale).int())
            self.register_buffer("bias_scale", bias_scale)

    def forward(self, x: Tensor) -> Tensor:
        parameters = {"weight": self._read(["weight", "scale", "zero"], self.axis)}
        if self.rounds_bias:
            parameters["bias"] = self._read(["bias", "bias_scale"], 0)
        result: Tensor = functional_call(self.layer, parameters, (x,))
        return result

    def _read(self, names: list[str], axis: int) -> Tensor:
        inputs = [self.get_buffer(name) for name in names]
        return _operator("DequantizeLinear", inputs, inputs[0], torch.float32, axis=axis)


@torch.no_grad()
def qdq_graph(graph: fx.GraphModule) -> fx.GraphModule:
    """Replace the quantizers and layers of a `QuantizedNet`'s graph by operators of ONNX.

    Args:
        graph: a copy of the network's graph, on the CPU; it is changed.

    Returns:
        The same graph. It can be translated to ONNX, but no longer computes in torch.
    """
    quantizers = {path: m for path, m in graph.named_modules() if isinstance(m, ActivationQuantizer)}
    for path, quantizer in quantizers.items():
        graph.add_submodule(path, _QdqActivation(quantizer))
    _remove_identities(graph)
    layers = [(node, module_of(graph, node)) for node in graph.graph.nodes]
    paths: dict[tuple[str, str], str] = {}
    for node, layer in layers:
        if isinstance(layer, QuantizedLayer):
            quantizer_path = _input_quantizer(node)
            path = _layer_path(graph, paths, str(node.target), quantizer_path)
            input_scale = graph.get_buffer(f"{quantizer_path}.scale") if quantizer_path else None
            graph.add_submodule(path, _QdqLayer(layer, input_scale))
            node.target, node.args = path, (_quantized_input(graph, node, quantizer_path),)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _remove_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if isinstance(module_of(graph, node), (nn.Identity, nn.Dropout, nn.Dropout2d)):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _input_quantizer(node: fx.Node) -> str:
    """Return the path of the quantizer whose scale a layer is given; "" if it is given none."""
    scale = node.args[1] if len(node.args) > 1 else None
    return str(scale.target).removesuffix(".scale") if isinstance(scale, fx.Node) else ""


def _layer_path(graph: fx.GraphModule, paths: dict[tuple[str, str], str], layer: str, quantizer: str) -> str:
    """Return where to put a layer that reads integers, and note it in `paths`.

    A layer that is called behind several quantizers has a bias, and so an integer form, for each of them.
    """
    if (layer, quantizer) not in paths:
        forms = sum(path == layer for path, _ in paths)
        paths[layer, quantizer] = free_path(graph, f"{layer}_{forms}") if forms else layer
    return paths[layer, quantizer]


def _quantized_input(graph: fx.GraphModule, node: fx.Node, quantizer: str) -> fx.Node:
    """Return the input of a layer directly behind its quantizer, where runtimes look for it.

    If a pooling or a reshape is between the two, the quantizer is called once more. The values are multiples of its
    scale already and stay as they are.
    """
    value = node.all_input_nodes[0]
    if not quantizer or value.target == quantizer:
        return value
    calls = [user for user in value.users if user.target == quantizer]
    if calls:
        return calls[0]
    with graph.graph.inserting_after(value):
        return graph.graph.call_module(quantizer, (value,))
