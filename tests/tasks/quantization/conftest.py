"""What the tests of quantization share: both kinds of grid, and files that are written once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

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
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function that exports a small residual network at a width and placement, once for each."""
    from tests.helpers.onnx_builders import DOMAIN, Residual, ready, seeded, warm

    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def make(bits: str, placement: str) -> tuple[QuantizedNet, ExportInfo]:
        student = ready(warm(seeded(Residual)), bits, placement=placement)
        return student, export_onnx(student, DOMAIN, folder / f"{bits}-{placement}.onnx")

    return make
