"""The teacher of a call: what is found of it, what is refused, and that the user's own network stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rgal
from rgal.nets.checkpoint import save_weights
from tests.helpers import foreign_builders, small
from tests.helpers.api_builders import TwoBranches, network, pixels, teacher


class Probabilities(TwoBranches):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class LogProbabilities(TwoBranches):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(1)


class Two(TwoBranches):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Integers(TwoBranches):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.one_hot(x.long()).float())


def test_it_says_what_was_found() -> None:
    text = str(teacher())
    assert "Teacher TwoBranches" in text and "images 1x8x8, 4 classes, mean 0.3, std 0.4" in text
    assert "layers: right (4x4x4), top (8x2x2)" in text
    assert "head: fc (Linear)" in text and "norms: 3 of 3" in text
    assert "parameters: 732" in text


def test_norms_without_statistics_are_counted_too() -> None:
    net = network()
    net.left[1] = nn.GroupNorm(2, 4)
    assert "norms: 2 of 3" in str(teacher(net))


def test_a_guess_is_called_one() -> None:
    assert "guess" in str(rgal.Teacher(network(), (1, 8, 8), 4))
    assert teacher(mean=None, std=None, normalise="none").domain.mean == (0.0,)


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (Probabilities(), "returns probabilities"),
        (Two(), "expected logits"),
        (Lazy(), "of a lazy module has no values yet"),
        (Integers(), "cannot take images"),
        (TwoBranches(5), "expected logits (2, 4)"),
        (TwoBranches, "is a class"),
        ("nothing", "needs weights=FILE"),
        (3, "is a int"),
        (torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))), "expected the nn.Module itself"),
        (nn.Identity(), "has no parameters"),
        (TwoBranches().to("meta"), "is on the device 'meta'"),
    ],
)
def test_what_is_no_classifier_is_refused_in_a_line(net: nn.Module, line: str) -> None:
    with pytest.raises(rgal.UserError) as error:
        teacher(net)
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"image": (8, 8)}, "expected channels x height x width"),
        ({"image": (2, 8, 8)}, "1 or 3 channels"),
        ({"classes": 1}, "classes 1"),
        ({"mean": "x"}, "expected a number"),
        ({"mean": 127.0}, "mean 127"),
        ({"mean": (0.1, 0.2)}, "expected 1"),
        ({"std": None}, "mean is given without std"),
        ({"crop_padding": -1}, "crop_padding -1"),
        ({"normalise": "imagenet"}, "given too"),
        ({"device": "abacus"}, "expected auto, cpu, cuda"),
        ({"weights": "w.pth"}, "are for a network given by name"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_a_line(settings: dict[str, object], line: str) -> None:
    with pytest.raises(rgal.UserError) as error:
        teacher(**settings)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_the_network_of_the_user_stays_as_it_was() -> None:
    net = network()
    net.left.eval()
    net.fc.bias.requires_grad_(False)
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    calls: list[int] = []
    net.top.register_forward_hook(lambda *_: calls.append(1))
    before, attributes = copy.deepcopy(net), set(vars(net))
    made = teacher(net)
    calls.clear()
    made.logits(pixels())
    small.assert_same(small.snapshot(net), small.snapshot(before))
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in before.parameters()]
    assert [p.is_contiguous() for p in net.parameters()] == [p.is_contiguous() for p in before.parameters()]
    assert net.fc.weight.grad is not None and bool((net.fc.weight.grad == 1).all())
    assert set(vars(net)) == attributes and len(net.top._forward_hooks) == 1
    assert not any(module._forward_hooks for module in net.modules() if module is not net.top)
    with torch.no_grad():
        net.fc.weight.zero_()
    assert bool(made.net.get_parameter("fc.weight").any())  # a copy


def test_wrappers_are_taken_off() -> None:
    net = network()
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        small.assert_same(small.snapshot(teacher(wrapped).net), small.snapshot(net))


def test_doubles_and_log_probabilities_are_taken() -> None:
    assert teacher(network().double()).logits(pixels()).dtype == torch.float32
    assert "head: none" in str(teacher(LogProbabilities()))


def test_a_named_network_takes_its_weights_from_a_file(tmp_path: Path) -> None:
    net = small.network("wrn10_1", small.GREY)
    save_weights(net, tmp_path / "w.safetensors")
    made = teacher("wrn10_1", weights=tmp_path / "w.safetensors")
    small.assert_same(small.snapshot(made.net), small.snapshot(net))
    assert made.name == "wrn10_1" and made.dataset == "none"


def test_logits_are_those_of_the_network() -> None:
    net, images = network().eval(), pixels()
    with torch.no_grad():
        expected = net((images.float() / 255 - 0.3) / 0.4)
    torch.testing.assert_close(teacher(net).logits(images), expected)
    torch.testing.assert_close(teacher(net).logits(images.float() / 255), expected)


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (torch.randn(4, 1, 8, 8), "not normalised"),
        (torch.zeros(4, 1, 9, 9), "expected (N,1,8,8)"),
        (torch.zeros(0, 1, 8, 8), "N from 1 on"),
        ([1, 2], "are a list"),
    ],
)
def test_what_is_no_image_is_refused(images: Tensor, line: str) -> None:
    with pytest.raises(rgal.UserError, match="images are") as error:
        teacher().logits(images)
    assert line in str(error.value)


def test_networks_that_name_their_parts_keep_the_names() -> None:
    made = rgal.Teacher(foreign_builders.Named(), (3, 16, 16), 4, normalise="cifar10")
    assert made.net.layer_names == ("conv1",) and made.net.head_name == "first"
