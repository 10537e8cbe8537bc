"""ONNX models as files, and in ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.tasks.quantization.fake_quant import Bits

PRODUCER = "rgal"
PACKED = 4  # weights of at most so many bits are stored two a byte
LAYER_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What ONNX Runtime makes of convolutions, linear layers and additions that multiply and sum integers. Operators that
# read integers but compute with their float values, such as MatMulNBits, are not among them.
INTEGER_OPERATORS = (
    *("QLinearConv", "ConvInteger"),
    *("QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    "QLinearAdd",
)
_ROUNDS = 3  # of a latency measurement at least, however slow the model is


@dataclass(frozen=True)
class ExportInfo:
    """A written file. megabytes: 10^6 bytes. layers: convolutions, linear layers and additions in it."""

    path: Path
    megabytes: float
    layers: int


def extra(name: str) -> Any:
    """A module that only export needs; UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = "--export onnx needs onnx, onnxscript and onnxruntime; pip install -e .[onnx]"
        raise UserError(needed) from error


# ---------------------------------------------------------------- files


def write_model(model: Any, path: Path, bits: Bits | None = None, placement: str = "") -> ExportInfo:
    """Write a ModelProto as small as it gets. bits, placement: of a quantized one; None: a float one.

    UserError if `path` cannot be written; a file that is there is replaced as a whole or not at all.
    """
    if bits is not None and bits.weight <= PACKED:
        _pack(model)
    properties = {} if bits is None else {"bits": str(bits), "placement": placement}
    model.producer_name, model.producer_version = PRODUCER, ""
    del model.metadata_props[:]
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)
    _strip(model.graph)
    content = model.SerializeToString()
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot write the exported model: {error.strerror or error}") from error
    return ExportInfo(path, len(content) / 1e6, count_layers(model.graph))


def _pack(model: Any) -> None:
    """Store the weights and their zero-points two a byte, the first in the low half."""
    onnx, arrays = extra("onnx"), extra("onnx.numpy_helper")
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds = {onnx.TensorProto.INT8: onnx.TensorProto.INT4, onnx.TensorProto.UINT8: onnx.TensorProto.UINT4}
    readers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in held]
    for name in {name for node in readers for name in node.input}:
        tensor = held[name]
        if tensor.data_type in kinds:
            nibbles = arrays.to_array(tensor).astype("uint8").ravel() & 15
            nibbles.resize(len(nibbles) + len(nibbles) % 2)
            tensor.raw_data = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
            tensor.data_type = kinds[tensor.data_type]


def _strip(graph: Any) -> None:
    """Leave out what no runtime reads: a tenth of a small file."""
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
    del graph.value_info[:]
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # the graph within uses the names of this one
    _merge_equal(graph)
    for node in graph.node:
        node.name = ""
    _rename(graph, _short_names(graph))


def _merge_equal(graph: Any) -> None:
    """Keep one of several stored tensors with the same content, such as the weights of a layer that is called twice."""
    kept: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        name, tensor.name = tensor.name, ""
        renamed[name] = kept.setdefault(tensor.SerializeToString(), name)
        tensor.name = name
        if renamed[name] != name:
            graph.initializer.remove(tensor)
    _rename(graph, renamed)


def _short_names(graph: Any) -> dict[str, str]:
    """Numbers for computed values; for stored ones their path in the network, without the module around that."""
    stored = [tensor.name for tensor in graph.initializer]
    ends = [value.name for value in (*graph.input, *graph.output)]
    computed = [name for node in graph.node for name in node.output if name and name not in ends]
    paths = {name: name.removeprefix("net.") for name in stored}
    free = {name: path for name, path in paths.items() if path not in (*stored, *ends)}
    return free | {name: str(index) for index, name in enumerate(computed)}


def _rename(graph: Any, names: dict[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def count_layers(graph: Any) -> int:
    """Convolutions, linear layers, and additions of two computed values: an addition of a stored one is a bias."""
    stored = {tensor.name for tensor in graph.initializer}
    count = 0
    for node in graph.node:  # in topological order
        given = [name for name in node.input if name]
        if all(name in stored for name in given):
            stored.update(node.output)
        elif node.op_type in LAYER_OPERATORS:
            count += 1
        else:
            count += node.op_type == "Add" and stored.isdisjoint(given)
    return count


# ---------------------------------------------------------------- sessions


def open_session(path: Path, threads: int = 1, optimised: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession on the CPU. optimised: where it leaves the graph it really runs.

    Two of the runtime's rewritings are unwanted in some of the models that `export_onnx` writes:
    - WeightBiasQuantization rounds float biases, which the simulation of narrow grids and of the paper's placement
      does not do.
    - Weights of 4 bits, and the paper's placement, have no integer kernels for convolutions. Left as they are, their
      weights would be dequantized in every call: here that is done once, which halves the time.
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
    """Logits (N, classes) of images (N,C,H,W) in [0,1]."""
    (logits,) = session.run(None, {"images": images.contiguous().numpy()})
    return torch.from_numpy(logits)


def integer_layers(optimised: Path) -> int:
    """Layers that are integer kernels in a graph as the runtime left it: convolutions, linear layers, additions."""
    graph = extra("onnx").load(optimised).graph
    return sum(node.op_type in INTEGER_OPERATORS for node in graph.node)


def alternate(sessions: dict[str, Any], images: Tensor, seconds: float) -> dict[str, float]:
    """Median seconds of a call, one after the other so that a change of the machine's load meets all of them."""
    given = {"images": images.numpy()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():  # the first call allocates
        session.run(None, given)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < _ROUNDS:
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, given)
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}
