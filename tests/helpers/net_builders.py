"""Nets for the tests of rgal.nets, and the two layers that their plain versions are made of."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal import nets


@functools.cache
def _on_meta(name: str, classes: int, channels: int) -> nn.Module:
    with torch.device("meta"):
        return nets.build(name, classes, channels)


def on_meta(name: str, classes: int = 10, channels: int = 3) -> nn.Module:
    """The net without memory: enough for names and shapes. A copy, so that hooks stay with their test."""
    return copy.deepcopy(_on_meta(name, classes, channels))


def state_keys(name: str) -> set[str]:
    return set(_on_meta(name, 10, 3).state_dict())


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic away from its default, so that no missing or swapped one goes unseen."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.ndim == 1 and name.endswith((".weight", "running_var")):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=rng) * 0.3)
    return net.eval()


def small(seed: int, classes: int = 10, channels: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return randomised(nets.build("wrn10_1", classes, channels), seed)


def conv(s: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)


def bn(s: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, gain, bias = (
        s[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias
