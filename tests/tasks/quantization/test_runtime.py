"""Which layers of a file run as integers, and how sessions are timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rgal.tasks.quantization.runtime import alternate
from tests.helpers.onnx_builders import Exported, kernels


@pytest.mark.parametrize(
    ("bits", "placement", "integers"),
    [("w8a8", "deploy", 4), ("w6a5", "deploy", 4), ("w4a8", "deploy", 0), ("w4a4", "paper", 0), ("w8a8", "paper", 0)],
)  # fmt: skip
def test_deployed_layers_of_more_than_four_bits_are_integer_kernels(
    exported: Exported, bits: str, placement: str, integers: int, tmp_path: Path
) -> None:
    _, info = exported(bits, placement)
    assert info.layers == 4
    assert kernels(info.path, tmp_path) == integers


def test_alternate_calls_every_session_as_often() -> None:
    class Session:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, outputs: None, given: dict[str, Any]) -> None:
            calls.append(self.name)

    calls: list[str] = []
    assert set(alternate({name: Session(name) for name in "ab"}, torch.zeros(1), 0.0)) == {"a", "b"}
    assert calls == ["a", "b"] * 4  # once to warm up
