"""Exported models compute what the simulation computes, and store integers; what cannot be exported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.cores import sums_bytes_exactly
from rgal.core.errors import UserError
from rgal.tasks.quantization.onnx_export import export_float, export_onnx
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import small
from tests.helpers.onnx_builders import (
    DOMAIN,
    Exported,
    assert_agree,
    both,
    kernels,
    onnx,
    ready,
    seeded,
    stored,
    tiny,
    warm,
)
from tests.helpers.processor import EXACT, INEXACT

CASES = [(bits, "deploy") for bits in ("w8a8", "w4a8", "w4a4", "w6a5")]
CASES += [(bits, "paper") for bits in ("w8a8", "w4a4")]
# Of the same types of integers; an export takes two seconds.
OTHERS = [("w7a8", "deploy"), ("w3a3", "deploy"), ("w2a4", "deploy"), ("w3a3", "paper")]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS]


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize(("bits", "placement"), CASES)
def test_file_computes_what_the_simulation_computes(exported: Exported, bits: str, placement: str) -> None:
    student, info = exported(bits, placement)
    if (bits, placement) == ("w8a8", "deploy") and not sums_bytes_exactly():
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
     ("w4a8", "deploy", "INT4"), pytest.param("w2a4", "deploy", "INT4", marks=pytest.mark.slow),
     ("w4a4", "paper", "UINT4"), pytest.param("w3a3", "paper", "UINT4", marks=pytest.mark.slow)],
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


# ---------------------------------------------------------------- networks of other kinds


def mobile() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    blocks = [[1, 8, 1, 1], [4, 8, 1, 1], [4, 16, 1, 2]]
    return warm(torchvision.models.MobileNetV2(4, width_mult=0.25, inverted_residual_setting=blocks))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet_v2", 13),
        pytest.param("resnet8", 13, marks=pytest.mark.slow),
        ("lenet5", 5),
        ("wrn10_1", 13),
    ],
)
def test_other_networks_run_as_integers(name: str, layers: int, tmp_path: Path) -> None:
    """lenet5 has no batch norm, and those of wrn10_1 cannot be folded."""
    student = ready(seeded(mobile) if name == "mobilenet_v2" else small.network(name, DOMAIN), EXACT)
    info = export_onnx(student, DOMAIN, tmp_path / "a.onnx")
    assert_agree(*both(student, info.path))
    assert (info.layers, kernels(info.path, tmp_path)) == (layers, layers)


class Odd(nn.Module):
    """Transposed, grouped, circular and one-dimensional layers of odd sizes; a linear layer that is called twice,
    and another whose name the second form of the first would have got."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular")
        self.grouped = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.flat = nn.Conv1d(6, 5, 3)
        self.twice = nn.Linear(5, 5)
        self.twice_1 = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.depthwise(F.relu(self.up(x))))))
        x = F.relu(self.flat(x.flatten(2))).transpose(1, 2)
        return self.twice_1(F.relu(self.twice(F.relu(self.twice(x)))).mean(1))


@pytest.mark.parametrize("scheme", [
    pytest.param({"bits": "w4a8", "symmetric_activations": True, "symmetric_weights": False}, marks=pytest.mark.slow),
    {"bits": "w3a8", "placement": "paper", "weight_range": "learned", "activation_range": "learned"},
], ids=["symmetric activations", "learned"])  # fmt: skip
def test_layers_of_every_class(scheme: dict[str, Any], tmp_path: Path) -> None:
    student = ready(seeded(Odd), **scheme)
    info = export_onnx(student, DOMAIN, tmp_path / "a.onnx")
    assert_agree(*both(student, info.path))
    tensors = stored(info.path)
    forms = ("twice.weight", "twice_1_.weight")  # with the same integers: stored once
    assert len([name for name in tensors if name in forms]) == 1 and "twice_1.weight" in tensors
    odd = tensors["flat.weight"]
    assert (odd.data_type, len(odd.raw_data)) == (onnx.TensorProto.UINT4, (5 * 6 * 3 + 1) // 2)


def test_bias_beyond_the_accumulator(tmp_path: Path) -> None:
    """A channel that weight decay has all but emptied, but for its bias."""
    net = tiny()
    with torch.no_grad():
        net[0].weight[1] *= 1e-11
        net[0].bias[1] = 0.7
    student = ready(net, EXACT)
    assert_agree(*both(student, export_onnx(student, DOMAIN, tmp_path / "a.onnx").path))


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


def test_export_of_ranges_that_were_never_calibrated(tmp_path: Path) -> None:
    student = quantize(tiny(), DOMAIN.shape, Bits(8, 8), Scheme(placement="deploy"))
    with pytest.raises(
        UserError, match=r"ranges of 2 activations were never calibrated, the first is 'image'$"
    ):
        export_onnx(student, DOMAIN, tmp_path / "a.onnx")
