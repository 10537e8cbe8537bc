"""One forward pass, seen from all sides, and a net that does not know it was watched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rgal.core.batch_statistics import channel_statistics, image_statistics
from rgal.core.observe import WHAT, batch_norms, observe
from rgal.core.problem import Problem
from tests.helpers import naive, small

NETS = ("wrn10_1", "wrn16_2", "resnet8", "resnet18", "vgg8")


def inputs(n: int = 4) -> Tensor:
    return small.COLOUR.normalise(small.rand(n, *small.COLOUR.shape))


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


class ByHand:
    """The same things, through hooks that copy what they see at once."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.layers: list[Tensor] = []
        self.layer_inputs: list[Tensor] = []
        self.feature: list[Tensor] = []
        self.bn_inputs: list[Tensor] = []
        self.bn_layers: list[nn.Module] = []
        handles = [
            net.get_submodule(name).register_forward_hook(lambda _, __, out: self.layers.append(out.clone()))
            for name in net.layer_names  # type: ignore[union-attr]
        ]
        handles += [
            self._before(net.get_submodule(name), self.layer_inputs, [])
            for name in net.layer_names  # type: ignore[union-attr]
        ]
        handles += [self._before(layer, self.bn_inputs, self.bn_layers) for layer in batch_norms(net)]
        head = net.get_submodule(net.head_name)  # type: ignore[arg-type]
        handles.append(self._before(head, self.feature, []))
        self.logits = net(x)
        for handle in handles:
            handle.remove()

    @staticmethod
    def _before(module: nn.Module, inputs: list[Tensor], modules: list[nn.Module]) -> RemovableHandle:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs.append(args[0].clone())
            modules.append(layer)

        return module.register_forward_pre_hook(hook)


# What is seen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_an_observation_equals_hand_made_hooks(name: str) -> None:
    net, x = small.network(name, small.COLOUR), inputs()
    observed, hand = observe(net, x, WHAT), ByHand(net, x)
    assert torch.equal(observed.logits, net(x)) and torch.equal(observed.logits, hand.logits)
    assert torch.equal(observed.feature, hand.feature[0]) and len(hand.feature) == 1
    small.assert_same(observed.layers, hand.layers)
    assert len(observed.bn) == len(hand.bn_layers) and set(hand.bn_layers) == set(batch_norms(net))
    pooled = torch.cat([b.mean((2, 3)) for b in hand.bn_inputs], dim=1)
    torch.testing.assert_close(observed.bn_pooled, pooled)
    entering = torch.cat([x.mean((2, 3)) for x in hand.layer_inputs], dim=1)
    torch.testing.assert_close(observed.layer_inputs, entering)
    for layer, b, of_layer in zip(hand.bn_layers, hand.bn_inputs, observed.bn, strict=True):
        assert of_layer.running_mean is layer.running_mean and of_layer.running_var is layer.running_var
        var, mean = torch.var_mean(b, (0, 2, 3), correction=0)
        torch.testing.assert_close(of_layer.mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(of_layer.var, var, rtol=1e-4, atol=1e-5)


def test_statistics_of_images_are_those_of_each_image_alone() -> None:
    net, x = small.network("wrn10_1", small.COLOUR), inputs()
    together, hand = observe(net, x, ["bn_images"]).bn_images, ByHand(net, x)
    alone = [observe(net, image[None], ["bn"]).bn for image in x]
    for of_layer, layer, b, *single in zip(together, hand.bn_layers, hand.bn_inputs, *alone, strict=True):
        assert of_layer.running_mean is layer.running_mean and of_layer.running_var is layer.running_var
        pixels = b.shape[2] * b.shape[3]
        unbiased = torch.stack([s.var for s in single]) * pixels / (pixels - 1)
        torch.testing.assert_close(of_layer.mean, torch.stack([s.mean for s in single]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(of_layer.var, unbiased, rtol=1e-4, atol=1e-5)


def test_only_what_is_asked_for_is_there(problem: Problem) -> None:
    for what in WHAT:
        observed = observe(problem.teacher, inputs(), [what])
        there = {name for name, value in vars(observed).items() if not is_empty(value)}
        assert there == {"logits", what}


def is_empty(value: object) -> bool:
    return value is None or (isinstance(value, list) and not value)


def test_gradients_flow_through_everything_seen() -> None:
    net = small.network("wrn10_1", small.COLOUR)
    for what in sorted(WHAT):
        x = inputs().requires_grad_()
        observed = observe(net, x, [what])
        loss = {
            "logits": lambda s: s.logits,
            "feature": lambda s: s.feature,
            "layers": lambda s: torch.cat([layer.mean((2, 3)) for layer in s.layers], 1),
            "bn": lambda s: torch.cat([b.mean + b.var for b in s.bn]),
            "layer_inputs": lambda s: s.layer_inputs,
            "bn_pooled": lambda s: s.bn_pooled,
            "bn_images": lambda s: torch.cat([b.mean + b.var for b in s.bn_images], 1),
        }[what](observed)
        (gradient,) = torch.autograd.grad(loss.square().sum(), x)
        assert gradient.abs().max() > 0


def test_a_net_without_batch_norm_has_no_statistics() -> None:
    observed = observe(nn.Conv2d(3, 4, 3), inputs(), ["bn", "bn_pooled"])
    assert observed.bn == [] and observed.bn_pooled is None


def test_unknown_names_are_refused(problem: Problem) -> None:
    with pytest.raises(ValueError, match="cannot observe \\['gradients'\\]; valid: .*feature"):
        observe(problem.teacher, inputs(), ["logits", "gradients"])


# What is left ---------------------------------------------------------------------------------------------------


def test_nothing_is_left_on_the_net(problem: Problem) -> None:
    net = problem.teacher
    before, attributes = small.snapshot(net), {id(m): set(vars(m)) for m in net.modules()}
    observe(net, inputs(), WHAT)
    assert hooks(net) == 0
    assert {id(m): set(vars(m)) for m in net.modules()} == attributes
    small.assert_same(small.snapshot(net), before)


@pytest.mark.parametrize("what", ["logits", "bn"])
def test_layers_are_themselves_again_after_an_error(problem: Problem, what: str) -> None:
    with torch.no_grad(), pytest.raises(RuntimeError):
        observe(problem.teacher, torch.zeros(1, 7, 8, 8), [what])
    assert hooks(problem.teacher) == 0
    assert not any("forward" in vars(m) for m in problem.teacher.modules())


@pytest.mark.parametrize("name", NETS)
def test_observing_without_gradients_changes_no_bit(name: str) -> None:
    net, x = small.network(name, small.COLOUR).requires_grad_(False), inputs()
    with torch.no_grad():
        assert torch.equal(observe(net, x).logits, net(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(observe(net, x).logits, net(x))


@pytest.mark.parametrize("name", ["wrn10_1", "resnet8"])
def test_frozen_norms_without_statistics_are_cheap_and_have_torchs_gradient(name: str) -> None:
    """As those of a student are in synthesis: one multiplication and addition, and one multiplication back."""
    net, x = small.network(name, small.COLOUR).double().requires_grad_(False), inputs().double()
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    with torch.profiler.profile() as profile:
        logits = observe(net, leaves[0]).logits
    assert not any("batch_norm" in event.key for event in profile.key_averages())
    plain = net(leaves[1])
    torch.testing.assert_close(logits, plain, rtol=1e-12, atol=1e-12)
    ours, torchs = (
        torch.autograd.grad(y.square().sum(), leaf) for y, leaf in zip((logits, plain), leaves, strict=True)
    )
    torch.testing.assert_close(ours, torchs, rtol=1e-9, atol=1e-12)


def test_foreign_hooks_stay(problem: Problem) -> None:
    calls: list[int] = []
    handle = problem.teacher.get_submodule("block1").register_forward_hook(lambda *_: calls.append(1))
    observe(problem.teacher, inputs(), WHAT)
    assert hooks(problem.teacher) == 1 and calls == [1]
    handle.remove()


def test_hooks_go_when_the_forward_pass_raises(problem: Problem) -> None:
    with pytest.raises(RuntimeError):
        observe(problem.teacher, torch.zeros(2, 7, 16, 16), WHAT)
    assert hooks(problem.teacher) == 0


@pytest.mark.parametrize("attribute", ["layer_names", "head_name"])
def test_hooks_go_when_a_name_is_wrong(attribute: str) -> None:
    net = small.network("wrn10_1", small.COLOUR)
    setattr(net, attribute, ("block1", "no_such_block") if attribute == "layer_names" else "no_such_head")
    with pytest.raises(AttributeError):
        observe(net, inputs(), WHAT)
    assert hooks(net) == 0


# Channel statistics -----------------------------------------------------------------------------------------------

SHAPES = [(4, 3, 5, 6), (2, 1, 1, 1), (1, 7, 3, 2), (16, 24, 4, 4)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def statistics_loss(x: Tensor) -> Tensor:
    """Depends on both statistics of every channel, each with a weight of its own."""
    mean, var = channel_statistics(x)
    weight = torch.arange(1, len(mean) + 1)
    return (weight * mean).sum() + (var * (3 + weight)).square().sum()


def slow_statistics_loss(x: Tensor) -> Tensor:
    mean, var = (torch.stack(values) for values in naive.channel_statistics(x))
    weight = torch.arange(1, len(mean) + 1)
    return (weight * mean).sum() + (var * (3 + weight)).square().sum()


def sample(shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    return (2 * small.randn(*shape) + 0.7).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_channel_statistics_equal_the_loop(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    small.assert_twins(statistics_loss, slow_statistics_loss, sample(shape, layout), tolerance=2e-5)


@pytest.mark.parametrize("layout", FORMATS)
def test_channel_statistics_equal_var_mean_in_double(layout: torch.memory_format) -> None:
    x = sample((6, 5, 3, 4), layout).double()

    def through_var_mean(y: Tensor) -> Tensor:
        var, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        weight = torch.arange(1, 6)
        return (weight * mean).sum() + (var * (3 + weight)).square().sum()

    small.assert_twins(statistics_loss, through_var_mean, x, tolerance=1e-6)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_channel_statistics_of_half_precision_are_float32(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = sample((16, 4, 5, 5), layout).to(dtype)
    mean, var = channel_statistics(x)
    wanted = [torch.stack(values) for values in naive.channel_statistics(x.double())]
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(mean.double(), wanted[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(var.double(), wanted[1], rtol=1e-4, atol=1e-5)
    leaf = x.clone().requires_grad_()
    statistics_loss(leaf).backward()
    assert leaf.grad.dtype == dtype
    double = x.double().requires_grad_()
    slow_statistics_loss(double).backward()
    error = (leaf.grad.double() - double.grad).abs().max() / double.grad.abs().max()
    assert error < 2 * torch.finfo(dtype).eps


def test_channel_statistics_work_with_one_gradient_missing() -> None:
    for pick in (0, 1):
        x = sample(SHAPES[0], torch.contiguous_format)
        small.assert_twins(
            lambda y, pick=pick: channel_statistics(y)[pick].square().sum(),
            lambda y, pick=pick: torch.stack(naive.channel_statistics(y)[pick]).square().sum(),
            x,
            tolerance=2e-5,
        )


# Statistics of single images --------------------------------------------------------------------------------------


def image_loss(mean: Tensor, var: Tensor) -> Tensor:
    """Depends on both statistics of every channel of every image, each with a weight of its own."""
    weight = torch.arange(1, mean.numel() + 1).view(mean.shape)
    return (weight * mean).sum() + (var * (3 + weight)).square().sum()


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 1, 1), (3, 2, 1, 4)])
def test_image_statistics_equal_the_loop(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    small.assert_twins(
        lambda x: image_loss(*image_statistics(x)),
        lambda x: image_loss(*naive.image_statistics(x)),
        sample(shape, layout),
        tolerance=2e-5,
    )


def test_single_pixels_have_no_variance_and_gradients_of_the_mean_only() -> None:
    x = small.randn(3, 2, 1, 1).requires_grad_()
    mean, var = image_statistics(x)
    assert torch.equal(mean, x.flatten(1)) and torch.equal(var, torch.zeros(3, 2))
    assert torch.equal(torch.autograd.grad((mean + var).sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_image_statistics_of_half_precision_are_float32(dtype: torch.dtype) -> None:
    leaf = sample((6, 4, 5, 5), torch.contiguous_format).to(dtype).requires_grad_()
    mean, var = image_statistics(leaf)
    double = leaf.detach().double().requires_grad_()
    wanted = naive.image_statistics(double)
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close((mean.double(), var.double()), wanted, rtol=1e-5, atol=1e-5)
    image_loss(mean, var).backward()
    image_loss(*wanted).backward()
    assert leaf.grad.dtype == dtype
    error = (leaf.grad.double() - double.grad).abs().max() / double.grad.abs().max()
    assert error < 2 * torch.finfo(dtype).eps
