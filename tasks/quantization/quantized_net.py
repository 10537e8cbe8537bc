"""The quantized network: its layers, what of it is quantized, and its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from rgal.tasks.quantization.quantizers import ActivationQuantizer, WeightQuantizer
from rgal.tasks.quantization.scheme import Bits, Scheme


class QuantizedLayer(nn.Module):
    """A convolution or linear layer of any class that computes with its quantized weight.

    Its bias is rounded too, to multiples of input scale x weight scale, if the forward pass is given the scale of the
    layer's input.
    """

    def __init__(self, layer: nn.Module, bits: int, scheme: Scheme) -> None:
        super().__init__()
        self.layer = layer
        axis = 1 if isinstance(layer, _ConvNd) and layer.transposed else 0
        self.quantizer = WeightQuantizer(bits, scheme, self.weight, axis)

    @property
    def weight(self) -> Tensor:
        """The weight as floats, before it is quantized."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The bias as floats, before it is rounded; None if the layer has none."""
        bias = self.layer.bias
        return bias if isinstance(bias, Tensor) else None

    def bias_scale(self, input_scale: Tensor) -> Tensor:
        """Return the scale of the integer accumulator for each output channel, input scale x weight scale."""
        scale = input_scale * self.quantizer.qparams(self.weight)[0]
        # A grouped transposed convolution stores the output channels of one group.
        return scale.repeat(self.bias.numel() // scale.numel()) if self.bias is not None else scale

    def forward(self, x: Tensor, input_scale: Tensor | None = None) -> Tensor:
        parameters = {"weight": self.quantizer(self.weight)}
        bias = self.bias
        if bias is not None and input_scale is not None:
            scale = self.bias_scale(input_scale.detach()).detach()
            # Straight through: the gradient of rounding is 1. A scale of 0 has not been calibrated yet.
            rounded = torch.where(scale != 0, torch.round(bias / scale) * scale, bias).detach()
            parameters["bias"] = rounded + (bias - bias.detach())
        result: Tensor = functional_call(self.layer, parameters, (x,))
        return result


@dataclass(frozen=True)
class Coverage:
    """Which convolution and linear layers of a network are quantized, and what stayed in float.

    Attributes:
        quantized: module paths of the quantized layers.
        left_float: the other layers, by module path, or by place and name of a function.
        float_norms: module paths of batch norms that are not folded into a layer.
        float_parameters: paths of all other parameters that the forward pass uses: of other norms, of positions, and
            the weights of layers that are left in float.
        float_share: their share of the numbers in all parameters that the forward pass uses, 0 to 1.
    """

    quantized: tuple[str, ...]
    left_float: tuple[str, ...]
    float_norms: tuple[str, ...]
    float_parameters: tuple[str, ...] = ()
    float_share: float = 0.0


class QuantizedNet(nn.Module):
    """A fake-quantized network, from normalised images (N,C,H,W) to logits (N, classes).

    It always computes in float32, because autocast would round the quantized values. It names its layers and its head
    as the network that it was made from does, so that `rgal.core.observe` can read both in the same way.

    Args:
        graph: the network with its quantizers in place.
        bits, scheme: how it is quantized.
        quantizer_paths: for every readable name of an activation, in the order of the forward pass, the path of its
            quantizer in the graph.
        coverage: what is quantized and what is not.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        bits: Bits,
        scheme: Scheme,
        quantizer_paths: dict[str, str],
        coverage: Coverage,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.bits, self.scheme, self.coverage = bits, scheme, coverage
        self.quantizer_paths = quantizer_paths
        self.layer_names: tuple[str, ...] = ()
        self.channels_last_layers: tuple[str, ...] = ()
        self.head_name = ""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.graph(x.float())
        return logits

    def layers(self) -> dict[str, QuantizedLayer]:
        """Return the quantized layers by their module path in the original network."""
        return {n: m for n, m in self.graph.named_modules() if isinstance(m, QuantizedLayer)}

    def codes(self) -> dict[nn.Parameter, Callable[[Tensor], Tensor]]:
        """Return for every quantized weight the function from a tensor in its place to the integers it is stored as."""
        return {
            layer.weight: lambda weight, quantizer=layer.quantizer: quantizer.integers(weight)[0]  # type: ignore[misc]
            for layer in self.layers().values()
            if isinstance(layer.weight, nn.Parameter)
        }

    def activations(self) -> dict[str, ActivationQuantizer]:
        """Return the activation quantizers by readable name, in the order of the forward pass."""
        modules = {name: self.graph.get_submodule(path) for name, path in self.quantizer_paths.items()}
        return {name: m for name, m in modules.items() if isinstance(m, ActivationQuantizer)}

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Let the forward passes inside the block move the ranges of activations; outside, ranges are frozen."""
        for quantizer in self.activations().values():
            quantizer.calibrating = True
        try:
            yield
        finally:
            for quantizer in self.activations().values():
                quantizer.calibrating = False

    def megabytes(self) -> float:
        """Return the stored size in 10^6 bytes: weights at their width, scales and everything else in 32 bits."""
        weights = {id(layer.weight) for layer in self.layers().values()}
        bits = sum(32 * t.numel() for t in _stored_tensors(self) if id(t) not in weights)
        for layer in self.layers().values():
            quantizer = layer.quantizer
            bits += quantizer.bits * layer.weight.numel()
            if quantizer.scale is None:  # a learned scale is a parameter and counted as one
                bits += 32 * layer.weight.shape[quantizer.axis]
        bits += 32 * sum(not isinstance(q.scale, nn.Parameter) for q in self.activations().values())
        return bits / 8e6


def megabytes(net: nn.Module) -> float:
    """Return the size of a network in 10^6 bytes, with parameters and batch norm statistics in float32.

    >>> megabytes(nn.Linear(in_features=999, out_features=250))
    1.0
    """
    return 32 * sum(t.numel() for t in _stored_tensors(net)) / 8e6


def _stored_tensors(net: nn.Module) -> list[Tensor]:
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    statistics = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
    return [*net.parameters(), *statistics]
