"""Deployed networks of every activation function run as integers, and which of their calls count as layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.tasks.quantization.onnx_export import export_onnx
from tests.helpers.onnx_builders import DOMAIN, kernels, ready, seeded
from tests.helpers.quant_builders import levels, pictures, student_of, watch

RECTIFIERS = (nn.ReLU, nn.ReLU6)
OTHERS = (
    *(nn.Hardswish, nn.SiLU, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.ELU),
    *(nn.CELU, nn.SELU, nn.Mish, nn.Softplus, nn.Hardtanh),
)


def activated(*kinds: type[nn.Module]) -> nn.Module:
    """Return a network with every activation function behind a convolution, and a linear layer."""
    torch.manual_seed(0)
    layers = [m for i, kind in enumerate(kinds) for m in (nn.Conv2d(8 if i else 3, 8, 3, padding=1), kind())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize("kind", (*RECTIFIERS, *OTHERS))
def test_what_is_no_rectifier_reads_quantized_values(kind: type[nn.Module]) -> None:
    """A rectifier needs no quantizer before it; the names are those of the modules that made the values."""
    student = student_of(activated(kind), "deploy")
    names = ["image", "0", "2"] if kind in RECTIFIERS else ["image", "0", "1", "2"]
    assert list(student.activations()) == names
    inputs: list[Tensor] = []
    handle = next(m for m in student.modules() if type(m) is kind).register_forward_pre_hook(
        lambda _, args: inputs.append(args[0].clone())
    )
    ((*_,), (read, *_)) = [*watch(student, pictures()).of("conv2d"), *watch(student, pictures()).of("linear")]
    handle.remove()
    assert (levels(inputs[0]) <= 16) == (kind not in RECTIFIERS) and levels(read) <= 16


def test_layers_before_every_activation_function_are_integer_kernels(tmp_path: Path) -> None:
    kinds = (*RECTIFIERS, *OTHERS)
    info = export_onnx(ready(activated(*kinds)), DOMAIN, tmp_path / "a.onnx")
    assert (kernels(info.path, tmp_path), info.layers) == (len(kinds) + 1, len(kinds) + 1)


class Pooled(nn.Module):
    """Its pooling has windows of several sizes, which become slices and additions in ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shift = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Linear(4 * 49, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.conv(x)) + self.shift, 7).flatten(1))


def test_additions_inside_a_pooling_and_of_parameters_are_no_layers(tmp_path: Path) -> None:
    info = export_onnx(ready(seeded(Pooled)), DOMAIN, tmp_path / "a.onnx")
    assert (kernels(info.path, tmp_path), info.layers) == (2, 2)
