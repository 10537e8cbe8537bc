"""Exported models: they compute what the simulation computes, store integers, and run as integers where they can."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.data.batches import to_float
from rgal.data.dataset import ImageSet
from rgal.tasks.quantization import onnx_export as export
from rgal.tasks.quantization.fake_quant import Bits, Scheme
from rgal.tasks.quantization.onnx_export import (
    ExportInfo,
    export_float,
    export_onnx,
    measure,
    note,
    simulated,
)
from rgal.tasks.quantization.quantize import QuantizedNet, quantize
from rgal.tasks.quantization.runtime import alternate, integer_layers, open_session, run, write_model
from tests.helpers import small
from tests.helpers.processor import INEXACT, exact_integers, sums_integers_exactly

for needed in ("onnxruntime", "onnxscript", "onnx"):
    onnx = pytest.importorskip(needed, reason=f"{needed} is not installed: pip install -e .[onnx]")

DOMAIN = Domain((3, 8, 8), 4, mean=(0.5, 0.45, 0.4), std=(0.25, 0.2, 0.3))
CASES = [(bits, "deploy") for bits in ("w8a8", "w4a8", "w4a4", "w3a3", "w2a4", "w6a5")]
CASES += [(bits, "paper") for bits in ("w8a8", "w4a4", "w3a3")]


Exported = Callable[[str, str], tuple[QuantizedNet, ExportInfo]]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One thread; and torch's translations to ONNX are parsed once, not in every call."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        name = "torch.onnx._internal.exporter._registration"
        registry = getattr(importlib.import_module(name), "ONNXRegistry", None)  # private: it may go away
        if hasattr(registry, "from_torchlib"):
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield
    torch.set_num_threads(before)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def warm(net: nn.Module) -> nn.Module:
    """Batch norms with the statistics of noise, so that activations are neither 0 nor constant."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(DOMAIN.normalise(small.rand(64, *DOMAIN.shape)))
    return net.eval()


class Residual(nn.Module):
    """2 convolutions, an addition and a linear layer: a ResNet that is translated in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def tiny() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(small.randn(*parameter.shape) * 0.1)
    return net


def ready(net: nn.Module, bits: str = "w8a8", **scheme: Any) -> QuantizedNet:
    """Quantized, with ranges of images of low contrast: test images go beyond them."""
    how = Scheme(**{"placement": "deploy", **scheme})
    student = quantize(net.eval(), DOMAIN.shape, Bits.parse(bits), how)
    with torch.no_grad(), student.tracking():
        for seed in range(2):
            student(DOMAIN.normalise(0.2 + 0.6 * small.rand(32, *DOMAIN.shape, seed=seed)))
    return student.eval()


def both(student: QuantizedNet, path: Path, count: int = 200) -> tuple[Tensor, Tensor]:
    """Logits of the simulation and of the file."""
    images = small.rand(count, *DOMAIN.shape, seed=9)
    with torch.no_grad():
        return student(DOMAIN.normalise(images)), run(open_session(path), images)


def assert_agree(simulation: Tensor, runtime: Tensor) -> None:
    """All but a few images to the last digits: in these a value stood between two points of a grid."""
    assert simulation.shape == runtime.shape
    assert simulation.std() > 1e-3
    same = (simulation - runtime).abs().amax(1) < 1e-4 * simulation.abs().max()
    assert same.float().mean() > 0.9
    assert (simulation.argmax(1) == runtime.argmax(1)).float().mean() >= 0.99


def kernels(path: Path, scratch: Path) -> int:
    open_session(path, optimised=scratch / "optimised.onnx")
    return integer_layers(scratch / "optimised.onnx")


def stored(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def make(bits: str, placement: str) -> tuple[QuantizedNet, ExportInfo]:
        student = ready(warm(seeded(Residual)), bits, placement=placement)
        return student, export_onnx(student, DOMAIN, folder / f"{bits}-{placement}.onnx")

    return make


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize(("bits", "placement"), CASES)
def test_file_computes_what_the_simulation_computes(exported: Exported, bits: str, placement: str) -> None:
    student, info = exported(bits, placement)
    if (bits, placement) == ("w8a8", "deploy") and not sums_integers_exactly():
        pytest.skip(INEXACT)
    assert_agree(*both(student, info.path))


def test_batch_is_of_any_size(exported: Exported) -> None:
    student, info = exported("w4a4", "deploy")
    for count in (1, 2, 7):
        torch.testing.assert_close(*both(student, info.path, count), rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------- what is stored


def test_every_weight_and_bias_is_the_integer_of_the_simulation(exported: Exported) -> None:
    student, info = exported("w4a8", "deploy")
    tensors, read = stored(info.path), onnx.numpy_helper.to_array
    for name, layer in student.layers().items():
        q, scale, _ = layer.quantizer.integers(layer.weight)
        assert (read(tensors[f"{name}.weight"]).astype(int) == q.numpy()).all()
        assert (read(tensors[f"{name}.scale"]) == scale.numpy()).all()
        assert tensors[f"{name}.bias"].data_type == onnx.TensorProto.INT32


@pytest.mark.parametrize(
    ("bits", "placement", "kind"),
    [("w8a8", "deploy", "INT8"), ("w6a5", "deploy", "INT8"), ("w8a8", "paper", "UINT8"),
     ("w4a8", "deploy", "INT4"), ("w2a4", "deploy", "INT4"), ("w4a4", "paper", "UINT4"), ("w3a3", "paper", "UINT4")],
)  # fmt: skip
def test_weights_have_the_narrowest_type(exported: Exported, bits: str, placement: str, kind: str) -> None:
    student, info = exported(bits, placement)
    tensors, total = stored(info.path), 0
    for name, layer in student.layers().items():
        tensor, count = tensors[f"{name}.weight"], layer.weight.numel()
        assert tensor.data_type == onnx.TensorProto.DataType.Value(kind)
        assert len(tensor.raw_data) == ((count + 1) // 2 if kind.endswith("INT4") else count)
        total += len(tensor.raw_data)
    assert info.megabytes == info.path.stat().st_size / 1e6
    assert info.path.stat().st_size < total + 3_000


@pytest.mark.parametrize("placement", ["deploy", "paper"])
def test_model_is_valid_and_says_what_it_is(exported: Exported, placement: str) -> None:
    _, info = exported("w4a4", placement)
    model = onnx.load(info.path)
    onnx.checker.check_model(model, full_check=True)
    assert {p.key: p.value for p in model.metadata_props} == {"bits": "w4a4", "placement": placement}
    assert model.producer_name == "rgal"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
    assert not any(node.metadata_props or node.name for node in model.graph.node)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("images", "logits")
    assert image.type.tensor_type.shape.dim[0].dim_param
    assert [d.dim_value for d in image.type.tensor_type.shape.dim[1:]] == [3, 8, 8]


# ---------------------------------------------------------------- what runs as integers


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


def test_note_says_what_does_not_run_as_integers() -> None:
    def of(bits: str, placement: str, integers: int, net: nn.Module | None = None) -> str:
        return note(ready(net or tiny(), bits, placement=placement), ExportInfo(Path(), 0.0, 5), integers)

    assert of("w8a8", "deploy", 5) == ""
    assert of("w8a8", "deploy", 5, small.network("wrn10_1", DOMAIN)) == "4 batch norms run in float"
    assert of("w8a8", "deploy", 4) == "4 of 5 layers run as integers"
    assert of("w8a8", "paper", 0) == "paper placement: 0 of 5 layers run as integers"
    wanted = "w4a8: weights stored in 4 bits, computed in float by ONNX Runtime: simulated"
    assert of("w4a8", "deploy", 0) == wanted


# ---------------------------------------------------------------- networks of other kinds


def mobile() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    blocks = [[1, 8, 1, 1], [4, 8, 1, 1], [4, 16, 1, 2]]
    return warm(torchvision.models.MobileNetV2(4, width_mult=0.25, inverted_residual_setting=blocks))


@exact_integers
@pytest.mark.parametrize(
    ("name", "layers"), [("mobilenet_v2", 13), ("resnet8", 13), ("lenet5", 5), ("wrn10_1", 13)]
)
def test_other_networks_run_as_integers(name: str, layers: int, tmp_path: Path) -> None:
    """lenet5 has no batch norm, and those of wrn10_1 cannot be folded."""
    student = ready(seeded(mobile) if name == "mobilenet_v2" else small.network(name, DOMAIN))
    info = export_onnx(student, DOMAIN, tmp_path / "a.onnx")
    assert_agree(*both(student, info.path))
    assert (info.layers, kernels(info.path, tmp_path)) == (layers, layers)


class Odd(nn.Module):
    """Transposed, grouped, circular and one-dimensional layers of odd sizes; a linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular")
        self.grouped = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.flat = nn.Conv1d(6, 5, 3)
        self.twice = nn.Linear(5, 5)
        self.last = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.depthwise(F.relu(self.up(x))))))
        x = F.relu(self.flat(x.flatten(2))).transpose(1, 2)
        return self.last(F.relu(self.twice(F.relu(self.twice(x)))).mean(1))


@pytest.mark.parametrize("scheme", [
    {"bits": "w4a8", "symmetric_activations": True, "symmetric_weights": False},
    {"bits": "w3a8", "placement": "paper", "weight_range": "learned", "activation_range": "learned"},
], ids=["symmetric activations", "learned"])  # fmt: skip
def test_layers_of_every_class(scheme: dict[str, Any], tmp_path: Path) -> None:
    student = ready(seeded(Odd), **scheme)
    info = export_onnx(student, DOMAIN, tmp_path / "a.onnx")
    assert_agree(*both(student, info.path))
    tensors = stored(info.path)
    assert len([name for name in tensors if name.startswith("twice") and name.endswith("weight")]) == 1
    odd = tensors["flat.weight"]
    assert (odd.data_type, len(odd.raw_data)) == (onnx.TensorProto.UINT4, (5 * 6 * 3 + 1) // 2)


@exact_integers
def test_bias_beyond_the_accumulator(tmp_path: Path) -> None:
    """A channel that weight decay has all but emptied, but for its bias."""
    net = tiny()
    with torch.no_grad():
        net[0].weight[1] *= 1e-11
        net[0].bias[1] = 0.7
    student = ready(net)
    assert_agree(*both(student, export_onnx(student, DOMAIN, tmp_path / "a.onnx").path))


# ---------------------------------------------------------------- what is measured


@exact_integers
def test_measure_leaves_networks_and_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "_SECONDS", 0.02)
    net = tiny()
    student = ready(net).train()
    images = (small.rand(300, *DOMAIN.shape) * 255).to(torch.uint8)
    with torch.no_grad():
        labels = student(DOMAIN.normalise(to_float(images))).argmax(1)
        logits = net(DOMAIN.normalise(to_float(images)))
    labels[:75] = (labels[:75] + 1) % 4
    state, code, modules = small.snapshot(student), student.graph.code, dict(student.named_modules())

    found = measure(student, net, DOMAIN, images, labels, tmp_path)

    assert set(found) == {
        *("onnx_top1", "onnx_agreement", "onnx_mb", "onnx_float_mb", "integer_layers", "layers", "onnx_note"),
        *("latency_ms_1", "latency_ms_64", "float_latency_ms_1", "float_latency_ms_64"),
    }
    assert found["onnx_top1"] == pytest.approx(75, abs=1)
    assert found["onnx_agreement"] >= 0.99
    assert found["onnx_mb"] * 1e6 == (tmp_path / "model.onnx").stat().st_size
    assert found["onnx_float_mb"] * 1e6 == (tmp_path / "model_float.onnx").stat().st_size
    assert (found["integer_layers"], found["layers"], found["onnx_note"]) == (2, 2, "")
    assert all(value > 0 for key, value in found.items() if "latency" in key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model_float.onnx"]
    torch.testing.assert_close(run(open_session(tmp_path / "model_float.onnx"), to_float(images)), logits)
    small.assert_same(student.state_dict(), state)
    assert student.graph.code == code
    assert dict(student.named_modules()) == modules
    assert all(module.training for module in student.modules())
    assert capfd.readouterr() == ("", "")


def test_simulated_classes_are_those_of_full_precision() -> None:
    student = ready(tiny()).train()
    images = (small.rand(70, *DOMAIN.shape) * 255).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        found = simulated(student, DOMAIN, ImageSet(images, torch.zeros(70, dtype=torch.int64)))
    with torch.no_grad():
        assert torch.equal(found, student(DOMAIN.normalise(to_float(images))).argmax(1))
    assert student.training


def test_alternate_calls_every_session_as_often() -> None:
    class Session:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, outputs: None, given: dict[str, Any]) -> None:
            calls.append(self.name)

    calls: list[str] = []
    assert set(alternate({name: Session(name) for name in "ab"}, torch.zeros(1), 0.0)) == {"a", "b"}
    assert calls == ["a", "b"] * 4  # once to warm up


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_extra_that_is_not_installed(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny()
    monkeypatch.setitem(sys.modules, missing, None)
    message = r"^--export onnx needs onnx, onnxscript and onnxruntime; pip install -e \.\[onnx\]$"
    with pytest.raises(UserError, match=message):
        export_onnx(ready(net), DOMAIN, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=message):
        export_float(net, DOMAIN, tmp_path / "a.onnx")


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0(F.relu(self.conv(x))).mean((2, 3))


def test_operator_without_a_form_in_onnx(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = r"a\.onnx: cannot export: ONNX has no form of the operator 'prims\.bessel_i0'$"
    with pytest.raises(UserError, match=message):
        export_onnx(ready(Unknown()), DOMAIN, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


class Fails(Unknown):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("first line\nsecond line")


def test_network_that_cannot_be_followed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.onnx: cannot export: RuntimeError: first line$"):
        export_float(Fails(), DOMAIN, tmp_path / "a.onnx")


@pytest.mark.parametrize("where", ["missing/a.onnx", "."])
def test_path_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r": cannot write the exported model: [^\n]+$"):
        write_model(onnx.ModelProto(), tmp_path / where)
    assert not list(tmp_path.iterdir())


def test_ranges_that_were_never_tracked(tmp_path: Path) -> None:
    student = quantize(tiny(), DOMAIN.shape, Bits(8, 8), Scheme(placement="deploy"))
    with pytest.raises(UserError, match=r"ranges of 2 activations were never tracked, the first is 'image'$"):
        export_onnx(student, DOMAIN, tmp_path / "a.onnx")
