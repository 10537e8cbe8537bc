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
    """Return a context in which "bf16" networks compute in bfloat16; "fp32" changes nothing.

    Losses and statistics are computed in float32 either way.
    """
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def reproducible(device: torch.device) -> None:
    """Make a GPU give the same numbers for the same seed, by choosing kernels that add in a fixed order.

    torch would also fill every new tensor, in case somebody reads what nobody wrote: as many launches again as a step
    has of its own. That is turned off.

    Call this before the device is first used. Operations without such a kernel stay as they are. On a CPU nothing
    changes, because its kernels have a fixed order anyway.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")


def place(net: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device and to the channels-last memory format.

    Channels-last halves the time of a convolution step on CPU and suits bf16 on CUDA. Strided 1x1 convolutions of fewer
    than 8 channels (on images: RepVGG, MobileOne) stay as they are on a CPU: in that format oneDNN's gradient of their
    weights writes past its memory (torch 2.15).
    """
    placed: nn.Module = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cpu":
        for module in placed.modules():
            if isinstance(module, nn.Conv2d) and _is_unsafe(module):
                module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
                if _contiguous_input not in module._forward_pre_hooks.values():
                    module.register_forward_pre_hook(_contiguous_input)
                    module.register_forward_hook(_contiguous_gradient)
    return placed


def _is_unsafe(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels // conv.groups < 8


def _contiguous_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(map(_channels_first, inputs))


def _contiguous_gradient(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    if output.requires_grad:
        output.register_hook(_channels_first)


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().flatten(1).view(x.shape)  # with one channel, both formats are contiguous


def adam(
    groups: Sequence[dict[str, object]], betas: tuple[float, float], device: torch.device
) -> torch.optim.Adam:
    """Make an Adam optimiser over parameter groups.

    Args:
        groups: parameter groups as torch has them, each with "params" and "lr".
        betas: decay rates of the two moments.
        device: where the parameters are; on a CPU or an NVIDIA GPU one fused kernel updates each group.
    """
    return torch.optim.Adam(list(groups), betas=betas, fused=device.type in ("cpu", "cuda"))
