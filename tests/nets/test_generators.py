"""Generators: sizes against published ones, images against a plain version, resets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.precision import place
from rgal.nets.generators import DoublingConv2d, Generator, LargeGenerator, reset_generator
from tests.helpers.net_builders import bn, conv, randomised


def test_generator_sizes_equal_the_published_ones() -> None:
    with torch.device("meta"):
        assert nets.count_parameters(Generator(256)) == 2_328_899
        assert nets.count_parameters(LargeGenerator(256)) == 4_581_955
        assert nets.count_parameters(LargeGenerator(512)) == 8_776_259


@pytest.mark.parametrize("kind", [Generator, LargeGenerator])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 8), (3, 4)])
def test_generators_make_images(kind: type[Generator], channels: int, size: int) -> None:
    torch.manual_seed(0)
    net = kind(16, channels, size, width=4)
    images = net(torch.randn(5, 16))
    assert images.shape == (5, channels, size, size)
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 1e-3


def test_generator_equals_a_plain_one() -> None:
    torch.manual_seed(0)
    net = randomised(Generator(16, 3, 16, width=8))
    s, z = net.state_dict(), torch.randn(4, 16)
    with torch.no_grad():
        x = (z @ s["project.weight"].T + s["project.bias"]).view(4, 16, 4, 4)
        x = bn(s, "body.0", x)
        for first in (1, 5):
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = bn(s, f"body.{first + 2}", conv(s, f"body.{first + 1}", x))
            x = torch.where(x > 0, x, 0.2 * x)
        plain = 1 / (1 + torch.exp(-conv(s, "body.9", x)))
        torch.testing.assert_close(net(z), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (8, 8), (3, 5)])
def test_doubling_and_convolving_at_once_equals_one_after_the_other(height: int, width: int) -> None:
    torch.manual_seed(0)
    layer = DoublingConv2d(5, 4).double()
    x = torch.randn(3, 5, height, width, dtype=torch.float64, requires_grad=True)
    doubled = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    apart = torch.nn.functional.conv2d(doubled, layer.weight, padding=1)
    together = layer(x)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    wanted = torch.randn_like(apart)
    own, hand = (torch.autograd.grad(y, (x, layer.weight), wanted) for y in (together, apart))
    for a, b in zip(own, hand, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_maps_of_a_placed_generator_are_channels_last() -> None:
    """Contiguous ones cost a quarter more: convolutions turn them round, norms and activations are slower."""
    net, formats = place(Generator(16, 3, 16, width=8), torch.device("cpu")), []
    for layer in net.body:
        layer.register_forward_pre_hook(lambda _, inputs: formats.append(inputs[0].stride(1)))
    net(torch.randn(4, 16)).sum().backward()
    assert set(formats) == {1}


def test_doubling_keeps_the_names_and_shapes_of_published_checkpoints() -> None:
    shapes = {name: tuple(value.shape) for name, value in Generator(16, 3, 8, width=4).state_dict().items()}
    assert shapes["body.2.weight"] == (8, 8, 3, 3) and shapes["body.6.weight"] == (4, 8, 3, 3)
    assert sorted(name for name in shapes if "weight" in name) == [
        *(f"body.{i}.weight" for i in (0, 2, 3, 6, 7, 9)),
        "project.weight",
    ]


@pytest.mark.parametrize("size", [0, 2, 6, 30])
def test_generator_sizes_are_multiples_of_four(size: int) -> None:
    for kind in (Generator, LargeGenerator):
        with pytest.raises(
            UserError, match=f"{kind.__name__}: size is {size} pixels, expected a multiple of 4"
        ):
            kind(16, 3, size)
    with pytest.raises(UserError, match="latent is 0"):
        Generator(0)


def test_reset_depends_on_the_given_stream_alone() -> None:
    torch.manual_seed(1)
    used, fresh = Generator(16, 1, 8, 8), Generator(16, 1, 8, 8)
    optimiser = torch.optim.SGD(used.parameters(), 0.1)
    for _ in range(2):
        used(torch.randn(8, 16)).mean().backward()
        optimiser.step()
    before = torch.get_rng_state()
    for net in (used, fresh):
        reset_generator(net, torch.Generator().manual_seed(3))
        torch.rand(1)  # the global stream differs between the two
    torch.set_rng_state(before)
    for (name, a), b in zip(used.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not used.body[0].running_mean.any() and used.body[0].num_batches_tracked == 0
    assert all(p.requires_grad for p in used.parameters())
    rng = torch.Generator().manual_seed(3)
    reset_generator(used, rng)
    reset_generator(used, rng)
    assert not torch.equal(used.project.weight, fresh.project.weight), "the stream moves on"
    assert torch.equal(torch.get_rng_state(), before), "the global stream is not touched"


def test_reset_distributions() -> None:
    net = nn.Sequential(Generator(64, 3, 16, 64), nn.ConvTranspose2d(32, 32, 3), nn.BatchNorm1d(4096))
    reset_generator(net, torch.Generator().manual_seed(0))
    for name, value in net.named_parameters():
        norm = isinstance(net.get_submodule(name.rpartition(".")[0]), (nn.BatchNorm1d, nn.BatchNorm2d))
        if name.endswith("bias"):
            assert not value.any()
        elif value.numel() >= 4096:
            assert value.mean().item() == pytest.approx(float(norm), abs=2e-3)
            assert value.std().item() == pytest.approx(0.02, rel=0.05)


def test_reset_refuses_what_it_would_leave_as_it_was() -> None:
    with pytest.raises(TypeError, match=r"no reset rule for '1' \(Embedding\)"):
        reset_generator(nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2)), torch.Generator())
