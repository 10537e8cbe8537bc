"""A quantized network as an ONNX file: quantize and dequantize operators (QDQ, opset 21) that runtimes fuse into
integer kernels. What the file holds is what the simulation computes:

weights       integers with a step an output channel: int8 or uint8, packed INT4 or UINT4 up to 4 bits; signed where
              the grid is symmetric, with zero-points where it is not
biases        int32 on the grid of input step x weight step where the simulation rounds them so, else float
activations   8-bit integers, which saturate at the ends of their type; where the grid is narrower, a Clip of these
ends          "images" (N,C,H,W), float32 in [0,1], any N; "logits" (N, classes), float32
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from rgal.core.errors import UserError
from rgal.core.problem import Domain, evaluating
from rgal.data.batches import evaluate_batches, to_float
from rgal.data.dataset import ImageSet
from rgal.tasks.quantization.fake_quant import ActivationQuantizer, limits
from rgal.tasks.quantization.quantize import QuantizedLayer, QuantizedNet
from rgal.tasks.quantization.runtime import (
    PACKED,
    ExportInfo,
    alternate,
    extra,
    integer_layers,
    open_session,
    run,
    write_model,
)
from rgal.tasks.quantization.trace import module_of

OPSET = 21  # the first with 4-bit integers
_EXTRA = ("onnx", "onnxscript", "onnxruntime")
_LARGEST_BIAS = 2**30  # in steps of the int32 accumulator; the products need the other half
_BATCH = 256
_SECONDS = 1.5  # of latency measurements, a batch size


def export_onnx(student: QuantizedNet, domain: Domain, path: Path) -> ExportInfo:
    """Write `student` as integers; it is left untouched. UserError if that cannot be done."""
    _require_extra()
    untracked = [name for name, quantizer in student.activations().items() if not quantizer.ready]
    if untracked:
        raise UserError(
            f"{path}: cannot export: the ranges of {len(untracked)} activations were never tracked, "
            f"the first is '{untracked[0]}'"
        )
    model = _translate(_stored(student), domain, path)
    return write_model(model, path, student.bits, student.scheme.placement)


def export_float(net: nn.Module, domain: Domain, path: Path) -> ExportInfo:
    """Write a float network (normalised images -> logits) the same way; it is left untouched."""
    _require_extra()
    return write_model(_translate(_cpu_copy(net), domain, path), path)


def _require_extra() -> None:
    for name in _EXTRA:
        extra(name)


def _cpu_copy(net: nn.Module) -> Any:
    return copy.deepcopy(net).cpu().eval().requires_grad_(False)


# ---------------------------------------------------------------- the network, in operators of ONNX


def _operator(name: str, inputs: list[Tensor], like: Tensor, dtype: torch.dtype, **attributes: Any) -> Tensor:
    """An operator of ONNX whose result has the shape of `like`; in torch it only stands for itself."""
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=like.shape, version=OPSET)


class _StoredGrid(nn.Module):
    """An activation quantizer. Narrow grids are clipped 8-bit integers and not UINT4: only those have fast kernels."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        kind = torch.int8 if quantizer.symmetric else torch.uint8
        self.ends = limits(quantizer.bits, quantizer.symmetric)
        self.clips = self.ends != (torch.iinfo(kind).min, torch.iinfo(kind).max)
        self.register_buffer("scale", quantizer.step.detach().float())
        self.register_buffer("zero", quantizer.zero.to(kind))

    def forward(self, x: Tensor) -> Tensor:
        grid = [self.get_buffer("scale"), self.get_buffer("zero")]
        q = _operator("QuantizeLinear", [x, *grid], x, grid[1].dtype)
        if self.clips:
            q = q.clamp(*self.ends)
        return _operator("DequantizeLinear", [q, *grid], x, torch.float32)


def _weight_step(layer: QuantizedLayer, input_step: Tensor | None) -> Tensor:
    """The step of the weight (output channels,): the simulation's.

    Only where the bias would be beyond int32 the step is raised until it fits: in channels whose weights are all but
    0, as weight decay leaves them. That moves the output by less than 1e-3 of the bias.
    """
    scale = layer.quantizer.grid(layer.weight)[0].detach()
    if layer.bias is None or input_step is None:
        return scale
    largest = (layer.bias_step(input_step) * _LARGEST_BIAS).clamp_min(1e-30)
    rise = (layer.bias.detach().abs() / largest).clamp_min(1)
    return scale * rise.view(-1, len(scale)).amax(0)


class _StoredLayer(nn.Module):
    """A layer that reads its weight from integers, and its bias too if the step of its input is given."""

    def __init__(self, layer: QuantizedLayer, input_step: Tensor | None) -> None:
        super().__init__()
        quantizer = layer.quantizer
        self.layer, self.axis = layer.layer, quantizer.axis
        q, scale, zero = quantizer.integers(layer.weight, _weight_step(layer, input_step))
        kind = torch.int8 if quantizer.symmetric else torch.uint8
        self.register_buffer("weight", q.to(kind))
        self.register_buffer("scale", scale)
        # Stored even if it is 0: ONNX Runtime leaves linear layers in float without.
        self.register_buffer("zero", zero.to(kind))
        self.rounds_bias = layer.bias is not None and input_step is not None
        if layer.bias is not None and input_step is not None:
            # A grouped transposed convolution stores the output channels of one group.
            step = (input_step * scale).repeat(layer.bias.numel() // scale.numel())
            self.register_buffer("bias", torch.round(layer.bias.detach() / step).int())
            self.register_buffer("bias_scale", step)

    def forward(self, x: Tensor) -> Tensor:
        held = {"weight": self._read(["weight", "scale", "zero"], self.axis)}
        if self.rounds_bias:
            held["bias"] = self._read(["bias", "bias_scale"], 0)
        result: Tensor = functional_call(self.layer, held, (x,))
        return result

    def _read(self, names: list[str], axis: int) -> Tensor:
        inputs = [self.get_buffer(name) for name in names]
        return _operator("DequantizeLinear", inputs, inputs[0], torch.float32, axis=axis)


class _Whole(nn.Module):
    """Images in [0,1] -> logits. Computes as `Domain.normalise` does, so that pixels fall on the same grid points."""

    def __init__(self, net: nn.Module, domain: Domain) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(domain.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(domain.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net((images - self.get_buffer("mean")) / self.get_buffer("std"))
        return logits


@torch.no_grad()
def _stored(student: QuantizedNet) -> fx.GraphModule:
    """A copy of the student's graph, on the CPU, in which quantizers and layers are operators of ONNX."""
    own: fx.GraphModule = _cpu_copy(student.graph)
    grids = {path: m for path, m in own.named_modules() if isinstance(m, ActivationQuantizer)}
    for path, quantizer in grids.items():
        own.add_submodule(path, _StoredGrid(quantizer))
    _remove_identities(own)
    layers = [(node, module_of(own, node)) for node in own.graph.nodes]
    paths: dict[tuple[str, str], str] = {}
    for node, layer in layers:
        if isinstance(layer, QuantizedLayer):
            grid = _input_grid(node)
            path = _one_a_grid(paths, str(node.target), grid)
            own.add_submodule(path, _StoredLayer(layer, own.get_buffer(f"{grid}.scale") if grid else None))
            node.target, node.args = path, (_on_grid(own, node, grid),)
    own.graph.eliminate_dead_code()
    own.delete_all_unused_submodules()
    own.recompile()
    return own


def _remove_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if isinstance(module_of(graph, node), (nn.Identity, nn.Dropout, nn.Dropout2d)):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _input_grid(node: fx.Node) -> str:
    """The path of the quantizer whose step a layer is given; "" if it is given none."""
    step = node.args[1] if len(node.args) > 1 else None
    return str(step.target).removesuffix(".scale") if isinstance(step, fx.Node) else ""


def _one_a_grid(paths: dict[tuple[str, str], str], layer: str, grid: str) -> str:
    """Where the stored form of a layer goes: a layer called on several grids has a bias, and so a form, for each."""
    if (layer, grid) not in paths:
        others = sum(known == layer for known, _ in paths)
        paths[layer, grid] = f"{layer}_{others}" if others else layer
    return paths[layer, grid]


def _on_grid(graph: fx.GraphModule, node: fx.Node, grid: str) -> fx.Node:
    """A layer's input, right behind its quantizer, where runtimes look for it: once more if a pooling or a reshape is
    between the two. The values are on that grid already and stay as they are."""
    before = node.all_input_nodes[0]
    if not grid or before.target == grid:
        return before
    again = [user for user in before.users if user.target == grid]
    if again:
        return again[0]
    with graph.graph.inserting_after(before):
        return graph.graph.call_module(grid, (before,))


# ---------------------------------------------------------------- from torch to a file


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps prints, warnings and log messages of the exporter to itself."""
    disabled = logging.root.manager.disable
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


@torch.no_grad()
def _translate(net: nn.Module, domain: Domain, path: Path) -> Any:
    """The ModelProto of normalisation and `net`, which is on the CPU. UserError that names `path`."""
    try:
        with _silence():
            program = torch.onnx.export(
                _Whole(net, domain).eval(),
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
    """One line; the operator that has no form in ONNX, if that is what is wrong."""
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error)):
        return f"ONNX has no form of the operator '{operator[1]}'"
    while error.__cause__ is not None:
        error = error.__cause__
    first = re.search(r"[^\n]+", str(error))
    return f"{type(error).__name__}: {first[0][:160]}" if first else type(error).__name__


# ---------------------------------------------------------------- what the runtime makes of it


def measure(
    student: QuantizedNet, float_net: nn.Module, domain: Domain, images: Tensor, labels: Tensor, folder: Path
) -> dict[str, Any]:
    """Export the student and the float network into `folder`, and what ONNX Runtime makes of them.

    images: uint8 (N,C,H,W), labels: (N,), both of a test set. Keys: onnx_top1 (percent), onnx_agreement (share of the
    images for which simulation and runtime name the same class), onnx_mb, onnx_float_mb (10^6 bytes), integer_layers
    (run as integer kernels) of `layers`, latency_ms_1 and _64 and the same of the float model (float_latency_...: one
    thread, medians of alternating calls), onnx_note (what a reader of these numbers must know, or "").
    """
    info = export_onnx(student, domain, folder / "model.onnx")
    floats = export_float(float_net, domain, folder / "model_float.onnx")
    float_session = open_session(floats.path)
    with tempfile.TemporaryDirectory() as scratch:
        optimised = Path(scratch) / "optimised.onnx"
        session = open_session(info.path, optimised=optimised)
        integers = integer_layers(optimised)
    test = ImageSet(images.cpu(), labels.cpu())
    found = torch.cat([run(session, x).argmax(1) for x, _ in evaluate_batches(test, _BATCH, "cpu")])
    return {
        "onnx_top1": 100.0 * (found == test.labels).float().mean().item(),
        "onnx_agreement": (found == simulated(student, domain, test)).float().mean().item(),
        "onnx_mb": info.megabytes,
        "onnx_float_mb": floats.megabytes,
        "integer_layers": integers,
        "layers": info.layers,
        **_latencies(session, float_session, test),
        "onnx_note": note(student, info, integers),
    }


@torch.no_grad()
def simulated(student: QuantizedNet, domain: Domain, test: ImageSet) -> Tensor:
    """(N,) classes the simulation predicts, on the student's device, in plain float32."""
    device = next(student.parameters()).device
    # TF32 keeps 10 bits of a product's factors: too few for values on a grid of 255 steps.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with evaluating(student), torch.autocast(device.type, enabled=False), exact:
        batches = evaluate_batches(test, _BATCH, device)
        return torch.cat([student(domain.normalise(x)).argmax(1).cpu() for x, _ in batches])


def note(student: QuantizedNet, info: ExportInfo, integers: int) -> str:
    """What a reader must know of how the model runs; "" if all of it runs as integers."""
    if integers >= info.layers:
        norms = len(student.coverage.float_norms)
        return f"{norms} batch norms run in float" if norms else ""
    if student.bits.weight <= PACKED:
        return f"{student.bits}: weights stored in 4 bits, computed in float by ONNX Runtime: simulated"
    where = "paper placement: " if student.scheme.placement == "paper" else ""
    return f"{where}{integers} of {info.layers} layers run as integers"


def _latencies(session: Any, float_session: Any, test: ImageSet) -> dict[str, float]:
    found: dict[str, float] = {}
    for batch in (1, 64):
        images = to_float(test.images[torch.arange(batch) % len(test)])
        times = alternate({"": session, "float_": float_session}, images, _SECONDS)
        found |= {f"{name}latency_ms_{batch}": 1000 * seconds for name, seconds in times.items()}
    return found
