"""Build numbers and networks for the tests of quantization, and watch what the networks compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import QuantizedNet
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import naive_quant, small

TINY, HUGE = 3e-42, 2e38  # below the smallest normal float32, and next to the largest

SUITE = ("resnet8", "resnet20", "wrn10_1", "vgg8", "vgg11", "lenet5")
# Deeper ones of the same blocks are slow.
OF_EACH_KIND = [
    pytest.param(name, marks=pytest.mark.slow if name in ("resnet20", "vgg11") else ()) for name in SUITE
]
PLACEMENTS = ("paper", "deploy")
W4A4, W8A8 = Bits(4, 4), Bits(8, 8)
IMAGE = (3, 16, 16)


def channels() -> Tensor:
    """Return (9, 8) weights: rows of zeros, constants, one sign, tiny, huge, signed zeros, and one with an outlier."""
    noise = small.randn(9, 8)
    return torch.stack(
        [
            noise[0],
            torch.zeros(8),
            torch.full((8,), 0.7),
            noise[1].abs() + 1,
            -noise[2].abs() - 1,
            noise[3] * TINY,
            noise[4].clamp(-1, 1) * HUGE,
            torch.tensor([0.0, -0.0, 1.0, -0.0, -1.0, 0.0, -0.0, 0.5]),
            torch.cat([noise[5, :7], torch.tensor([50.0])]),
        ]
    )


def pictures(n: int = 4, shape: tuple[int, ...] = IMAGE, seed: int = 0) -> Tensor:
    return small.randn(n, *shape, seed=seed)


def student_of(
    net: nn.Module,
    placement: str = "paper",
    bits: Bits = W4A4,
    x: Tensor | None = None,
    **scheme: Any,
) -> QuantizedNet:
    """Quantize a network and calibrate it on one batch."""
    x = pictures() if x is None else x
    student = quantize(net, tuple(x.shape[1:]), bits, Scheme(placement, **scheme))  # type: ignore[arg-type]
    with torch.no_grad(), student.calibrating():
        student(x)
    return student


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


# What can be watched from outside: the arguments of torch's functions while a net runs --------------------------


class Watch(TorchFunctionMode):
    """Records calls of convolutions, linear layers, sums, joins, pools and rectifiers: (name, tensors that go in)."""

    KINDS = ("conv", "linear", "add", "cat", "avg_pool", "mean", "relu")
    QUANTIZERS = ("add_",)  # their own calls, not to be recorded

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[Tensor]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        inputs = args[0] if name == "cat" else args
        tensors = [t.detach().clone() for t in inputs if isinstance(t, Tensor)]
        is_recorded = any(k in name for k in self.KINDS) and name not in self.QUANTIZERS
        if is_recorded and all(
            t.ndim >= 2 for t in tensors[:2]
        ):  # not the biases, which quantizers compute with too
            self.calls.append((name, tensors))
        return func(*args, **(kwargs or {}))

    def of(self, *kinds: str) -> list[list[Tensor]]:
        return [tensors for name, tensors in self.calls if any(k in name for k in kinds)]


def watch(net: nn.Module, x: Tensor) -> Watch:
    with torch.no_grad(), Watch() as watched:
        net(x)
    return watched


def levels(x: Tensor) -> int:
    return len(x.unique())


def weight_levels(weight: Tensor, axis: int = 0) -> int:
    return max(len(set(row)) for row in naive_quant.rows(weight, axis))


def layer_paths(net: nn.Module) -> set[str]:
    return {path for path, m in net.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}


def torchvision_net(name: str) -> nn.Module:
    more = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None, num_classes=7, **more).eval()


FOREIGN = {"resnet18": 21, "mobilenet_v2": 53, "googlenet": 58, "densenet121": 121}


def build(name: str) -> nn.Module:
    return torchvision_net(name) if name in FOREIGN else small.network(name, small.COLOUR).eval()


def is_multiple_of_accumulator_scale(student: QuantizedNet, name: str) -> bool:
    """Tell whether the bias that a layer computes with is a whole number of (input scale x weight scale)."""
    layer = student.layers()[name]
    inputs: list[tuple[Any, ...]] = []
    handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args))
    calls = watch(student, pictures()).of("conv2d", "linear")
    handle.remove()
    (((_, scale),), (_, weight, bias)) = inputs, calls[list(student.layers()).index(name)][:3]
    scales = {float(q.scale) for q in student.activations().values()}
    peaks = weight.flatten(1).abs().amax(1) / naive_quant.integer_limits(layer.quantizer.bits, True)[1]
    whole = bias.double() / (float(scale) * peaks.double())
    off_by = float((layer.bias.detach().double() / (float(scale) * peaks.double()) - whole).abs().max())
    near = torch.allclose(whole, whole.round(), rtol=1e-6, atol=1e-3)
    return float(scale) in scales and near and 0 < off_by < 0.501
