"""Pieces that the classifiers of this folder share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv(width_in: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make a convolution without bias whose output is ceil(size / stride) pixels wide and high.

    Args:
        width_in, width: channels of the input and of the output.
        kernel: pixels of the kernel's side, an odd number.
        stride: pixels between two positions.
    """
    return nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, bias=False)


def pooled(x: Tensor) -> Tensor:
    """Average every channel over all positions: (N,C,H,W) -> (N,C).

    >>> import torch
    >>> pooled(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
    tensor([[2.]])
    """
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def initialise(net: nn.Module) -> None:
    """Initialise convolutions: weights ~ N(0, 2 / (k² · C_out)), biases 0; batch norms keep torch's 1 and 0.

    He et al. 2015, "Delving deep into rectifiers", eq. 14 (fan out). The draws come from torch's global generator.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
