"""Which activations are quantized in either placement, and the whole of a small network by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import QuantizedNet
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import naive_quant, small
from tests.helpers.net_builders import randomised
from tests.helpers.quant_builders import (
    IMAGE,
    OF_EACH_KIND,
    PLACEMENTS,
    W4A4,
    W8A8,
    build,
    is_multiple_of_accumulator_scale,
    levels,
    pictures,
    relative,
    student_of,
    watch,
)

# What is quantized ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet8", "wrn10_1", "vgg8", "lenet5"])
def test_paper_quantizes_every_activation_function_and_nothing_else(name: str) -> None:
    net, x = build(name), pictures(8)
    student = student_of(net, x=x)
    rectified: list[Tensor] = []
    for quantizer in student.activations().values():
        quantizer.register_forward_pre_hook(lambda _, args: rectified.append(args[0]))
    watched = watch(student, x)
    outputs = [F.relu(t) for (t,) in watched.of("relu")]
    assert len(outputs) == len(rectified) == len(student.activations())
    small.assert_same(rectified, outputs)
    image, *_ = watched.of("conv2d")
    assert torch.equal(image[0], x)
    assert all(levels(branch) > 16 for branch, _ in watched.of("add"))
    pooled = watched.of("linear")[-1][0]
    assert levels(pooled) > 16 or name == "lenet5"  # where the last linear layer follows a rectifier


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "wrn10_1"])
def test_batch_norms_stay_in_the_paper_and_fold_where_they_follow_a_layer(name: str) -> None:
    net = build(name)
    norms = {path for path, m in net.named_modules() if isinstance(m, _BatchNorm)}
    paper, deploy = (quantize(net, IMAGE, W4A4, Scheme(p)) for p in PLACEMENTS)  # type: ignore[arg-type]
    assert set(paper.coverage.float_norms) == norms
    preactivated = {path for path in norms if name == "wrn10_1" and not path.endswith("bn2")}
    assert set(deploy.coverage.float_norms) == preactivated
    before = small.snapshot(paper)
    paper(pictures())
    small.assert_same(small.snapshot(paper), before)
    assert len({id(m) for m in paper.modules() if isinstance(m, _BatchNorm)}) == len(norms)


@pytest.mark.parametrize("name", ["resnet8", "lenet5", "vgg8"])
def test_deployed_weights_are_symmetric_and_biases_multiples_of_the_accumulator_scale(name: str) -> None:
    net = build(name)
    for module in net.modules():
        if isinstance(module, (_ConvNd, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.3)
    student = student_of(net, "deploy")
    for path, layer in student.layers().items():
        q, _, zero = layer.quantizer.integers(layer.weight)
        assert (zero == 0).all() and q.amin() >= -7 and q.amax() <= 7
        assert is_multiple_of_accumulator_scale(student, path), path
    assert list(student.activations())[0] == "image"
    assert [q.bits for q in student.activations().values()] == [8] + [4] * (len(student.quantizer_paths) - 1)
    assert levels(student(pictures(64))) > 100  # logits are not quantized


def test_quantizer_paths_of_a_residual_net_by_name() -> None:
    paper, deploy = (
        list(quantize(build("resnet8"), IMAGE, W4A4, Scheme(p)).quantizer_paths) for p in PLACEMENTS
    )  # type: ignore[arg-type]
    assert len(paper) == 7 and len(deploy) == 14  # 1 + 3 + 3 rectifiers; image, branches, shortcuts, pool
    assert paper[:3] == ["bn1", "layer1.0.bn1", "layer1.0.add"]
    assert deploy[:4] == ["image", "conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert {"layer2.0.downsample.0", "layer3.0.downsample.0"} <= set(deploy)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_8_bits_are_close_to_float(name: str, placement: str) -> None:
    net, x = build(name), pictures(32)
    coarse, fine = (relative(student_of(net, placement, b, x)(x), net(x)) for b in (Bits(3, 3), W8A8))
    assert fine < 0.2 and coarse > 3 * fine


def test_deployed_before_calibration_only_weights_are_rounded() -> None:
    net, x = build("lenet5"), pictures()
    for module in net.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            nn.init.normal_(module.bias, 0, 0.3)
    student = quantize(net, IMAGE, W4A4, Scheme("deploy"))
    with torch.no_grad():
        for path, layer in student.layers().items():
            net.get_submodule(path).weight.copy_(layer.quantizer(layer.weight))
    assert torch.equal(student(x), net(x))


# The whole of a small net, in float64, one formula at a time ----------------------------------------------------


class Block(nn.Module):
    """Two convolutions with batch norms and a shortcut, one rectifier for all, mean, head."""

    layer_names = ("norm1", "relu")
    head_name = "fc"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1, self.norm1 = nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5)
        self.conv2, self.norm2 = nn.Conv2d(5, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(5, 4)
        randomised(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(x))
        y += x
        return self.fc(self.relu(y).mean((2, 3)))


class ByHand:
    """`Block` computed from its student's parameters and calibrated scales, one formula at a time."""

    def __init__(self, student: QuantizedNet, parameters: dict[str, Tensor]) -> None:
        self.p, self.scheme, self.bits = parameters, student.scheme, student.bits
        self.norms = {n: b.double() for n, b in student.graph.named_buffers() if "running" in n}
        self.quantizers = iter(student.activations().values())
        self.clipped = self.scheme.gradient == "clipped"

    def weight(self, name: str) -> tuple[Tensor, Tensor]:
        w, symmetric = self.p[f"{name}.layer.weight"], self.scheme.weights_are_symmetric
        ends = ((min(row), max(row)) for row in naive_quant.rows(w.detach(), 0))
        scale, zero_point = zip(
            *(naive_quant.qparams_over(*e, self.bits.weight, symmetric) for e in ends), strict=True
        )
        scales, zero_points = (naive_quant.along(v, w.ndim, 0) for v in (scale, zero_point))
        limits = naive_quant.integer_limits(self.bits.weight, symmetric)
        return naive_quant.straight_through(w, scales, zero_points, limits, self.clipped), scales.flatten()

    def quantized(self, x: Tensor) -> Tensor:
        quantizer = next(self.quantizers)
        self.scale = float(quantizer.scale)
        limits = naive_quant.integer_limits(quantizer.bits, False)
        return naive_quant.straight_through(x, self.scale, float(quantizer.zero), limits, self.clipped)

    def conv(self, name: str, x: Tensor, **more: int) -> Tensor:
        weight, scale = self.weight(name)
        bias = self.p.get(f"{name}.layer.bias")
        if bias is not None and self.scheme.placement == "deploy":
            bias = bias + (torch.round(bias / (self.scale * scale)) * self.scale * scale - bias).detach()
        return F.linear(x, weight, bias) if name == "fc" else F.conv2d(x, weight, bias, **more)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = (self.norms[f"{name}.running_{k}"] for k in ("mean", "var"))
        gain, shift = self.p[f"{name}.weight"], self.p[f"{name}.bias"]
        mean, var, gain, shift = (v[:, None, None] for v in (mean, var, gain, shift))
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + shift

    def paper(self, x: Tensor) -> Tensor:
        x = self.quantized(torch.relu(self.norm("norm1", self.conv("conv1", x, stride=2))))
        y = self.norm("norm2", self.conv("conv2", x, padding=1)) + x
        return self.conv("fc", self.quantized(torch.relu(y)).mean((2, 3)))

    def deploy(self, x: Tensor) -> Tensor:
        x = self.quantized(torch.relu(self.conv("conv1", self.quantized(x), stride=2)))
        y = self.quantized(self.conv("conv2", x, padding=1)) + x
        return self.conv("fc", self.quantized(self.quantized(torch.relu(y)).mean((2, 3))))


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", [Bits(3, 3), W4A4, W8A8], ids=str)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_outputs_and_gradients_equal_the_net_by_hand(placement: str, bits: Bits, gradient: str) -> None:
    """Of the images and of every parameter; ranges are a little narrow, so that some values are clipped and means of
    quantized values do not fall halfway between two integers of another quantizer."""
    student = student_of(Block(), placement, bits, pictures(2, seed=5), gradient=gradient)
    for quantizer in student.activations().values():
        quantizer.scale.mul_(0.877)
    x, names = pictures(3), [n for n, _ in student.graph.named_parameters()]

    def fast(images: Tensor, *parameters: Tensor) -> Tensor:
        held = dict(zip((f"graph.{n}" for n in names), parameters, strict=True))
        logits = torch.func.functional_call(student, held, (images,))
        return (logits * weights.to(logits)).sum()

    def slow(images: Tensor, *parameters: Tensor) -> Tensor:
        by_hand = ByHand(student, dict(zip(names, parameters, strict=True)))
        return (getattr(by_hand, placement)(images) * weights).sum()

    weights = small.randn(3, 4, seed=6).double()
    small.assert_twins(fast, slow, x, *(p.detach() for p in student.graph.parameters()), tolerance=1e-4)


def test_folded_weights_are_those_of_the_batch_norm() -> None:
    """w g / sqrt(var + eps) and (b - mean) g / sqrt(var + eps) + shift, a channel."""
    net = Block()
    layer = quantize(net, IMAGE, W4A4, Scheme("deploy")).layers()["conv1"]
    norm = net.norm1
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    torch.testing.assert_close(layer.weight.double(), net.conv1.weight.double() * gain[:, None, None, None])
    bias = (net.conv1.bias.double() - norm.running_mean.double()) * gain + norm.bias.double()
    torch.testing.assert_close(layer.bias.double(), bias)


class Reserved(nn.Module):
    """Its modules have the names that quantizers and observed layers get elsewhere."""

    layer_names = ("observed_0",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.grid_0, self.observed_0, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.observed_0(self.grid_0(x)).mean((2, 3)))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_quantize_keeps_modules_with_reserved_names(placement: str) -> None:
    net, x = Reserved().eval(), pictures(8)
    student = student_of(net, placement, W8A8, x)
    assert set(student.layers()) == {"grid_0", "fc"}
    assert relative(student(x), net(x)) < 0.05
