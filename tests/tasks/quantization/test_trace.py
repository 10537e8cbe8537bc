"""Any convolutional network can be followed and quantized: what is covered, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import QuantizedNet
from tests.helpers import small
from tests.helpers.net_builders import randomised
from tests.helpers.quant_builders import (
    FOREIGN,
    IMAGE,
    OF_EACH_KIND,
    PLACEMENTS,
    W4A4,
    W8A8,
    build,
    is_multiple_of_accumulator_scale,
    layer_paths,
    levels,
    pictures,
    relative,
    student_of,
    torchvision_net,
    watch,
    weight_levels,
)

# Covered --------------------------------------------------------------------------------------------------------


def assert_runs_on_integers(name: str, placement: str) -> None:
    """Check that a layer that runs has at most 16 weights in a channel; deployed, that all but logits is quantized."""
    net, x = build(name), pictures(2, (3, 32, 32) if name in FOREIGN else IMAGE)
    student = student_of(net, placement, x=x)
    assert student(x).shape == net(x).shape
    coverage, watched = student.coverage, watch(student, x)
    ran = watched.of("conv2d", "linear")
    assert len(coverage.quantized) == FOREIGN.get(name, len(layer_paths(net))) == len(ran)
    assert set(coverage.quantized) | set(coverage.left_float) == layer_paths(net)
    assert not set(coverage.quantized) & set(coverage.left_float)
    assert set(student.layers()) == set(coverage.quantized)
    assert max(weight_levels(w) for _, w, *_ in ran) <= 16
    if placement == "deploy":
        image, *rest = ran
        assert levels(image[0]) <= 256
        inputs = [t for call in rest for t in call[:1]]
        inputs += [t for call in watched.of("add", "cat", "avg_pool", "mean") for t in call]
        assert max(map(levels, inputs)) <= 16


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_nets_of_the_suite(name: str, placement: str) -> None:
    assert_runs_on_integers(name, placement)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "densenet121" else ()) for name in FOREIGN]
)
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


def test_attention_is_quantized_in_its_parts() -> None:
    parts = (f"attention.{name}_proj" for name in ("q", "k", "v", "out"))
    assert_close_at_8_bits(Attentive(), "conv", "fc", *parts)


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
    assert student.layers()["up"].quantizer.qparams(student.layers()["up"].weight)[0].shape == (6 // groups,)


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
    assert all(is_multiple_of_accumulator_scale(student, name) for name in ("conv", "fc"))


class Grouped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.second, self.inner, self.outer = nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.inner(self.conv(x)))
        return self.fc(F.relu(y + self.outer(self.second(y)) / 2).mean((2, 3)))


def test_other_norms_and_operations_are_quantized_too() -> None:
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
