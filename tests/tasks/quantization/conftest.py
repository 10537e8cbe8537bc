"""What the tests of quantization share: both kinds of grid, quick translations to ONNX, files written once."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from rgal.tasks.quantization.onnx_export import export_onnx
from rgal.tasks.quantization.onnx_file import ExportInfo
from rgal.tasks.quantization.quantized_net import QuantizedNet

if TYPE_CHECKING:
    from tests.helpers.onnx_builders import Exported


@pytest.fixture(params=["symmetric", "asymmetric"])
def symmetric(request: pytest.FixtureRequest) -> bool:
    """Of both kinds of grid, one after the other."""
    return request.param == "symmetric"


@pytest.fixture(scope="module")
def quick_export() -> Iterator[None]:
    """Use one thread, and let torch parse its translations to ONNX once instead of in every call."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        name = "torch.onnx._internal.exporter._registration"
        registry = getattr(importlib.import_module(name), "ONNXRegistry", None)  # private: it may go away
        if hasattr(registry, "from_torchlib"):
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function that exports a small residual network at a width and placement, once for each."""
    from tests.helpers.onnx_builders import DOMAIN, Residual, ready, seeded, warm

    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def make(bits: str, placement: str) -> tuple[QuantizedNet, ExportInfo]:
        student = ready(warm(seeded(Residual)), bits, placement=placement)
        return student, export_onnx(student, DOMAIN, folder / f"{bits}-{placement}.onnx")

    return make
