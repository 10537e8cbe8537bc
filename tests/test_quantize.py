"""Any convolutional net, quantized in one call: what is covered, where the grids stand, and what stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from rgal.errors import UserError
from rgal.observe import observe
from tasks.fake_quant import Bits, Scheme
from tasks.quantize import QuantizedNet, megabytes, quantize
from tests import naive, small
from tests.net_builders import randomised

SUITE = ("resnet8", "resnet20", "wrn10_1", "vgg8", "vgg11", "lenet5")
PLACEMENTS = ("paper", "deploy")
W4A4, W8A8 = Bits(4, 4), Bits(8, 8)
IMAGE = (3, 16, 16)


def pictures(n: int = 4, shape: tuple[int, ...] = IMAGE, seed: int = 0) -> Tensor:
    return small.randn(n, *shape, seed=seed)


def student_of(
    net: nn.Module,
    placement: str = "paper",
    bits: Bits = W4A4,
    x: Tensor | None = None,
    **scheme: Any,
) -> QuantizedNet:
    """Quantized, with ranges of one batch."""
    x = pictures() if x is None else x
    student = quantize(net, tuple(x.shape[1:]), bits, Scheme(placement, **scheme))  # type: ignore[arg-type]
    with torch.no_grad(), student.tracking():
        student(x)
    return student


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


# What is seen from outside: the arguments of torch's functions while a net runs --------------------------------


class Watch(TorchFunctionMode):
    """Calls of convolutions, linear layers, sums, joins, pools and rectifiers: (name, tensors that go in)."""

    KINDS = ("conv", "linear", "add", "cat", "avg_pool", "mean", "relu")
    GRIDS = ("add_",)  # is theirs

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[Tensor]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        given = args[0] if name == "cat" else args
        tensors = [t.detach().clone() for t in given if isinstance(t, Tensor)]
        kind = any(k in name for k in self.KINDS) and name not in self.GRIDS
        if kind and all(t.ndim >= 2 for t in tensors[:2]):  # not the biases, which grids compute with too
            self.calls.append((name, tensors))
        return func(*args, **(kwargs or {}))

    def of(self, *kinds: str) -> list[list[Tensor]]:
        return [tensors for name, tensors in self.calls if any(k in name for k in kinds)]


def watch(net: nn.Module, x: Tensor) -> Watch:
    with torch.no_grad(), Watch() as seen:
        net(x)
    return seen


def levels(x: Tensor) -> int:
    return len(x.unique())


def weight_levels(weight: Tensor, axis: int = 0) -> int:
    return max(len(set(row)) for row in naive.rows(weight, axis))


def layer_paths(net: nn.Module) -> set[str]:
    return {path for path, m in net.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}


# Covered --------------------------------------------------------------------------------------------------------


def torchvision_net(name: str) -> nn.Module:
    more = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None, num_classes=7, **more).eval()


FOREIGN = {"resnet18": 21, "mobilenet_v2": 53, "googlenet": 58, "densenet121": 121}


def build(name: str) -> nn.Module:
    return torchvision_net(name) if name in FOREIGN else small.network(name, small.COLOUR).eval()


def assert_runs_on_integers(name: str, placement: str) -> None:
    """Every layer that runs has a weight of 16 levels a channel; and, deployed, nothing but logits is off a grid."""
    net, x = build(name), pictures(2, (3, 32, 32) if name in FOREIGN else IMAGE)
    student = student_of(net, placement, x=x)
    assert student(x).shape == net(x).shape
    coverage, seen = student.coverage, watch(student, x)
    ran = seen.of("conv2d", "linear")
    assert len(coverage.quantized) == FOREIGN.get(name, len(layer_paths(net))) == len(ran)
    assert set(coverage.quantized) | set(coverage.left_float) == layer_paths(net)
    assert not set(coverage.quantized) & set(coverage.left_float)
    assert set(student.layers()) == set(coverage.quantized)
    assert max(weight_levels(w) for _, w, *_ in ran) <= 16
    if placement == "deploy":
        image, *rest = ran
        assert levels(image[0]) <= 256
        inputs = [t for call in rest for t in call[:1]]
        inputs += [t for call in seen.of("add", "cat", "avg_pool", "mean") for t in call]
        assert max(map(levels, inputs)) <= 16


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", SUITE)
def test_nets_of_the_suite(name: str, placement: str) -> None:
    assert_runs_on_integers(name, placement)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_nets(name: str) -> None:
    assert_runs_on_integers(name, "deploy")


def test_auxiliary_classifiers_are_accounted_for() -> None:
    """They do not run in evaluation, so they stay in float."""
    left = quantize(build("googlenet"), (3, 32, 32), W4A4).coverage.left_float
    assert {path.split(".")[0] for path in left} == {"aux1", "aux2"} and len(left) == 6


def test_a_shared_relu_has_a_range_for_each_use() -> None:
    net = torchvision_net("resnet18")
    x = pictures(2, (3, 32, 32))
    student = student_of(net, x=x)
    assert len(watch(net, x).of("relu")) == len(student.activations()) == 17
    ranges = {float(q.high) for q in student.activations().values()}
    assert len(ranges) == 17


# Nets of other shapes -------------------------------------------------------------------------------------------


class Net(nn.Module):
    """conv - relu - mean - linear; the base of the hand-written ones."""

    def __init__(self, conv: Callable[..., nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.fc = conv(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
        randomised(self)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def assert_close_at_8_bits(net: nn.Module, *names: str, left: tuple[str, ...] = ()) -> QuantizedNet:
    """Both placements quantize the named layers and stay close to the net."""
    x = pictures(8)
    for placement in PLACEMENTS:
        student = student_of(net, placement, W8A8, x, activation_range="minmax")
        assert set(student.coverage.quantized) == set(names)
        assert student.coverage.left_float == left
        assert relative(student(x), net(x)) < 0.05, placement
    return student


class Functional(Net):
    def __init__(self) -> None:
        super().__init__()
        self.filters, self.table = nn.Parameter(small.randn(4, 4, 3, 3)), nn.Parameter(small.randn(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(F.conv2d(self.features(x), self.filters))
        return F.linear(self.fc(y.mean((2, 3))), self.table)


def test_layers_called_as_functions_are_reported() -> None:
    assert_close_at_8_bits(Functional(), "conv", "fc", left=("conv2d", "linear"))
    assert len(student_of(Functional()).activations()) == 2


class Attentive(Net):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x).flatten(2).transpose(1, 2)
        y, _ = self.attention(y, y, y)
        return self.fc(y.mean(1))


def test_attention_is_reported() -> None:
    assert_close_at_8_bits(Attentive(), "conv", "fc", left=("attention.out_proj",))


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(2, 2, 1))


def test_a_layer_that_never_runs_is_reported() -> None:
    student = assert_close_at_8_bits(Unused(), "conv", "fc", left=("spare.0", "spare.1"))
    assert copy.deepcopy(student).coverage == student.coverage


class Twice(Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.same = self.again

    def forward(self, x: Tensor) -> Tensor:
        y = self.again(F.relu(self.again(self.features(x))))
        return self.fc(torch.tanh(self.norm(self.same(y))).mean((2, 3)))


def test_a_layer_that_runs_three_times_is_quantized_once() -> None:
    """And keeps its weights: a batch norm behind one of the calls is not folded into them."""
    net = Twice()
    student = assert_close_at_8_bits(net, "conv", "again", "fc")
    assert student.coverage.float_norms == ("norm",)
    assert torch.equal(student.layers()["again"].weight, net.again.weight)


class Standardised(nn.Conv2d):
    """Its output does not change with the size of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, centred / centred.std((1, 2, 3), keepdim=True), self.bias)


def test_a_convolution_with_its_own_forward_keeps_it_and_its_norm() -> None:
    net = Net(Standardised)
    with torch.no_grad():
        net.norm.weight.copy_(torch.tensor([0.1, 1.0, -3.0, 0.5]))
    student = assert_close_at_8_bits(net, "conv", "fc")
    assert student.coverage.float_norms == ("norm",)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups: int) -> None:
    """The output channels are the second dimension; of one group, if there are more."""

    class Transposed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
            self.up_norm, self.last = nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 2, groups=groups)
            randomised(self)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.up_norm(self.up(self.features(x))))
            return self.fc(self.last(x).mean((2, 3)))

    student = assert_close_at_8_bits(Transposed(), "conv", "up", "last", "fc")
    assert len(student.coverage.float_norms) == (groups > 1)
    assert student.layers()["up"].quantizer.grid(student.layers()["up"].weight)[0].shape == (6 // groups,)


def test_a_net_of_linear_layers() -> None:
    torch.manual_seed(0)
    hidden = (nn.Linear(768, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))
    net = randomised(nn.Sequential(nn.Flatten(), *hidden))
    student = assert_close_at_8_bits(net, "1", "4")
    assert student.coverage.float_norms == ()


class Tokens(Net):
    """The batch norm counts positions, not the outputs of the layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.position_norm = nn.Linear(9, 9), nn.BatchNorm1d(9)
        self.patches = nn.Conv2d(3, 9, 4, stride=5)
        randomised(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.position_norm(self.mix(self.patches(x).flatten(2).transpose(1, 2)))
        return self.fc(F.gelu(y).mean(1)[:, :4])


def test_a_norm_over_positions_is_not_folded() -> None:
    net = Tokens()
    del net.conv, net.norm
    assert assert_close_at_8_bits(net, "patches", "mix", "fc").coverage.float_norms == ("position_norm",)


class Shapely(Net):
    """Branches on shapes, unpacks them, and has an optional argument; deeper than Python's recursion."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Conv2d(4, 4, 1), nn.Linear(4, 4)
        self.deep = nn.Sequential(*(nn.Hardtanh(-9, 9) for _ in range(400)))

    def forward(self, x: Tensor, inside: bool = False, size: int | None = None) -> Tensor:
        y = self.features(x)
        if inside:
            return y
        y = self.deep(y)
        n, _, height, width = y.shape
        if height > 4 and y.dim() == 4 and y.size(1) == 4 and size is None and y.is_floating_point():
            y = self.large(y)
        else:
            y = self.small(y)
        return self.fc(y.reshape(n, 4, height * width).mean(2))


def test_branches_on_shapes_take_the_way_of_the_images() -> None:
    assert_close_at_8_bits(Shapely(), "conv", "large", "fc", left=("small",))


class Keywords(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=F.relu(input=self.conv(input=F.pad(x, (1, 1, 1, 1)))).mean((2, 3)))


def test_arguments_by_name_and_padding_by_hand() -> None:
    student = assert_close_at_8_bits(Keywords(), "conv", "fc")
    assert all(on_accumulator_grid(student, name) for name in ("conv", "fc"))


class Grouped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.second, self.inner, self.outer = nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.inner(self.conv(x)))
        return self.fc(F.relu(y + self.outer(self.second(y)) / 2).mean((2, 3)))


def test_other_norms_and_operations_end_on_grids_too() -> None:
    net, x = Grouped(), pictures()
    assert_close_at_8_bits(net, "conv", "second", "fc")
    sums = watch(student_of(net, "deploy"), x).of("add")
    assert len(sums) == 1 and max(map(levels, sums[0])) <= 16


# Nets that cannot be quantized ----------------------------------------------------------------------------------


class Body(Net):
    """A net whose forward is given."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def loop(net: Net, x: Tensor) -> Tensor:
    return torch.stack([net.fc(net.features(image[None]).mean((0, 2, 3))) for image in x])


def effect(net: Net, x: Tensor) -> Tensor:
    """The result of the rectifier is not used, its effect is."""
    y = net.conv(x)
    y.relu_()
    return net.fc((y * 1).mean((2, 3)))


def normed() -> nn.Module:
    net = Net()
    nn.utils.parametrizations.weight_norm(net.conv)
    return net


UNFIT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no layer": (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(768)), "no convolution or linear layer"),
    "none runs": (lambda: Body(lambda net, x: x.mean((2, 3))), "no convolution or linear layer"),
    "a layer alone": (lambda: nn.Linear(16, 2), "no convolution or linear layer"),
    "values": (lambda: Body(lambda net, x: net(x) if x.sum() > 0 else net.fc(x)), "values of the images"),
    "numbers": (lambda: Body(lambda net, x: x if x.max().item() > 0 else -x), "values of the images"),
    "batch": (lambda: Body(loop), "other results"),
    "effect": (lambda: Body(effect), "other results"),
    "error": (lambda: Body(lambda net, x: net.fc(x[:, :5])), ""),
    "channels": (lambda: nn.Sequential(nn.Conv2d(5, 2, 3)), "channels"),
    "half": (lambda: Net().half(), ""),
    "weight norm": (normed, "'conv' is computed"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_nets_are_errors_of_one_line(case: str) -> None:
    make, reason = UNFIT[case]
    net = make()
    with pytest.raises(UserError, match=f"^{type(net).__name__} cannot be quantized: .*{reason}") as error:
        quantize(net, IMAGE, W4A4)
    assert "\n" not in str(error.value)


def test_a_layer_with_a_second_input_is_an_error() -> None:
    class Sized(Net):
        def __init__(self) -> None:
            super().__init__(nn.ConvTranspose2d)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x, [18, 18]).mean((2, 3)))

    with pytest.raises(UserError, match="'conv' is called with more than one input"):
        quantize(Sized(), IMAGE, W4A4)


# Where the grids stand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet8", "wrn10_1", "vgg8", "lenet5"])
def test_paper_is_a_grid_behind_every_activation_and_nowhere_else(name: str) -> None:
    net, x = build(name), pictures(8)
    student = student_of(net, x=x)
    rectified: list[Tensor] = []
    for quantizer in student.activations().values():
        quantizer.register_forward_pre_hook(lambda _, args: rectified.append(args[0]))
    seen = watch(student, x)
    outputs = [F.relu(t) for (t,) in seen.of("relu")]
    assert len(outputs) == len(rectified) == len(student.activations())
    small.assert_same(rectified, outputs)
    image, *_ = seen.of("conv2d")
    assert torch.equal(image[0], x)
    assert all(levels(branch) > 16 for branch, _ in seen.of("add"))
    pooled = seen.of("linear")[-1][0]
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


def on_accumulator_grid(student: QuantizedNet, name: str) -> bool:
    """Whether the bias that a layer computes with is a whole number of (input step x weight step)."""
    layer = student.layers()[name]
    seen: list[tuple[Any, ...]] = []
    with_step = layer.register_forward_pre_hook(lambda _, args: seen.append(args))
    calls = watch(student, pictures()).of("conv2d", "linear")
    with_step.remove()
    (((_, step),), (_, weight, bias)) = seen, calls[list(student.layers()).index(name)][:3]
    inputs = {float(q.scale) for q in student.activations().values()}
    peaks = weight.flatten(1).abs().amax(1) / naive.grid_ends(layer.quantizer.bits, True)[1]
    whole = bias.double() / (float(step) * peaks.double())
    off_by = float((layer.bias.detach().double() / (float(step) * peaks.double()) - whole).abs().max())
    near = torch.allclose(whole, whole.round(), rtol=1e-6, atol=1e-3)
    return float(step) in inputs and near and 0 < off_by < 0.501


@pytest.mark.parametrize("name", ["resnet8", "lenet5", "vgg8"])
def test_deployed_weights_are_symmetric_and_biases_on_the_grid_of_the_accumulator(name: str) -> None:
    net = build(name)
    for module in net.modules():
        if isinstance(module, (_ConvNd, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.3)
    student = student_of(net, "deploy")
    for path, layer in student.layers().items():
        q, _, zero = layer.quantizer.integers(layer.weight)
        assert (zero == 0).all() and q.amin() >= -7 and q.amax() <= 7
        assert on_accumulator_grid(student, path), path
    assert list(student.activations())[0] == "image"
    assert [q.bits for q in student.activations().values()] == [8] + [4] * (len(student.grids) - 1)
    assert levels(student(pictures(64))) > 100  # logits are on no grid


def test_grids_of_a_residual_net_by_name() -> None:
    paper, deploy = (list(quantize(build("resnet8"), IMAGE, W4A4, Scheme(p)).grids) for p in PLACEMENTS)  # type: ignore[arg-type]
    assert len(paper) == 7 and len(deploy) == 14  # 1 + 3 + 3 rectifiers; image, branches, shortcuts, pool
    assert paper[:3] == ["bn1", "layer1.0.bn1", "layer1.0.add"]
    assert deploy[:4] == ["image", "conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert {"layer2.0.downsample.0", "layer3.0.downsample.0"} <= set(deploy)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", SUITE)
def test_8_bits_are_close_to_float(name: str, placement: str) -> None:
    net, x = build(name), pictures(32)
    coarse, fine = (relative(student_of(net, placement, b, x)(x), net(x)) for b in (Bits(3, 3), W8A8))
    assert fine < 0.2 and coarse > 3 * fine


def test_deployed_before_tracking_only_weights_are_rounded() -> None:
    net, x = build("lenet5"), pictures()
    for module in net.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            nn.init.normal_(module.bias, 0, 0.3)
    student = quantize(net, IMAGE, W4A4, Scheme("deploy"))
    with torch.no_grad():
        for path, layer in student.layers().items():
            net.get_submodule(path).weight.copy_(layer.quantizer(layer.weight))
    assert torch.equal(student(x), net(x))


# The whole of a small net, in float64 and one formula a step ----------------------------------------------------


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
    """`Block` from the parameters of its student and the steps that the student measured."""

    def __init__(self, student: QuantizedNet, parameters: dict[str, Tensor]) -> None:
        self.p, self.scheme, self.bits = parameters, student.scheme, student.bits
        self.norms = {n: b.double() for n, b in student.graph.named_buffers() if "running" in n}
        self.grids = iter(student.activations().values())
        self.clipped = self.scheme.gradient == "clipped"

    def weight(self, name: str) -> tuple[Tensor, Tensor]:
        w, symmetric = self.p[f"{name}.layer.weight"], self.scheme.weights_are_symmetric
        ends = ((min(row), max(row)) for row in naive.rows(w.detach(), 0))
        step, zero = zip(*(naive.grid_over(*e, self.bits.weight, symmetric) for e in ends), strict=True)
        step_, zero_ = (naive.along(v, w.ndim, 0) for v in (step, zero))
        ends_of_grid = naive.grid_ends(self.bits.weight, symmetric)
        return naive.straight_through(w, step_, zero_, ends_of_grid, self.clipped), step_.flatten()

    def grid(self, x: Tensor) -> Tensor:
        g = next(self.grids)
        self.step = float(g.scale)
        ends = naive.grid_ends(g.bits, False)
        return naive.straight_through(x, self.step, float(g.zero), ends, self.clipped)

    def conv(self, name: str, x: Tensor, **more: int) -> Tensor:
        weight, step = self.weight(name)
        bias = self.p.get(f"{name}.layer.bias")
        if bias is not None and self.scheme.placement == "deploy":
            bias = bias + (torch.round(bias / (self.step * step)) * self.step * step - bias).detach()
        return F.linear(x, weight, bias) if name == "fc" else F.conv2d(x, weight, bias, **more)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = (self.norms[f"{name}.running_{k}"] for k in ("mean", "var"))
        gain, shift = self.p[f"{name}.weight"], self.p[f"{name}.bias"]
        mean, var, gain, shift = (v[:, None, None] for v in (mean, var, gain, shift))
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + shift

    def paper(self, x: Tensor) -> Tensor:
        x = self.grid(torch.relu(self.norm("norm1", self.conv("conv1", x, stride=2))))
        y = self.norm("norm2", self.conv("conv2", x, padding=1)) + x
        return self.conv("fc", self.grid(torch.relu(y)).mean((2, 3)))

    def deploy(self, x: Tensor) -> Tensor:
        x = self.grid(torch.relu(self.conv("conv1", self.grid(x), stride=2)))
        y = self.grid(self.conv("conv2", x, padding=1)) + x
        return self.conv("fc", self.grid(self.grid(torch.relu(y)).mean((2, 3))))


@pytest.mark.parametrize("gradient", ["identity", "clipped"])
@pytest.mark.parametrize("bits", [Bits(3, 3), W4A4, W8A8], ids=str)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_outputs_and_gradients_equal_the_net_by_hand(placement: str, bits: Bits, gradient: str) -> None:
    """Of the images and of every parameter; ranges are a little narrow, so that some values are clipped and means of
    values on a grid do not fall halfway between two points of another."""
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


# What stays as it was -------------------------------------------------------------------------------------------


def facts(net: nn.Module) -> list[Any]:
    """Of every module: class, mode, hooks and attributes."""
    return [
        (name, type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
        for name, m in net.named_modules()
    ]


def storages(net: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_network_is_left_as_it_is(placement: str, training: bool) -> None:
    net = build("resnet8").train(training)
    net.fc.bias.requires_grad_(False)
    calls: list[int] = []
    net.fc.register_forward_hook(lambda *_: calls.append(1))
    before, state = facts(net), small.snapshot(net)
    held = [(n, id(p), p.requires_grad, p._version, p.grad) for n, p in net.named_parameters()]
    random = torch.get_rng_state()
    student = quantize(net, IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), random)
    assert not storages(net) & storages(student) and student.training == training
    assert not student.layers()["fc"].bias.requires_grad
    student.train()(pictures()).sum().backward()
    small.assert_same(small.snapshot(net), state)
    assert facts(net) == before
    assert held == [(n, id(p), p.requires_grad, p._version, p.grad) for n, p in net.named_parameters()]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", SUITE)
def test_students_are_observed_like_their_networks(name: str, placement: str) -> None:
    net, x = build(name), pictures(16)
    student = student_of(net, placement, W8A8, x)
    what = ("logits", "feature", "layers")
    seen, wanted = observe(student, x, what), observe(net, x, what)
    assert torch.equal(seen.logits, student(x)) and len(seen.layers) == len(wanted.layers) > 1
    for a, b in zip((seen.feature, *seen.layers), (wanted.feature, *wanted.layers), strict=True):
        assert a.shape == b.shape and relative(a, b) < 0.12
    head = student.layers()[net.head_name]
    assert seen.feature.shape[1] == head.weight.shape[1]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


def test_layers_are_seen_behind_their_grids() -> None:
    student = student_of(build("resnet8"), "paper")
    layers = observe(student, pictures(), ("layers",)).layers
    assert all(levels(layer) <= 16 for layer in layers)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_copies_and_files_give_the_same_student(placement: str) -> None:
    net, x = build("wrn10_1"), pictures()
    for training in (False, True):
        student = student_of(net, placement)
        wanted = student(x)
        student.train(training)
        again = copy.deepcopy(student)
        fresh = quantize(build("wrn10_1").train(training), IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.add_(1)
        fresh.load_state_dict(small.reloaded(student.state_dict()), strict=True)
        for other in (again, fresh):
            assert other.training == training and not storages(other) & storages(student)
            assert torch.equal(other.eval()(x), wanted)
            assert other.coverage == student.coverage and other.layer_names == student.layer_names
            assert len(observe(other, x, ("layers",)).layers) == 3


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_autocast_changes_nothing(placement: str) -> None:
    student, x = student_of(build("resnet8"), placement), pictures().requires_grad_()

    plain = student(x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = student(x)
    results = [
        (y, *torch.autograd.grad(y.square().sum(), (x, *student.parameters()))) for y in (plain, inside)
    ]
    small.assert_same(*results)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(student(x.bfloat16()), student(x.bfloat16().float()))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), student.tracking():
        student(2 * x)
    assert all(t.dtype == torch.float32 for t in student.parameters())


@pytest.mark.parametrize("kind", ["minmax", "learned"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["resnet8", "lenet5"])
def test_gradients_reach_images_and_all_parameters(name: str, placement: str, kind: str) -> None:
    student = student_of(build(name), placement, weight_range=kind, activation_range=kind)
    x = pictures(seed=1).requires_grad_()
    F.cross_entropy(student(x), torch.arange(4)).backward()
    for path, tensor in (("images", x), *student.named_parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.any(), path
    learned = [n for n, _ in student.named_parameters() if n.endswith("scale")]
    assert len(learned) == (len(student.layers()) + len(student.grids)) * (kind == "learned")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_frozen_parameters_stay_frozen(placement: str) -> None:
    student = quantize(build("resnet8").requires_grad_(False), IMAGE, W4A4, Scheme(placement))  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in student.parameters())


def test_ranges_move_inside_tracking_only() -> None:
    student = quantize(build("resnet8"), IMAGE, W4A4)
    student(pictures())
    assert not any(q.ready for q in student.activations().values())
    with pytest.raises(RuntimeError, match="stop"), student.tracking():
        student(pictures())
        raise RuntimeError("stop")
    assert all(q.ready and q.batches == 1 for q in student.activations().values())
    before = small.snapshot(student)
    student.train()(5 * pictures(seed=1))
    after = {
        k: v for k, v in small.snapshot(student).items() if "running" not in k and "num_batches" not in k
    }
    small.assert_same(after, {k: before[k] for k in after})


# Sizes ----------------------------------------------------------------------------------------------------------

WEIGHTS = [3 * 16 * 9] + 2 * [16 * 16 * 9]  # stem and first stage of resnet8
WEIGHTS += [16 * 32 * 9, 32 * 32 * 9, 16 * 32] + [32 * 64 * 9, 64 * 64 * 9, 32 * 64] + [64 * 5]
CHANNELS = 3 * (16 + 32 + 64)  # of the nine batch norms
OUTPUTS = CHANNELS + 5


@pytest.mark.parametrize("kind", ["minmax", "learned"])
@pytest.mark.parametrize("bits", [Bits(2, 8), W4A4, W8A8], ids=str)
def test_size_of_resnet8(bits: Bits, kind: str) -> None:
    """k bits a weight; 32 a step, a bias, and the four numbers a channel of a batch norm that is not folded."""
    net = small.network("resnet8", small.COLOUR)
    assert megabytes(net) * 8e6 == pytest.approx(32 * (sum(WEIGHTS) + 5 + 4 * CHANNELS))
    sizes = {"paper": 5 + 4 * CHANNELS + OUTPUTS + 7, "deploy": CHANNELS + 5 + OUTPUTS + 14}
    for placement, numbers in sizes.items():
        scheme = Scheme(placement, weight_range=kind, activation_range=kind)  # type: ignore[arg-type]
        student = quantize(net, IMAGE, bits, scheme)
        assert student.megabytes() * 8e6 == pytest.approx(bits.weight * sum(WEIGHTS) + 32 * numbers)
