"""A copy of a network that follows it by an exponential moving average."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(copied: nn.Module, net: nn.Module, momentum: float) -> None:
    """Move a copy's floats to m w + (1 - m) w_net, parameters and buffers; take over what is no float."""
    theirs = net.state_dict()
    for name, value in copied.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - momentum)
        else:
            value.copy_(theirs[name])
