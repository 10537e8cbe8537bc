"""Attention is quantized in its parts, and every parameter that a forward pass uses is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantizers import ActivationQuantizer
from rgal.tasks.quantization.scheme import Scheme
from rgal.tasks.quantization.task import left_in_float
from rgal.tasks.quantization.trace import trace
from tests.helpers import naive_quant, small
from tests.helpers.quant_builders import IMAGE, PLACEMENTS, W4A4, build, pictures, student_of


class Attentive(nn.Module):
    """Tokens of 4x4 pixels, an attention, a head."""

    def __init__(self, call: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.fc, self.call = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), call or {}
        self.attention = nn.MultiheadAttention(8, 2, **{"batch_first": True, **more})
        self.key_width, self.value_width = more.get("kdim", 8), more.get("vdim", 8)
        for parameter in self.attention.parameters():
            nn.init.normal_(parameter, 0, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = y if self.attention.batch_first else y.transpose(0, 1)
        keys, values = y[..., : self.key_width], y[..., : self.value_width]
        y, weights = self.attention(y, keys, values, **self.call)
        y = y if self.attention.batch_first else y.transpose(0, 1)
        y = y if weights is None else y + weights.flatten(1).square().mean(1)[:, None, None]
        return self.fc(y.mean(1))


@pytest.mark.parametrize(
    "more",
    [{}, {"batch_first": False}, {"bias": False}, {"kdim": 6, "vdim": 4}, {"call": {"need_weights": False}},
     {"call": {"average_attn_weights": False}}],
)  # fmt: skip
def test_parts_compute_what_the_module_computes(more: dict[str, Any]) -> None:
    net, x = Attentive(**more).eval(), pictures(16)
    graph, _ = trace(net, IMAGE)
    torch.testing.assert_close(graph(x), net(x), rtol=1e-5, atol=1e-6)
    student = quantize(net, IMAGE, W4A4)
    with torch.no_grad():
        for path, layer in student.layers().items():
            layer.quantizer = nn.Identity()
            assert path in ("patches", "fc") or path.startswith("attention.")
    torch.testing.assert_close(student(x), net(x), rtol=1e-5, atol=1e-6)


def test_quantized_attention_is_its_naive_twin() -> None:
    net, x = Attentive({"need_weights": False}).eval(), pictures(3)
    student = student_of(net, x=x)
    names = ("q_proj", "k_proj", "softmax", "v_proj")
    assert set(student.activations()) == {f"attention.{name}" for name in names}
    layers = student.layers()

    def rounder(quantizer: ActivationQuantizer) -> Callable[[Tensor], Tensor]:
        limits = naive_quant.integer_limits(quantizer.bits, False)
        return lambda t: naive_quant.straight_through(
            t, float(quantizer.scale), float(quantizer.zero), limits
        )

    parts, rounders = {}, {}
    for name in ("q", "k", "v", "out"):
        layer = layers[f"attention.{name}_proj"]
        parts[name] = (layer.quantizer(layer.weight).double(), layer.bias.double())
    for path, quantizer in student.activations().items():
        rounders[path.removeprefix("attention.").removesuffix("_proj")] = rounder(quantizer)
    with torch.no_grad():
        patches, fc = layers["patches"], layers["fc"]
        tokens = patches(x).flatten(2).transpose(1, 2).double()
        weight, bias = fc.quantizer(fc.weight).double(), fc.bias.double()
        result = naive_quant.attention(tokens, parts, 2, rounders).mean(1) @ weight.T + bias
    torch.testing.assert_close(student(x).double(), result, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "call", [{"attn_mask": torch.zeros(16, 16)}, {"key_padding_mask": torch.zeros(1, 16, dtype=torch.bool)}]
)
def test_masks_are_refused_in_one_line(call: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="attention with a mask cannot be quantized") as error:
        quantize(Attentive(call).eval(), IMAGE, W4A4)
    assert "\n" not in str(error.value)


def test_attention_that_stays_in_float_is_named_with_its_share() -> None:
    coverage = quantize(Attentive(add_zero_attn=True).eval(), IMAGE, W4A4).coverage
    assert coverage.left_float == ("attention.out_proj", "attention")
    assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= set(coverage.float_parameters)
    assert f"{100 * coverage.float_share:.1f} % of all" in left_in_float(coverage, Scheme())
    assert 0.3 < coverage.float_share < 0.7


# Every parameter ------------------------------------------------------------------------------------------------


class Timmish(nn.Module):
    """An attention as timm writes it: one layer for queries, keys and values, and products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.position = nn.Parameter(0.1 * small.randn(1, 16, 8))
        self.qkv, self.proj, self.fc = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2) + self.position
        n, length, width = y.shape
        q, k, v = self.qkv(self.norm(y)).reshape(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * 0.5).softmax(dim=-1)
        y = y + self.proj((weights @ v).transpose(1, 2).reshape(n, length, width))
        return self.fc(y.mean(1))


def vit() -> nn.Module:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(net.heads.head.weight, 0, 0.3)
    return net


def torch_encoder() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), Transposed())
    return nn.Sequential(tokens, nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(128, 5))


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


NETS: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda name=name: build(name)) for name in ("resnet8", "wrn10_1", "vgg8", "lenet5")},
    "attention": Attentive,
    "timm": Timmish,
    "vit": vit,
    "torch encoder": torch_encoder,
    "mobilenet_v3": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", NETS)
def test_every_parameter_that_is_used_is_in_a_list(name: str, placement: str) -> None:
    net = NETS[name]().eval().requires_grad_(True)
    net(pictures(8)).square().sum().backward()
    used = {path for path, p in net.named_parameters() if p.grad is not None}
    coverage = quantize(net, IMAGE, W4A4, Scheme(placement)).coverage  # type: ignore[arg-type]
    norms = {path for path, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    lists = (*coverage.quantized, *coverage.left_float, *norms)
    packed = {path.replace("q_proj", "in_proj_") for path in coverage.quantized if path.endswith("q_proj")}
    for path in used - set(coverage.float_parameters):
        in_attention = path.removesuffix("weight").removesuffix("bias") in packed
        assert in_attention or path.rpartition(".")[0] in lists, path
    assert coverage.left_float == () and coverage.float_share < 0.25
    assert (set(coverage.float_norms) == norms) or placement == "deploy"


def test_exported_attention_computes_what_the_simulation_computes(tmp_path: Path) -> None:
    builders = pytest.importorskip("tests.helpers.onnx_builders")
    from rgal.tasks.quantization.onnx_export import export_onnx

    student = builders.ready(Attentive().eval(), "w4a8")
    builders.assert_agree(
        *builders.both(student, export_onnx(student, builders.DOMAIN, tmp_path / "a.onnx").path)
    )
