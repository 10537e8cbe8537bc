"""Architectures, generators, checkpoints: layouts against published tables, functions against plain ones."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal import nets
from rgal.errors import UserError
from rgal.nets.checkpoint import load_weights, save_weights
from rgal.nets.generators import Generator, LargeGenerator, reset_generator

# name: parameters for 10 and 100 classes, tensors in the state_dict, BN layers, BN channels, layers, feature
# width. Measured on the public implementations (CMI, RGAL), not on ours.
TABLE: dict[str, tuple[int, int, int, int, int, str, int]] = {
    "wrn40_2": (2_243_546, 2_255_156, 227, 37, 2704, "32@32,64@16,128@8", 128),
    "wrn16_1": (175_066, 180_916, 82, 13, 464, "16@32,32@16,64@8", 64),
    "wrn16_2": (691_674, 703_284, 83, 13, 912, "32@32,64@16,128@8", 128),
    "wrn40_1": (563_930, 569_780, 226, 37, 1360, "16@32,32@16,64@8", 64),
    "resnet18": (11_173_962, 11_220_132, 122, 20, 4800, "64@32,128@16,256@8,512@4", 512),
    "resnet34": (21_282_122, 21_328_292, 218, 36, 8512, "64@32,128@16,256@8,512@4", 512),
    "vgg8": (3_918_858, 3_965_028, 37, 5, 1472, "64@32,128@16,256@8,512@4,512@4", 512),
    "vgg11": (9_231_114, 9_277_284, 58, 8, 2752, "64@32,128@16,256@8,512@4,512@4", 512),
    "resnet8": (78_042, 83_892, 56, 9, 336, "16@32,32@16,64@8", 64),
    "resnet20": (272_474, 278_324, 128, 21, 784, "16@32,32@16,64@8", 64),
    "resnet32": (466_906, 472_756, 200, 33, 1232, "16@32,32@16,64@8", 64),
    "resnet56": (855_770, 861_620, 344, 57, 2128, "16@32,32@16,64@8", 64),
    "resnet8x4": (1_210_410, 1_233_540, 62, 10, 1376, "64@32,128@16,256@8", 256),
    "resnet32x4": (7_410_730, 7_433_860, 206, 34, 4960, "64@32,128@16,256@8", 256),
}
FAMILIES = ("wrn10_1", "resnet18", "resnet8", "vgg8")


def on_meta(name: str, classes: int = 10, channels: int = 3) -> nn.Module:
    """The net without memory: enough for names and shapes."""
    with torch.device("meta"):
        return nets.build(name, classes, channels)


def state_keys(name: str) -> set[str]:
    return set(on_meta(name).state_dict())


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic away from its default, so that no missing or swapped one goes unseen."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.ndim == 1 and name.endswith((".weight", "running_var")):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=rng) * 0.3)
    return net.eval()


# ---------------------------------------------------------------- layout


@pytest.mark.parametrize("name", TABLE)
def test_counts_equal_the_published_ones(name: str) -> None:
    of_10, of_100, tensors, layers, channels, _, _ = TABLE[name]
    net = on_meta(name)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert nets.count_parameters(net) == of_10
    assert nets.count_parameters(on_meta(name, classes=100)) == of_100
    assert len(net.state_dict()) == tensors
    assert (len(norms), sum(m.num_features for m in norms)) == (layers, channels)


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_thin_resnets_grow_by_three_equal_blocks_for_six_layers(depth: int) -> None:
    assert nets.count_parameters(on_meta(f"resnet{depth}")) == 78_042 + (depth - 8) // 6 * 97_216


@pytest.mark.parametrize("name", TABLE)
def test_layers_and_feature_have_the_published_shapes(name: str) -> None:
    net = on_meta(name)
    shapes: list[str] = []
    features: list[torch.Size] = []
    for path in net.layer_names:
        layer = net.get_submodule(path)
        layer.register_forward_hook(lambda m, i, y: shapes.append(f"{y.shape[1]}@{y.shape[2]}"))
    head = net.get_submodule(net.head_name)
    head.register_forward_pre_hook(lambda m, i: features.append(i[0].shape))
    logits = net(torch.empty(2, 3, 32, 32, device="meta"))
    assert isinstance(head, nn.Linear)
    assert ",".join(shapes) == TABLE[name][5]  # also: every layer ran exactly once, in order
    assert features == [(2, TABLE[name][6])]
    assert logits.shape == (2, 10)


def shortcuts(name: str, pattern: str) -> set[str]:
    return {match[1] for key in state_keys(name) if (match := re.fullmatch(pattern, key))}


def test_wrn_names() -> None:
    pattern = r"(block\d\.layer\.\d)\.convShortcut\.weight"
    wide = {"block1.layer.0", "block2.layer.0", "block3.layer.0"}
    assert shortcuts("wrn40_2", pattern) == shortcuts("wrn16_2", pattern) == wide
    assert shortcuts("wrn16_1", pattern) == shortcuts("wrn40_1", pattern) == wide - {"block1.layer.0"}
    keys = state_keys("wrn10_1")
    assert {k for k in keys if k.count(".") == 1} == {
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
        "bn1.num_batches_tracked",
        "fc.weight",
        "fc.bias",
    }
    inside = {k.removeprefix("block1.layer.0.") for k in keys if k.startswith("block1.")}
    assert {k.split(".")[0] for k in inside} == {"bn1", "conv1", "bn2", "conv2"}
    assert not [k for k in keys if "conv" in k and k.endswith("bias")]


def test_resnet_names() -> None:
    keys = state_keys("resnet18")
    assert shortcuts("resnet18", r"(layer\d\.\d)\.shortcut\.0\.weight") == {
        "layer2.0",
        "layer3.0",
        "layer4.0",
    }
    assert {"conv1.weight", "bn1.running_var", "linear.weight", "linear.bias"} <= keys
    assert "layer2.0.shortcut.1.running_mean" in keys
    assert shortcuts("resnet34", r"(layer\d)\.\d\.conv2\.weight") == {f"layer{i}" for i in range(1, 5)}
    assert "layer3.5.bn2.weight" in state_keys("resnet34")
    assert {k.split(".")[2] for k in keys if k.startswith("layer2.0.")} == {
        "conv1",
        "bn1",
        "conv2",
        "bn2",
        "shortcut",
    }


def test_resnet_tiny_names() -> None:
    pattern = r"(layer\d\.\d)\.downsample\.0\.weight"
    assert shortcuts("resnet20", pattern) == {"layer2.0", "layer3.0"}
    assert shortcuts("resnet8x4", pattern) == {"layer1.0", "layer2.0", "layer3.0"}
    keys = state_keys("resnet32x4")
    assert {"conv1.weight", "bn1.bias", "layer1.0.downsample.1.running_var", "layer3.4.bn2.weight"} <= keys
    assert {"fc.weight", "fc.bias"} <= keys


def test_vgg_names() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def expected(convolutions: tuple[int, ...]) -> set[str]:
        keys = {"classifier.weight", "classifier.bias"}
        for block, count in enumerate(convolutions):
            for i in range(count):
                keys |= {f"block{block}.{3 * i}.weight", f"block{block}.{3 * i}.bias"}
                keys |= {f"block{block}.{3 * i + 1}.{part}" for part in norm}
        return keys

    assert state_keys("vgg8") == expected((1, 1, 1, 1, 1))
    assert state_keys("vgg11") == expected((1, 1, 2, 2, 2))
    assert state_keys("vgg13") == expected((2, 2, 2, 2, 2))


# ---------------------------------------------------------------- function


def conv(s: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)


def bn(s: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, gain, bias = (
        s[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias


def naive_wrn(s: dict[str, Tensor], x: Tensor) -> Tensor:
    x = conv(s, "conv1", x)
    for stage in (1, 2, 3):
        i = 0
        while f"{(p := f'block{stage}.layer.{i}')}.conv1.weight" in s:
            stride = 2 if stage > 1 and i == 0 else 1
            a = bn(s, f"{p}.bn1", x).relu()
            y = conv(s, f"{p}.conv2", bn(s, f"{p}.bn2", conv(s, f"{p}.conv1", a, stride)).relu())
            x = y + (conv(s, f"{p}.convShortcut", a, stride) if f"{p}.convShortcut.weight" in s else x)
            i += 1
    return bn(s, "bn1", x).relu().mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]


def naive_resnet(s: dict[str, Tensor], x: Tensor) -> Tensor:
    x = bn(s, "bn1", conv(s, "conv1", x)).relu()
    for stage in (1, 2, 3, 4):
        i = 0
        while f"{(p := f'layer{stage}.{i}')}.conv1.weight" in s:
            stride = 2 if stage > 1 and i == 0 else 1
            y = bn(s, f"{p}.bn1", conv(s, f"{p}.conv1", x, stride)).relu()
            y = bn(s, f"{p}.bn2", conv(s, f"{p}.conv2", y))
            for skip in (f"{p}.shortcut", f"{p}.downsample"):
                if f"{skip}.0.weight" in s:
                    x = bn(s, f"{skip}.1", conv(s, f"{skip}.0", x, stride))
            x = (x + y).relu()
            i += 1
    head = "linear" if "linear.weight" in s else "fc"
    return x.mean((2, 3)) @ s[f"{head}.weight"].T + s[f"{head}.bias"]


def naive_vgg(s: dict[str, Tensor], x: Tensor) -> Tensor:
    pools = {0, 1, 2, 3} if x.shape[-1] == 64 else {0, 1, 2}
    for block in range(5):
        for i in (0, 3):
            if f"block{block}.{i}.weight" in s:
                x = bn(s, f"block{block}.{i + 1}", conv(s, f"block{block}.{i}", x)).relu()
        if block in pools:
            n, c, h, w = x.shape
            x = x.view(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
    return x.mean((2, 3)) @ s["classifier.weight"].T + s["classifier.bias"]


@pytest.mark.parametrize(
    ("name", "size", "naive"),
    [
        ("wrn10_1", 32, naive_wrn),
        ("wrn16_2", 32, naive_wrn),
        ("wrn10_1", 8, naive_wrn),
        ("resnet18", 32, naive_resnet),
        ("resnet14", 32, naive_resnet),
        ("resnet8x4", 32, naive_resnet),
        ("resnet8", 8, naive_resnet),
        ("vgg8", 32, naive_vgg),
        ("vgg13", 32, naive_vgg),
        ("vgg8", 64, naive_vgg),
        ("vgg8", 8, naive_vgg),
    ],
)
def test_forward_equals_a_plain_one(name: str, size: int, naive: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    net = randomised(nets.build(name, 7))
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        ours, plain = net(x), naive(net.state_dict(), x)
    assert plain.std() > 0.05
    torch.testing.assert_close(ours, plain, rtol=2e-3, atol=2e-4 * float(plain.abs().max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_an_observer_keeps_is_not_overwritten(name: str) -> None:
    net = randomised(nets.build(name, 10))
    kept: list[tuple[Tensor, Tensor]] = []
    layers: dict[str, Tensor] = {}
    norm_inputs: dict[str, Tensor] = {}

    def keep(where: dict[str, Tensor], path: str, x: Tensor) -> None:
        assert path not in where, "called twice"
        where[path] = x
        kept.append((x, x.clone()))

    for path, module in net.named_modules():
        if path in net.layer_names:
            module.register_forward_hook(lambda m, i, y, path=path: keep(layers, path, y))
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda m, i, path=path: keep(norm_inputs, path, i[0]))
    with torch.no_grad():
        net(torch.randn(2, 3, 16, 16))
    assert tuple(layers) == net.layer_names
    assert all(torch.equal(now, then) for now, then in kept)
    if name.startswith("wrn"):
        assert norm_inputs["bn1"] is layers["block3"]  # the raw residual sum
    rectified = name.startswith("resnet")
    assert all((layer.min() >= 0) == rectified for layer in layers.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_one_channel_digits_of_eight_pixels_can_be_learnt(name: str) -> None:
    torch.manual_seed(0)
    net = nets.build(name, 10, channels=1, size=8)
    logits = net(torch.randn(3, 1, 8, 8))
    F.cross_entropy(logits, torch.arange(3)).backward()
    assert logits.shape == (3, 10)
    for path, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), path
        # A bias before a batch norm has no effect, hence no gradient.
        assert parameter.grad.any() or re.fullmatch(r"block\d\.\d\.bias", path), path


def test_vgg_takes_maps_smaller_than_its_pools() -> None:
    assert nets.build("vgg8", 10, 1, 4).eval()(torch.randn(2, 1, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize("name", FAMILIES)
def test_convolutions_start_at_he_fan_out(name: str) -> None:
    torch.manual_seed(0)
    net = nets.build(name, 10)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert module.bias is None or not module.bias.any()
    if name.startswith(("wrn", "vgg")):
        assert not net.get_submodule(net.head_name).bias.any()


# ---------------------------------------------------------------- registry


def test_every_listed_name_is_one_architecture() -> None:
    assert len(set(nets.names())) == len(nets.names()) >= 19
    assert set(TABLE) <= set(nets.names())
    for name in nets.names():
        assert sum(bool(re.fullmatch(a.PATTERN, name)) for a in nets._architectures()) == 1
        assert nets.has_batch_norm(on_meta(name))


def test_unknown_names_get_a_near_one() -> None:
    with pytest.raises(UserError, match=r"^unknown net 'wrn16-1'; did you mean 'wrn16_1'\? valid: .*vgg8"):
        nets.build("wrn16-1", 10)
    for name in ("resnet19", "resnet20x4", "resnet18 ", "vgg8\n", "wrn16_0", "wrn\u0661\u0666_1", ""):
        with pytest.raises(UserError, match="unknown net"):
            nets.build(name, 10)


@pytest.mark.parametrize("depth", [4, 9, 12, 17])
def test_wrn_depth_must_be_6n_plus_4(depth: int) -> None:
    with pytest.raises(UserError, match=rf"depth {depth} must be 6n \+ 4"):
        nets.build(f"wrn{depth}_1", 10)


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"channels": 0}, {"size": -1}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    key, value = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"{key} is {value}, expected 1 or more"):
        nets.build("wrn10_1", **{"classes": 10, **wrong})


def test_batch_norm_without_statistics_does_not_count() -> None:
    assert not nets.has_batch_norm(nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1)))
    assert not nets.has_batch_norm(nn.BatchNorm2d(3, track_running_stats=False))
    assert nets.count_parameters(nn.BatchNorm2d(3)) == 6


# ---------------------------------------------------------------- generators


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


# ---------------------------------------------------------------- checkpoints


def small(seed: int, classes: int = 10, channels: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return randomised(nets.build("wrn10_1", classes, channels), seed)


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return OrderedDict((f"module.{name}", value) for name, value in state.items())


def published(state: dict[str, Tensor]) -> dict[str, Any]:
    """What the official drivers save, their argparse.Namespace and optimiser included."""
    weight = nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([weight], 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    return {
        "epoch": 3,
        "arch": "wrn10_1",
        "args": argparse.Namespace(lr=0.1, tag="x"),
        "best_acc1": 94.87,
        "state_dict": state,
        "optimizer": optimiser.state_dict(),
        "scheduler": scheduler.state_dict(),
    }


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda s: s,
    "bare dict of parameters": lambda s: {
        k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()
    },
    "state_dict": lambda s: {"state_dict": s},
    "model": lambda s: {"epoch": 1, "model": s, "best_acc": torch.tensor(1.0)},
    "module.": prefixed,
    "state_dict and module.": lambda s: {"state_dict": prefixed(s)},
    "published": published,
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", " legacy.pth"])
def test_every_accepted_form_loads(form: str, suffix: str, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    path = tmp_path / f"net{suffix}"
    torch.save(FORMS[form](source.state_dict()), path, _use_new_zipfile_serialization="legacy" not in suffix)
    load_weights(net, path, 10)
    for name, value in source.state_dict().items():
        value = value.half().float() if form == "half" and value.is_floating_point() else value
        assert torch.equal(net.state_dict()[name], value), name
    assert not net.training and net.conv1.weight.dtype == torch.float32
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_foreign_safetensors_load(prefix: str, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    load_weights(net, str(tmp_path / "a.safetensors"), 10)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_saved_weights_come_back_bit_for_bit(layout: torch.memory_format, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    source.to(memory_format=layout)
    source.block1.layer[0].conv2.weight = source.block1.layer[0].conv1.weight  # shared, as tied weights are
    path = tmp_path / "a.safetensors"
    path.write_text("older")
    old_mask = os.umask(0o077)
    try:
        save_weights(source, path)
    finally:
        os.umask(old_mask)
    load_weights(net, path, 10)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_saving_is_durable_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        assert os.fstat(handle).st_size > 100_000
        calls.append("fsync")
        fsync(handle)

    def noted_replace(source: str, target: Path) -> None:
        assert Path(source).parent == target.parent
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save_weights(small(1), tmp_path / "a.safetensors")
    assert calls[:2] == ["fsync", "replace"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("older")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.safetensors: cannot write weights: No space left on device$"):
        save_weights(small(1), path)
    assert path.read_text() == "older" and os.listdir(tmp_path) == ["a.safetensors"]


def test_saving_to_a_wrong_place_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write weights: No such file or directory"):
        save_weights(small(1), tmp_path / "none" / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.pth: .* expected a name ending in \.safetensors"):
        save_weights(small(1), tmp_path / "a.pth")


def refused(path: Path, classes: int = 10, channels: int = 3) -> str:
    """The one-line message of loading `path` into a net, which must stay as it was."""
    net = small(5, classes, channels)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(net, path, classes)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "expected" in message
    assert len(message.splitlines()) == 1 and message.isprintable() and len(message) < len(str(path)) + 450
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    return message


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "is a directory" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is no regular file" in refused(tmp_path / "pipe.pth")
    assert "File name too long" in refused(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(small(1).state_dict(), path)
    path.chmod(0)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize("suffix", [".pth", " legacy.pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(small(1).state_dict(), path)
    else:
        torch.save(small(1).state_dict(), path, _use_new_zipfile_serialization="legacy" not in suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert ("is empty (0 bytes)" if kept == 0 else "not a checkpoint, or a damaged one") in refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "data", [b"<html>\nnot found</html>", b"\x00" * 500, b"\xff" * 500, b"PK\x03\x04" + b"a" * 99]
)
def test_files_of_another_kind(suffix: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert "not a checkpoint, or a damaged one" in refused(path)


def test_torchscript_is_refused_in_one_line_and_without_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "a.pth"
    torch.save(small(1).state_dict(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", b"")  # how torch tells the two apart
    assert "TorchScript" in refused(path)
    assert not recwarn.list


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.target}'",)


def bomb_bytes(how: str, content: Any) -> bytes:
    if how.startswith("pickle"):
        return pickle.dumps(content, protocol=int(how[-1]))
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=how == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle0", "pickle2", "pickle4", "pickle5"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("place", ["bare", "value", "namespace"])
def test_code_in_a_checkpoint_is_not_executed(
    how: str, suffix: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's own back door stays shut
    target, path = tmp_path / "executed", tmp_path / f"a{suffix}"
    bomb = Bomb(target)
    content = {"bare": bomb, "value": {"model": {"x": bomb}}, "namespace": argparse.Namespace(x=bomb)}[place]
    path.write_bytes(bomb_bytes(how, content))
    message = refused(path)
    assert not target.exists()
    if how in ("zip", "legacy") and suffix == ".safetensors":
        return  # the file does not start with the pickle, which is therefore not looked for
    # Protocol 0 wraps a Namespace in a call of its own, which is refused before the bomb is seen.
    wrapped = (how, place) == ("pickle0", "namespace")
    culprit = r"copy_?reg\._reconstructor" if wrapped else rf"{os.system.__module__}\.system"
    assert re.search(f"refused, as reading it would call '{culprit}'", message)


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(bomb_bytes("pickle2", Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_nothing_but_namespace_is_allowed(tmp_path: Path) -> None:
    content = published(small(1).state_dict())
    content["args"] = argparse.Namespace(where=Path("x"))
    torch.save(content, tmp_path / "a.pth")
    assert re.search(r"would call 'pathlib\.\w*Path'", refused(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(2)], "holds a list, not a dict of tensors"),
        (torch.zeros(2), "holds a Tensor, not a dict of tensors"),
        (argparse.Namespace(model={}), "holds a Namespace, not a dict of tensors"),
        ({}, "holds an empty dict, not a dict of tensors"),
        ({"state_dict": {}}, "holds an empty dict, not a dict of tensors"),
        ({"epoch": 3}, "'epoch' is a int, not a dict of tensors"),
        ({"state_dict": 3}, "'state_dict' is a int, not a dict of tensors"),
        ({"model": {"conv1.weight": [1.0]}}, "'conv1.weight' is a list, not a dict of tensors"),
        ({1: torch.zeros(2)}, "1 is a Tensor, not a dict of tensors"),
        ({"a\n\x1b[31mb" * 99: 0}, "'a\\n\\x1b[31mb"),
        ({"a\n\x1b[31mb" * 99: torch.zeros(2)}, "'a\\n\\x1b[31mb"),
    ],
)
def test_what_is_no_dict_of_tensors(content: Any, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert found in refused(tmp_path / "a.pth")


def altered(path: Path, change: Callable[[dict[str, Tensor]], object], classes: int = 10) -> Path:
    state = small(1, classes).state_dict()
    change(state)
    torch.save({"state_dict": state}, path)
    return path


def test_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        for name in ("fc.weight", "bn1.bias", "conv1.weight"):
            del state[name]
        state["head.weight"] = torch.zeros(1)

    total = len(small(1).state_dict())
    message = refused(altered(tmp_path / "a.pth", change))
    assert f"holds {total - 2} tensors" in message
    assert "3 missing ('conv1.weight', 'bn1.bias', ...) and 1 unexpected ('head.weight')" in message
    assert message.endswith(f"expected the {total} of this WideResNet")
    one = refused(altered(tmp_path / "b.pth", lambda s: s.pop("fc.bias")))
    assert one.endswith(
        f"holds {total - 1} tensors, 1 missing ('fc.bias'); expected the {total} of this WideResNet"
    )
    torch.save(nets.build("resnet8", 10).state_dict(), tmp_path / "c.pth")
    assert re.search(r"\d+ missing .* and \d+ unexpected", refused(tmp_path / "c.pth"))


def test_a_partly_prefixed_state_dict_is_not_guessed_at(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: s.update({"module.conv1.weight": s.pop("conv1.weight")}))
    assert "1 missing ('conv1.weight') and 1 unexpected ('module.conv1.weight')" in refused(path)


def test_wrong_number_of_classes(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: None, classes=100)
    assert refused(path).endswith("head 'fc.weight' has 100 outputs, expected 10 (classes)")


def test_wrong_number_of_image_channels(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: None)
    assert refused(path, channels=1).endswith("first convolution 'conv1' has 3 input channels, expected 1")


def test_wrong_shapes(tmp_path: Path) -> None:
    torch.save(nets.build("wrn10_2", 10).state_dict(), tmp_path / "wide.pth")
    assert "1 unexpected ('block1.layer.0.convShortcut.weight')" in refused(tmp_path / "wide.pth")
    path = altered(
        tmp_path / "a.pth", lambda s: s.update({"bn1.bias": torch.zeros(3), "fc.bias": torch.zeros(1)})
    )
    total = len(small(1).state_dict())
    assert refused(path).endswith(
        f"2 of {total} tensors have a wrong shape, first 'bn1.bias' is (3,), expected (64,)"
    )
    scalar = altered(tmp_path / "b.pth", lambda s: s.update({"fc.weight": torch.tensor(1.0)}))
    assert "'fc.weight' has 0 outputs" in refused(scalar)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value: float, tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        state["block2.layer.0.bn1.running_var"][3] = value
        state["fc.bias"][0] = value

    path = altered(tmp_path / "a.pth", change)
    assert "'block2.layer.0.bn1.running_var' has values that are not finite" in refused(path)


@pytest.mark.parametrize(
    "convert",
    [
        lambda w: w.to(torch.int8),
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
        lambda w: w.to(torch.complex64),
    ],
)
def test_tensors_of_another_kind(convert: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: s.update({"fc.weight": convert(s["fc.weight"])}))
    assert "'fc.weight' is torch." in refused(path) and "expected a plain torch.float32 tensor" in refused(
        path
    )
