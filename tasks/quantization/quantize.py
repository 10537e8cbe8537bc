"""Any convolutional network -> its fake-quantized copy, in one call. Where the grids stand is the *placement*:

paper    as the literature simulates it: the output of every activation function, nothing else (not the image, not
         the inputs of an addition, not the pooled feature); batch norms stay, in float, with frozen statistics; biases
         are float.
deploy   what an integer runtime needs: the image (always 8 bits: it is made of bytes), every input of a convolution,
         addition, concatenation, pooling or linear layer; batch norms folded; symmetric weights; biases on the int32
         grid of input step x weight step. The logits stay in float.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from rgal.tasks.quantization.fake_quant import ActivationQuantizer, Bits, Scheme, WeightQuantizer
from rgal.tasks.quantization.trace import (
    LAYER_FUNCTIONS,
    LAYERS,
    fold_batch_norms,
    is_activation,
    is_computing,
    is_layer,
    is_passing,
    label,
    module_of,
    source,
    trace,
)

IMAGE_BITS = 8


class QuantizedLayer(nn.Module):
    """A convolution or linear layer of any class whose weight is on a grid, and its bias too if it is given the step
    of its input."""

    def __init__(self, layer: nn.Module, bits: int, scheme: Scheme) -> None:
        super().__init__()
        self.layer = layer
        axis = 1 if isinstance(layer, _ConvNd) and layer.transposed else 0
        self.quantizer = WeightQuantizer(bits, scheme, self.weight, axis)

    @property
    def weight(self) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def bias(self) -> Tensor | None:
        bias = self.layer.bias
        return bias if isinstance(bias, Tensor) else None

    def bias_step(self, input_step: Tensor) -> Tensor:
        """(output channels,): the step of the integer accumulator."""
        step = input_step * self.quantizer.grid(self.weight)[0]
        # A grouped transposed convolution stores the output channels of one group.
        return step.repeat(self.bias.numel() // step.numel()) if self.bias is not None else step

    def forward(self, x: Tensor, input_step: Tensor | None = None) -> Tensor:
        held = {"weight": self.quantizer(self.weight)}
        bias = self.bias
        if bias is not None and input_step is not None:
            step = self.bias_step(input_step.detach()).detach()
            # Straight through: the gradient of rounding is 1. A step of 0 is one that has not been measured yet.
            rounded = torch.where(step != 0, torch.round(bias / step) * step, bias).detach()
            held["bias"] = rounded + (bias - bias.detach())
        result: Tensor = functional_call(self.layer, held, (x,))
        return result


@dataclass(frozen=True)
class Coverage:
    """Module paths of the layers that are quantized; and what stayed in float: layers (by path, or function and place)
    and batch norms."""

    quantized: tuple[str, ...]
    left_float: tuple[str, ...]
    float_norms: tuple[str, ...]


class QuantizedNet(nn.Module):
    """Images (N,C,H,W), normalised -> logits (N, classes), always computed in float32: autocast would round the grids.

    Names its layers and its head as the network it was made of does, so that it can be observed like it.
    grids: readable name -> path of the activation quantizer, in the order of the forward pass.
    """

    def __init__(
        self, graph: fx.GraphModule, bits: Bits, scheme: Scheme, grids: dict[str, str], coverage: Coverage
    ) -> None:
        super().__init__()
        self.graph = graph
        self.bits, self.scheme, self.grids, self.coverage = bits, scheme, grids, coverage
        self.layer_names: tuple[str, ...] = ()
        self.head_name = ""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.graph(x.float())
        return logits

    def layers(self) -> dict[str, QuantizedLayer]:
        """Module path in the original network -> its quantized layer."""
        return {n: m for n, m in self.graph.named_modules() if isinstance(m, QuantizedLayer)}

    def activations(self) -> dict[str, ActivationQuantizer]:
        """Readable name -> quantizer, in the order of the forward pass."""
        found = {name: self.graph.get_submodule(path) for name, path in self.grids.items()}
        return {name: m for name, m in found.items() if isinstance(m, ActivationQuantizer)}

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Forward passes inside the block take part in the ranges; outside, ranges are frozen."""
        for quantizer in self.activations().values():
            quantizer.tracking = True
        try:
            yield
        finally:
            for quantizer in self.activations().values():
                quantizer.tracking = False

    def megabytes(self) -> float:
        """Stored size: weights packed at their width, steps and everything else in 32 bits."""
        weights = {id(layer.weight) for layer in self.layers().values()}
        bits = sum(32 * t.numel() for t in _stored(self) if id(t) not in weights)
        for layer in self.layers().values():
            quantizer = layer.quantizer
            bits += quantizer.bits * layer.weight.numel()
            if quantizer.scale is None:  # a learned step is a parameter and counted as one
                bits += 32 * layer.weight.shape[quantizer.axis]
        bits += 32 * sum(not isinstance(q.scale, nn.Parameter) for q in self.activations().values())
        return bits / 8e6


def megabytes(net: nn.Module) -> float:
    """The float32 size of a network: parameters and batch norm statistics."""
    return 32 * sum(t.numel() for t in _stored(net)) / 8e6


def _stored(net: nn.Module) -> list[Tensor]:
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    statistics = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
    return [*net.parameters(), *statistics]


def quantize(
    net: nn.Module, shape: tuple[int, int, int], bits: Bits, scheme: Scheme | None = None
) -> QuantizedNet:
    """A fake-quantized copy of `net` for images of `shape` (C,H,W); `net` itself is left untouched.

    Weights are on their grids at once. Activations pass unchanged until their ranges have been tracked (`tracking`).
    UserError if the network has no layer to quantize or cannot be followed.
    """
    scheme = scheme or Scheme()
    graph, outputs = trace(net, shape)
    gone = fold_batch_norms(graph) if scheme.placement == "deploy" else {}
    for node in list(graph.graph.nodes):
        layer = module_of(graph, node)
        if layer is not None and is_layer(graph, node):  # one that is called twice is wrapped once
            graph.add_submodule(str(node.target), QuantizedLayer(layer, bits.weight, scheme))
    grids = _place_grids(graph, bits, scheme)
    if scheme.placement == "deploy":
        _give_input_steps(graph)
    layers = [outputs[name] for name in getattr(net, "layer_names", ()) if name in outputs]
    watched = [_watch(graph, gone.get(node, node), index) for index, node in enumerate(layers)]
    graph.graph.lint()
    graph.recompile()
    layers_of_net = [path for path, m in net.named_modules() if isinstance(m, LAYERS)]
    student = QuantizedNet(graph, bits, scheme, grids, _coverage(graph, layers_of_net))
    student.layer_names = tuple(f"graph.{path}" for path in watched)
    head = getattr(net, "head_name", "")
    student.head_name = f"graph.{head}" if isinstance(head, str) and head else ""
    student.to(device=next(net.parameters()).device)
    return student.train(net.training)


def _watch(graph: fx.GraphModule, node: fx.Node, index: int) -> str:
    """An identity behind `node` and its grid: something to hang a hook on, as the module itself is no longer called."""
    readers = list(node.users)
    if len(readers) == 1 and isinstance(module_of(graph, readers[0]), ActivationQuantizer):
        node = readers[0]
    path = f"observed_{index}"
    graph.add_submodule(path, nn.Identity())
    with graph.graph.inserting_after(node):
        copy = graph.graph.call_module(path, (node,))
    node.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)
    return path


def _is_quantized_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), QuantizedLayer)


def _place_grids(graph: fx.GraphModule, bits: Bits, scheme: Scheme) -> dict[str, str]:
    """Insert the activation quantizers. Readable name -> module path."""
    wanted = _after_activations if scheme.placement == "paper" else _after_computation
    found: dict[str, str] = {}
    for node in [n for n in graph.graph.nodes if wanted(graph, n)]:
        name = original = label(graph, node)
        count = 1
        while name in found:
            count += 1
            name = f"{original}:{count}"
        path = f"grid_{len(found)}"
        width = IMAGE_BITS if node.op == "placeholder" else bits.activation
        graph.add_submodule(path, ActivationQuantizer(width, scheme))
        with graph.graph.inserting_after(node):
            grid = graph.graph.call_module(path, (node,))
        node.replace_all_uses_with(grid, delete_user_cb=lambda user, grid=grid: user is not grid)
        found[name] = path
    return found


def _after_activations(graph: fx.GraphModule, node: fx.Node) -> bool:
    return is_activation(graph, node) and not _ends(graph, node)


def _after_computation(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Behind what makes new values; where the only reader is a rectifier, behind that, as runtimes fuse the two."""
    computes = is_computing(graph, node) or _is_quantized_layer(graph, node)
    if not computes and not (is_activation(graph, node) and is_passing(graph, node)):
        return False
    readers = list(node.users)
    if len(readers) == 1 and is_activation(graph, readers[0]) and not _ends(graph, node):
        return False
    before = source(node)
    if (
        is_activation(graph, node)
        and is_passing(graph, node)
        and before is not None
        and len(before.users) > 1
    ):
        return False  # its input is on a grid already, and so is the rectified value
    return not _ends(graph, node)


def _ends(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a value only goes to the output: logits stay in float."""
    return all(
        user.op == "output"
        or (is_passing(graph, user) and not is_activation(graph, user) and _ends(graph, user))
        for user in node.users
    )


def _give_input_steps(graph: fx.GraphModule) -> None:
    """Hand every layer with a bias the step of the grid that its input lies on."""
    for node in list(graph.graph.nodes):
        layer = module_of(graph, node)
        if not isinstance(layer, QuantizedLayer) or layer.bias is None:
            continue
        before = source(node)
        while before is not None and is_passing(graph, before):
            before = source(before)
        if before is not None and isinstance(module_of(graph, before), ActivationQuantizer):
            with graph.graph.inserting_before(node):
                step = graph.graph.get_attr(f"{before.target}.scale")
            node.args = (*node.args[:1], step)


def _coverage(graph: fx.GraphModule, layers: list[str]) -> Coverage:
    """Account for every convolution and linear layer of the network, whether its forward pass reaches it or not."""
    quantized = [name for name, m in graph.named_modules() if isinstance(m, QuantizedLayer)]
    plain = [name for name in layers if name not in quantized]
    functions = [
        label(graph, node) for node in graph.graph.nodes
        if node.op == "call_function" and node.target in LAYER_FUNCTIONS
    ]  # fmt: skip
    norms = [name for name, m in graph.named_modules() if isinstance(m, _BatchNorm)]
    return Coverage(tuple(quantized), (*plain, *functions), tuple(norms))
