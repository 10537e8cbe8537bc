"""Measure exported models in ONNX Runtime: accuracy, agreement with the network they were made from, size, latency."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.cores import sums_bytes_exactly
from rgal.core.problem import Domain, evaluating
from rgal.data.batches import evaluate_batches, to_float
from rgal.data.dataset import ImageSet
from rgal.tasks.quantization.onnx_export import export_float, export_onnx
from rgal.tasks.quantization.onnx_file import PACKED, ExportInfo
from rgal.tasks.quantization.quantized_net import QuantizedNet
from rgal.tasks.quantization.runtime import alternate, float_layers, integer_layers, open_session, run
from rgal.tasks.quantization.scheme import Bits

_BATCH = 256
_SECONDS = 1.5  # of latency measurements at each batch size


def measure(
    student: QuantizedNet,
    float_net: nn.Module,
    domain: Domain,
    images: Tensor,
    labels: Tensor | None,
    folder: Path,
) -> dict[str, Any]:
    """Export a quantized and a float network, and measure both in ONNX Runtime on one thread.

    Args:
        student: the quantized network.
        float_net: the network it was made from.
        domain: how images are normalised.
        images: uint8 (N,C,H,W), to compare on.
        labels: (N,) of a test set; None: nobody knows them.
        folder: where to write model.onnx and model_float.onnx.

    Returns:
        onnx_top1 in percent, where there are labels; onnx_agreement, the share of images for which simulation and
        runtime name the same class; onnx_mb and onnx_float_mb in 10^6 bytes; integer_layers, how many of `layers` run
        as integers; latency_ms_N and float_latency_ms_N for batches of N = 1 and 64, medians of alternating calls;
        onnx_note, what a reader of these numbers must know ("" if nothing).

    Raises:
        UserError: an export failed, see `export_onnx`.
    """
    info = export_onnx(student, domain, folder / "model.onnx")
    float_info = export_float(float_net, domain, folder / "model_float.onnx")
    float_session = open_session(float_info.path)
    with tempfile.TemporaryDirectory() as scratch:
        optimised = Path(scratch) / "optimised.onnx"
        session = open_session(info.path, optimised=optimised)
        integers, floats = integer_layers(optimised), float_layers(optimised)
    return {
        **_compared(session, student, domain, images, labels),
        "onnx_mb": info.megabytes,
        "onnx_float_mb": float_info.megabytes,
        "integer_layers": integers,
        "layers": info.layers,
        **_latencies({"": session, "float_": float_session}, images),
        "onnx_note": note(student, info, integers, floats),
    }


def measure_float(
    student: nn.Module, domain: Domain, images: Tensor, labels: Tensor | None, folder: Path
) -> dict[str, Any]:
    """Export a float network as model.onnx, and measure it in ONNX Runtime on one thread.

    Args:
        student: normalised images to logits.
        domain, images, labels, folder: as for `measure`.

    Returns:
        What `measure` returns of a network alone.

    Raises:
        UserError: the export failed, see `export_float`.
    """
    info = export_float(student, domain, folder / "model.onnx")
    session = open_session(info.path)
    return {
        **_compared(session, student, domain, images, labels),
        "onnx_mb": info.megabytes,
        **_latencies({"": session}, images),
    }


def _compared(
    session: Any, student: nn.Module, domain: Domain, images: Tensor, labels: Tensor | None
) -> dict[str, float]:
    known = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels.cpu()
    test = ImageSet(images.cpu(), known)
    predicted = torch.cat([run(session, x).argmax(1) for x, _ in evaluate_batches(test, _BATCH, "cpu")])
    found = {"onnx_agreement": (predicted == simulated(student, domain, test)).float().mean().item()}
    if labels is not None:
        found["onnx_top1"] = 100.0 * (predicted == test.labels).float().mean().item()
    return found


@torch.no_grad()
def simulated(student: nn.Module, domain: Domain, test: ImageSet) -> Tensor:
    """Return the classes (N,) that a network, such as the simulation, predicts on its device in plain float32."""
    device = next(student.parameters()).device
    # TF32 keeps 10 bits of a product's factors: too few to tell 256 values apart.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with evaluating(student), torch.autocast(device.type, enabled=False), exact:
        batches = evaluate_batches(test, _BATCH, device)
        return torch.cat([student(domain.normalise(x)).argmax(1).cpu() for x, _ in batches])


def note(student: QuantizedNet, info: ExportInfo, integers: int, floats: Sequence[str] = ()) -> str:
    """Return what a reader must know of how the model runs; "" if all of it runs as integers, and exactly.

    floats: the layers that run in float, which are named where others are integers.
    """
    return "; ".join(
        filter(None, (_in_float(student, info, integers, floats), _overflow(student.bits, integers)))
    )


def _overflow(bits: Bits, integers: int) -> str:
    """Say where this processor's kernels are not those of the simulation."""
    if not integers or (bits.weight, bits.activation) != (8, 8) or sums_bytes_exactly():
        return ""
    return (
        f"8-bit sums overflow on this processor, which has no VNNI: {replace(bits, weight=7)} would be exact"
    )


def _in_float(student: QuantizedNet, info: ExportInfo, integers: int, floats: Sequence[str]) -> str:
    if integers >= info.layers:
        norms = len(student.coverage.float_norms)
        return f"{norms} batch norms run in float" if norms else ""
    if student.bits.weight <= PACKED:
        return f"{student.bits}: weights stored in 4 bits, computed in float by ONNX Runtime: simulated"
    where = "paper placement: " if student.scheme.placement == "paper" else ""
    named = f", in float: {', '.join(floats)}" if integers and floats else ""
    return f"{where}{integers} of {info.layers} layers run as integers{named}"


def _latencies(sessions: dict[str, Any], images: Tensor) -> dict[str, float]:
    latencies: dict[str, float] = {}
    for batch in (1, 64):
        shown = to_float(images[torch.arange(batch) % len(images)].cpu())
        times = alternate(sessions, shown, _SECONDS)
        latencies |= {f"{name}latency_ms_{batch}": 1000 * seconds for name, seconds in times.items()}
    return latencies
