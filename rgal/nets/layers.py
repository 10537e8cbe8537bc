"""The few pieces that every classifier here is made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv(width_in: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias whose output is ceil(size / stride); kernel is odd."""
    return nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, bias=False)


def pooled(x: Tensor) -> Tensor:
    """The spatial mean of every channel: (N,C,H,W) -> (N,C), any H and W."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def initialise(net: nn.Module) -> None:
    """Convolution weights ~ N(0, 2 / (k² · C_out)), biases 0; batch norms keep torch's 1 and 0.

    He et al. 2015, "Delving deep into rectifiers", eq. 14 (fan out). Draws from torch's global generator,
    as the constructors of torch do.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
