"""Exported models in ONNX Runtime on the CPU: sessions, which layers run as integers, latency."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from rgal.tasks.quantization.onnx_file import PACKED, extra
from rgal.tasks.quantization.scheme import Bits

# What ONNX Runtime makes of convolutions, linear layers and additions that multiply and sum integers. Operators that
# read integers but compute with their float values, such as MatMulNBits, are not among them.
INTEGER_OPERATORS = (
    *("QLinearConv", "ConvInteger"),
    *("QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    "QLinearAdd",
)
# The same in float.
FLOAT_OPERATORS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Add")
_ROUNDS = 3  # of a latency measurement at least, however slow the model is


def open_session(path: Path, threads: int = 1, optimised: Path | None = None) -> Any:
    """Open a model as an onnxruntime.InferenceSession on the CPU.

    Two of the runtime's rewritings are unwanted in some of the models that `export_onnx` writes:
    - WeightBiasQuantization rounds float biases, which the simulation of narrow widths and of the paper's placement
      does not do.
    - Weights of 4 bits, and the paper's placement, have no integer kernels for convolutions. Left as they are, their
      weights would be dequantized in every call: here that is done once, which halves the time.

    Args:
        path: the model's file.
        threads: the session's number of threads.
        optimised: where to write the graph that the runtime really runs; None does not write it.
    """
    onnx, runtime = extra("onnx"), extra("onnxruntime")
    properties = {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    disabled: list[str] = []
    if "bits" in properties:
        bits, paper = Bits.parse(properties["bits"]), properties["placement"] == "paper"
        if paper or min(bits.weight, bits.activation) < 8:
            disabled.append("WeightBiasQuantization")
        if paper or bits.weight <= PACKED:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
    cpu = ["CPUExecutionProvider"]
    return runtime.InferenceSession(str(path), options, providers=cpu, disabled_optimizers=disabled)


def run(session: Any, images: Tensor) -> Tensor:
    """Return logits (N, classes) of images (N,C,H,W) in [0,1]."""
    (logits,) = session.run(None, {"images": images.contiguous().numpy()})
    return torch.from_numpy(logits)


def integer_layers(optimised: Path) -> int:
    """Count the convolutions, linear layers and additions that are integer kernels in a graph the runtime wrote."""
    graph = extra("onnx").load(optimised).graph
    return sum(node.op_type in INTEGER_OPERATORS for node in graph.node)


def float_layers(optimised: Path) -> list[str]:
    """Name the layers that compute in float in a graph the runtime wrote: by their weights, sums by their place."""
    graph = extra("onnx").load(optimised).graph
    stored = {tensor.name for tensor in graph.initializer}
    names: list[str] = []
    for place, node in enumerate(graph.node):
        if node.op_type in FLOAT_OPERATORS:
            weights = [name for name in node.input[1:] if name in stored]
            names.append(weights[0].removesuffix("_quantized") if weights else f"{node.op_type} at {place}")
    return names


def alternate(sessions: dict[str, Any], images: Tensor, seconds: float) -> dict[str, float]:
    """Time sessions in turn, so that a change of the machine's load meets all of them.

    Args:
        sessions: by name.
        images: (N,C,H,W) in [0,1], for every call.
        seconds: how long to repeat the calls, all sessions together.

    Returns:
        For every name the median seconds of a call.
    """
    inputs = {"images": images.numpy()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():  # the first call allocates
        session.run(None, inputs)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < _ROUNDS:
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, inputs)
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}
