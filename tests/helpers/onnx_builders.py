"""Build networks and files for the tests of ONNX export, and compare simulation and runtime.

A test module that imports this one is skipped where the libraries of the extra are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.problem import Domain
from rgal.tasks.quantization.onnx_file import ExportInfo
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import QuantizedNet
from rgal.tasks.quantization.runtime import integer_layers, open_session, run
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import small

for needed in ("onnxruntime", "onnxscript", "onnx"):
    onnx = pytest.importorskip(needed, reason=f"{needed} is not installed: pip install -e .[onnx]")

DOMAIN = Domain((3, 8, 8), 4, mean=(0.5, 0.45, 0.4), std=(0.25, 0.2, 0.3))
Exported = Callable[[str, str], tuple[QuantizedNet, ExportInfo]]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def warm(net: nn.Module) -> nn.Module:
    """Give batch norms the statistics of noise, so that activations are neither 0 nor constant."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(DOMAIN.normalise(small.rand(64, *DOMAIN.shape)))
    return net.eval()


class Residual(nn.Module):
    """2 convolutions, an addition and a linear layer: a ResNet that is translated in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def tiny() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(small.randn(*parameter.shape) * 0.1)
    return net


def ready(net: nn.Module, bits: str = "w8a8", **scheme: Any) -> QuantizedNet:
    """Quantize a network and calibrate it on images of low contrast: test images go beyond its ranges."""
    merged = Scheme(**{"placement": "deploy", **scheme})
    student = quantize(net.eval(), DOMAIN.shape, Bits.parse(bits), merged)
    with torch.no_grad(), student.calibrating():
        for seed in range(2):
            student(DOMAIN.normalise(0.2 + 0.6 * small.rand(32, *DOMAIN.shape, seed=seed)))
    return student.eval()


def both(student: QuantizedNet, path: Path, count: int = 200) -> tuple[Tensor, Tensor]:
    """Return the logits of the simulation and of the file."""
    images = small.rand(count, *DOMAIN.shape, seed=9)
    with torch.no_grad():
        return student(DOMAIN.normalise(images)), run(open_session(path), images)


def assert_agree(simulation: Tensor, runtime: Tensor) -> None:
    """Check that all but a few images agree to the last digits: in those a value was halfway between two integers."""
    assert simulation.shape == runtime.shape
    assert simulation.std() > 1e-3
    same = (simulation - runtime).abs().amax(1) < 1e-4 * simulation.abs().max()
    assert same.float().mean() > 0.9
    assert (simulation.argmax(1) == runtime.argmax(1)).float().mean() >= 0.99


def kernels(path: Path, scratch: Path) -> int:
    """Count the integer kernels that the runtime makes of a file."""
    open_session(path, optimised=scratch / "optimised.onnx")
    return integer_layers(scratch / "optimised.onnx")


def stored(path: Path) -> dict[str, Any]:
    """Return the tensors of a file by name."""
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
