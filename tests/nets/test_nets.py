"""Architectures: layouts against published tables, functions against plain ones, the registry of names."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.observe import batch_norms
from tests.helpers.net_builders import bn, conv, on_meta, randomised, state_keys

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
    "resnet20a": (269_722, 275_572, 116, 19, 688, "16@32,32@16,64@8", 64),
    "resnet32": (466_906, 472_756, 200, 33, 1232, "16@32,32@16,64@8", 64),
    "resnet56": (855_770, 861_620, 344, 57, 2128, "16@32,32@16,64@8", 64),
    "resnet8x4": (1_210_410, 1_233_540, 62, 10, 1376, "64@32,128@16,256@8", 256),
    "resnet32x4": (7_410_730, 7_433_860, 206, 34, 4960, "64@32,128@16,256@8", 256),
}
FAMILIES = ("wrn10_1", "resnet18", "resnet8", "vgg8")


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


def test_padded_resnets_have_no_shortcut_weights() -> None:
    keys = state_keys("resnet20a")
    assert not [key for key in keys if "shortcut" in key]
    assert {"conv1.weight", "layer3.2.bn2.running_var", "linear.weight", "linear.bias"} <= keys


def test_a_padded_shortcut_is_every_second_pixel_between_zero_channels() -> None:
    net = nets.build("resnet20a", 10).eval()
    x = torch.randn(2, 16, 5, 7)
    padded = net.get_submodule("layer2.0.shortcut")(x)
    assert padded.shape == (2, 32, 3, 4)
    for channel in range(32):
        naive = x[:, channel - 8, 0::2, 0::2] if 8 <= channel < 24 else torch.zeros(2, 3, 4)
        assert torch.equal(padded[:, channel], naive)


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


def naive_wrn(s: dict[str, Tensor], x: Tensor) -> Tensor:
    x = conv(s, "conv1", x)
    for transfer in (1, 2, 3):
        i = 0
        while f"{(p := f'block{transfer}.layer.{i}')}.conv1.weight" in s:
            stride = 2 if transfer > 1 and i == 0 else 1
            a = bn(s, f"{p}.bn1", x).relu()
            y = conv(s, f"{p}.conv2", bn(s, f"{p}.bn2", conv(s, f"{p}.conv1", a, stride)).relu())
            x = y + (conv(s, f"{p}.convShortcut", a, stride) if f"{p}.convShortcut.weight" in s else x)
            i += 1
    return bn(s, "bn1", x).relu().mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]


def naive_resnet(s: dict[str, Tensor], x: Tensor) -> Tensor:
    x = bn(s, "bn1", conv(s, "conv1", x)).relu()
    for transfer in (1, 2, 3, 4):
        i = 0
        while f"{(p := f'layer{transfer}.{i}')}.conv1.weight" in s:
            stride = 2 if transfer > 1 and i == 0 else 1
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


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_wide_resnets_start_as_torch_has_them(name: str) -> None:
    """As in DAFL's and CMI's code: convolutions of uniform weights between -1 and 1 over the root of their fan in."""
    torch.manual_seed(0)
    for module in nets.build(name, 10).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            bound = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["wrn10_1", "resnet8", "resnet8x4", "vgg8"])
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
        assert bool(batch_norms(on_meta(name))) == (name != "lenet5")


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
    assert not batch_norms(nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1)))
    assert not batch_norms(nn.BatchNorm2d(3, track_running_stats=False))
    assert nets.count_parameters(nn.BatchNorm2d(3)) == 6
