"""Numeric precision and memory format of the networks' forward passes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bfloat16 autocast for "bf16", nothing for "fp32". Losses and statistics stay in float32 either way."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def reproducible(device: torch.device) -> None:
    """Same seed, same numbers, on a GPU too: kernels that add in a fixed order, wherever the device has such.

    Call before the device is first used. Nothing changes on a CPU, whose kernels have a fixed order.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")


def place(net: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device in channels-last, which halves a convolution step on CPU and suits bf16 on CUDA."""
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def adam(
    groups: Sequence[dict[str, object]], betas: tuple[float, float], device: torch.device
) -> torch.optim.Adam:
    """Adam over parameter groups, in one fused kernel a group where the device has it."""
    return torch.optim.Adam(list(groups), betas=betas, fused=device.type in ("cpu", "cuda"))
