"""Where networks are put and in what they compute."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from rgal.core.precision import adam, autocast, place, reproducible
from tests.helpers import small

CPU = torch.device("cpu")


def test_bf16_is_for_networks_and_ends_with_the_block() -> None:
    net, row = nn.Linear(3, 2), torch.ones(1, 3)
    with autocast(CPU, "bf16"):
        assert net(row).dtype == torch.bfloat16 and row.sum().dtype == torch.float32
    with autocast(CPU, "fp32"):
        assert net(row).dtype == torch.float32
    assert net(row).dtype == torch.float32


def test_placing_changes_the_layout_and_no_number() -> None:
    net = nn.Conv2d(3, 4, 3)
    before = net.weight.detach().clone()
    assert place(net, CPU) is net
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.weight, before)


def test_on_a_cpu_nothing_global_is_touched() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    reproducible(CPU)
    assert torch.are_deterministic_algorithms_enabled() == before


def fills(work: Callable[[], object]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::fill_")


def test_on_a_gpu_kernels_are_deterministic_and_new_tensors_are_not_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The settings are global: what they do to new tensors shows on a CPU too."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert fills(lambda: torch.empty(8)) == 1, "what torch does by itself"
        with warnings.catch_warnings():
            reproducible(torch.device("cuda"))
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert fills(lambda: torch.empty(8)) == 0
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def test_adam_keeps_the_groups() -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups: list[dict[str, object]] = [
        {"params": [w], "lr": lr} for w, lr in zip(weights, (0.1, 0.2), strict=True)
    ]
    made = adam(groups, (0.5, 0.9), CPU)
    assert [group["lr"] for group in made.param_groups] == [0.1, 0.2]
    assert all(group["betas"] == (0.5, 0.9) and group["fused"] for group in made.param_groups)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8])
def test_strided_convolutions_of_few_channels_train(channels: int) -> None:
    """In channels-last, oneDNN's gradient of such weights corrupts memory, most often with a crash."""
    images = small.randn(8, channels, 16, 16)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(channels, 8, 1, 2), nn.Conv2d(8, 4, 3))
    placed = place(place(copy.deepcopy(plain), torch.device("cpu")), torch.device("cpu"))
    plain(images).square().sum().backward()
    placed(images.to(memory_format=torch.channels_last)).square().sum().backward()
    for expected, actual in zip(plain.parameters(), placed.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-4, atol=1e-4)
    again = copy.deepcopy(placed)
    assert len(again[0]._forward_pre_hooks) == (1 if channels < 8 else 0)
