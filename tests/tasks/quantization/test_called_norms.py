"""Batch norms that are called as functions: folded as modules are, or left where they cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.tasks.quantization.quantized_net import QuantizedNet
from tests.helpers.net_builders import randomised
from tests.helpers.quant_builders import W8A8, pictures, relative, student_of


class NormAct(nn.BatchNorm2d):
    """A norm with an activation inside, as timm has them."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D)")
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return self.act(self.drop(y))  # type: ignore[no-any-return]


class OfTheBatch(NormAct):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.batch_norm(x, None, None, self.weight, self.bias, True))  # type: ignore[no-any-return]


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), norm, nn.Linear(4, 5)
        randomised(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))  # type: ignore[no-any-return]


def quantized(net: nn.Module, placement: str) -> QuantizedNet:
    x = pictures(8)
    student = student_of(net.eval(), placement, W8A8, x, activation_range="minmax")
    assert relative(student(x), net(x)) < 0.05
    return student


@pytest.mark.parametrize("affine", [True, False])
def test_a_called_norm_is_folded_and_its_activation_kept(affine: bool) -> None:
    coverage = quantized(Net(NormAct(4, affine)), "deploy").coverage
    assert coverage.quantized == ("conv", "fc")
    assert coverage.float_norms == coverage.float_parameters == coverage.left_float == ()


def test_in_paper_placement_it_stays_a_norm_of_its_name() -> None:
    net = Net(NormAct(4))
    student = quantized(net, "paper")
    assert student.coverage.float_norms == ("norm",)
    assert torch.equal(student.graph.get_submodule("norm").running_var, net.norm.running_var)


@pytest.mark.parametrize("make", [lambda: OfTheBatch(4), lambda: OfTheBatch(4, affine=False)])
def test_statistics_of_the_batch_are_left_as_they_are(make: Callable[[], nn.Module]) -> None:
    assert quantized(Net(make()), "deploy").coverage.float_norms == ()
