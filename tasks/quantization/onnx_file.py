"""ONNX models as small files, and what is in them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.tasks.quantization.scheme import Bits

PRODUCER = "rgal"
PACKED = 4  # weights of at most so many bits are stored two a byte


@dataclass(frozen=True)
class ExportInfo:
    """A written file.

    Attributes:
        path: where it is.
        megabytes: its size in 10^6 bytes.
        layers: number of convolutions, linear layers and additions of a quantized network, see
            `rgal.tasks.quantization.coverage.count_layers`; of a float one they are not counted.
    """

    path: Path
    megabytes: float
    layers: int = 0


def extra(name: str) -> Any:
    """Import a module that only export needs; UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = "--export onnx needs onnx, onnxscript and onnxruntime; pip install -e .[onnx]"
        raise UserError(message) from error


def write_model(
    model: Any, path: Path, bits: Bits | None = None, placement: str = "", layers: int = 0
) -> ExportInfo:
    """Write a model as small as it gets; an existing file is replaced as a whole or not at all.

    Args:
        model: an onnx.ModelProto, which is changed.
        path: where to write.
        bits: widths of a quantized model; None for a float one.
        placement: of a quantized model's activation quantizers.
        layers: how many layers a quantized model has.

    Raises:
        UserError: `path` cannot be written.
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
    return ExportInfo(path, len(content) / 1e6, layers)


def _pack(model: Any) -> None:
    """Store two weights or zero-points in every byte, the first in the low half."""
    onnx, arrays = extra("onnx"), extra("onnx.numpy_helper")
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    packed = {onnx.TensorProto.INT8: onnx.TensorProto.INT4, onnx.TensorProto.UINT8: onnx.TensorProto.UINT4}
    readers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    for name in {name for node in readers for name in node.input}:
        tensor = stored[name]
        if tensor.data_type in packed:
            nibbles = arrays.to_array(tensor).astype("uint8").ravel() & 15
            nibbles = np.pad(nibbles, (0, len(nibbles) % 2))
            tensor.raw_data = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
            tensor.data_type = packed[tensor.data_type]


def _strip(graph: Any) -> None:
    """Leave out what no runtime reads, which is a tenth of a small file."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a nested graph uses the names of this one
    _merge_equal(graph)
    for node in graph.node:
        node.name = ""
    _rename(graph, _short_names(graph))


def _merge_equal(graph: Any) -> None:
    """Keep one of several stored tensors with the same content, such as the weights of a layer that is called twice."""
    first_names: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        name, tensor.name = tensor.name, ""
        renamed[name] = first_names.setdefault(tensor.SerializeToString(), name)
        tensor.name = name
        if renamed[name] != name:
            graph.initializer.remove(tensor)
    _rename(graph, renamed)


def _short_names(graph: Any) -> dict[str, str]:
    """Map long names to short ones: numbers for computed values, paths in the network for stored ones."""
    stored = [tensor.name for tensor in graph.initializer]
    ends = [value.name for value in (*graph.input, *graph.output)]
    computed = [name for node in graph.node for name in node.output if name and name not in ends]
    paths = {name: name.removeprefix("net.") for name in stored}
    free = {name: path for name, path in paths.items() if path not in (*stored, *ends)}
    return free | {name: str(index) for index, name in enumerate(computed)}


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give tensors and values new names, wherever they are used."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
