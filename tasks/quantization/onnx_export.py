"""Write a quantized network as an ONNX file.

The file holds quantize and dequantize operators (QDQ, see `qdq`), which runtimes fuse into integer kernels. Its input
is "images" (N,C,H,W), float32 in [0,1], any N; its output "logits" (N, classes), float32.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.tasks.quantization.coverage import count_layers
from rgal.tasks.quantization.onnx_file import ExportInfo, extra, write_model
from rgal.tasks.quantization.qdq import OPSET, qdq_graph
from rgal.tasks.quantization.quantized_net import QuantizedNet

_EXTRA = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(student: QuantizedNet, domain: Domain, path: Path) -> ExportInfo:
    """Write a quantized network as integers; the network is left untouched.

    Args:
        student: the network, calibrated.
        domain: how its images are normalised, which becomes part of the file.
        path: where to write.

    Returns:
        What was written.

    Raises:
        UserError: a library is missing, a range was never calibrated, an operator has no form in ONNX, or the file
            cannot be written.
    """
    _require_extra()
    uncalibrated = [name for name, quantizer in student.activations().items() if not quantizer.ready]
    if uncalibrated:
        raise UserError(
            f"{path}: cannot export: the ranges of {len(uncalibrated)} activations were never calibrated, "
            f"the first is '{uncalibrated[0]}'"
        )
    model = _translate(qdq_graph(_cpu_copy(student.graph)), domain, path)
    return write_model(model, path, student.bits, student.scheme.placement, count_layers(student.graph))


def export_float(net: nn.Module, domain: Domain, path: Path) -> ExportInfo:
    """Write a float network (normalised images -> logits) in the same way; it is left untouched."""
    _require_extra()
    return write_model(_translate(_cpu_copy(net), domain, path), path)


def _require_extra() -> None:
    for name in _EXTRA:
        extra(name)


def _cpu_copy(net: nn.Module) -> Any:
    return copy.deepcopy(net).cpu().eval().requires_grad_(False)


class _Normalised(nn.Module):
    """A network with its normalisation in front: images in [0,1] -> logits.

    It computes as `Domain.normalise` does, so that pixels are rounded to the same integers.
    """

    def __init__(self, net: nn.Module, domain: Domain) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(domain.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(domain.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net((images - self.get_buffer("mean")) / self.get_buffer("std"))
        return logits


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what the exporter prints, warns and logs."""
    previous_level = logging.root.manager.disable
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(previous_level)


@torch.no_grad()
def _translate(net: nn.Module, domain: Domain, path: Path) -> Any:
    """Translate a network on the CPU, with its normalisation, into a ModelProto; a UserError names `path`."""
    try:
        with _silence():
            program = torch.onnx.export(
                _Normalised(net, domain).eval(),
                (torch.zeros(2, *domain.shape),),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            )
        assert program is not None
        return program.model_proto
    except Exception as error:  # torch.export and the translation raise anything
        raise UserError(f"{path}: cannot export: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Say in one line why the translation failed: most often an operator has no form in ONNX."""
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error)):
        return f"ONNX has no form of the operator '{operator[1]}'"
    while error.__cause__ is not None:
        error = error.__cause__
    first_line = re.search(r"[^\n]+", str(error))
    return f"{type(error).__name__}: {first_line[0][:160]}" if first_line else type(error).__name__
