"""What the tests of quantization share: both kinds of grid, quick translations to ONNX, files written once."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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


@pytest.fixture(scope="session")
def translations() -> tuple[Any, Any]:
    """torch's registry of its translations to ONNX, if it has one, and a way to it that parses them once."""
    name = "torch.onnx._internal.exporter._registration"
    registry = getattr(importlib.import_module(name), "ONNXRegistry", None)  # private: it may go away
    parse = getattr(registry, "from_torchlib", None)
    return registry if parse else None, staticmethod(functools.cache(parse)) if parse else None


@pytest.fixture(scope="module")
def quick_export(translations: tuple[Any, Any]) -> Iterator[None]:
    """Use one thread, and let torch parse its translations to ONNX once instead of in every call."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    registry, parse_once = translations
    with pytest.MonkeyPatch.context() as patch:
        if registry:
            patch.setattr(registry, "from_torchlib", parse_once)
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
