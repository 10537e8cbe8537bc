"""Networks from torchvision, timm and users' own code: what is found in them, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.observe import WHAT, batch_norms, channels_of, observe
from rgal.nets import foreign
from rgal.nets.describe import found_in
from rgal.nets.discover import find_parts
from rgal.tasks.class_incremental.head import growing_head
from rgal.terms.negatives import BANDS, sample_negatives
from rgal.terms.relation import triplet
from tests.helpers import foreign_builders as build
from tests.helpers import small

# name: head, layers at 32 pixels, width of the feature, batch norms.
FOUND = {
    "torchvision:resnet18": ("fc", "layer1 layer2 layer3 layer4", 512, 20),
    "torchvision:mobilenet_v2": ("classifier.1", "features.3 features.6 features.13 features", 1280, 52),
    "torchvision:squeezenet1_1": ("classifier.1", "features.1 features.4 features.7 features", 512, 0),
    "torchvision:shufflenet_v2_x0_5": ("fc", "conv1 stage2 stage3 conv5", 1024, 56),
}
CASES = [(name, channels, size) for name in FOUND for channels, size in ((3, 32), (1, 64))]


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def found(net: nn.Module, size: tuple[int, int] = (32, 32)) -> nn.Module:
    return find_parts(net, "mine", 4, (3, *size))


# What is found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels", "size"), CASES)
def test_names_of_torchvision_nets(name: str, channels: int, size: int) -> None:
    """The feature gives the logits when it goes through the head; layers get smaller; nothing stays on the net."""
    torch.manual_seed(0)
    net = nets.build(name, 7, channels, size)
    head_name, layers, width, norms = FOUND[name]
    assert (net.head_name, net.layer_names) == (head_name, tuple(layers.split()))
    assert net.training and hooks(net) == 0
    observed = observe(net.eval(), small.randn(2, channels, size, size), WHAT if norms else WHAT - {"bn"})
    assert hooks(net) == 0
    assert observed.feature is not None and observed.feature.shape == (2, width)
    head = net.get_submodule(net.head_name)
    if isinstance(head, nn.Linear):
        torch.testing.assert_close(F.linear(observed.feature, head.weight, head.bias), observed.logits)
    elif size == 32:  # one position, of which the mean is the value itself
        logits = F.linear(observed.feature, head.weight.flatten(1), head.bias).relu()
        torch.testing.assert_close(logits, observed.logits)
    sizes = [layer.shape[2] for layer in observed.layers]
    assert len(sizes) == 4 and sizes == sorted(set(sizes), reverse=True) and sizes[0] <= size // 2
    assert len(batch_norms(net)) == norms == len(observed.bn)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vgg11", "vgg16_bn", "densenet121", "efficientnet_b0", "googlenet", "resnet50"]
)
def test_names_of_larger_torchvision_nets(name: str) -> None:
    net = nets.build(f"torchvision:{name}", 7, 3, 32).eval()
    observed = observe(net, small.randn(2, 3, 32, 32), ("logits", "feature", "layers"))
    head = net.get_submodule(net.head_name)
    torch.testing.assert_close(F.linear(observed.feature, head.weight, head.bias), observed.logits)
    assert [layer.shape[2] for layer in observed.layers] == [8, 4, 2, 1]


def test_finding_changes_nothing() -> None:
    """Not the weights, the statistics, the mode or the caller's random numbers."""
    for training in (True, False):
        net = build.Net().train(training)
        before, stream = small.snapshot(net), torch.get_rng_state()
        assert found(net) is net and net.training == training
        small.assert_same(small.snapshot(net), before)
        assert torch.equal(torch.get_rng_state(), stream)


def test_a_module_that_is_called_twice_is_no_layer() -> None:
    net = found(build.Net())
    assert net.layer_names == ("conv1", "norm") and net.head_name == "fc"


@pytest.mark.parametrize("kind", [build.Net, build.Aside])
def test_of_equally_wide_layers_the_head_is_the_one_that_gives_the_logits(kind: type[nn.Module]) -> None:
    net = found(kind().eval())
    assert net.head_name == ("fc" if kind is build.Net else "first")
    observed = observe(net, small.randn(2, 3, 32, 32), ("feature",))
    torch.testing.assert_close(net.get_submodule(net.head_name)(observed.feature), observed.logits)


def test_layers_deep_inside_are_found() -> None:
    net = found(build.Wrapped())
    assert net.layer_names == ("model.body.0", "model.body") and net.head_name == "model.head"


@pytest.mark.parametrize("last", [False, True])
def test_tokens_and_channels_last_maps_are_layers(last: bool) -> None:
    """They are turned to maps, whose means over positions are the tokens'."""
    net = found(build.Tokens(last=last).eval())
    assert net.layer_names == ("mix",) and net.head_name == "head"
    assert net.channels_last_layers == (("mix",) if last else ())
    images = small.randn(2, 3, 32, 32)
    (layer,) = observe(net, images, ("layers",)).layers
    assert layer.shape == ((2, 12, 8, 8) if last else (2, 12, 64, 1))
    pooled = net.mix(net.embed(images).permute(0, 2, 3, 1)).mean((1, 2))
    torch.testing.assert_close(layer.mean((2, 3)), pooled)


@pytest.mark.parametrize(("depth", "indices"), [(8, (1, 3, 5, 7)), (12, (2, 5, 8, 11)), (3, (0, 1, 2))])
def test_layers_of_a_transformer_are_its_blocks_at_equal_distances(
    depth: int, indices: tuple[int, ...]
) -> None:
    net = found(build.Blocks(depth).eval())
    assert net.layer_names == tuple(f"blocks.{i}" for i in indices) and net.head_name == "head"
    layers = observe(net, small.randn(2, 3, 32, 32), ("layers",)).layers
    assert [layer.shape for layer in layers] == [(2, 12, 65, 1)] * len(indices)


def test_rgal_runs_on_tokens() -> None:
    """Spread and gather have gradients, and channels of tokens are distilled."""
    pytest.importorskip("timm")
    net = nets.build("timm:vit_tiny_patch16_224", 4, 3, 32).eval()
    assert net.layer_names == ("blocks.2", "blocks.5", "blocks.8", "blocks.11")
    images = small.randn(4, 3, 32, 32).requires_grad_()
    observed = observe(net, images, ("layers", "logits"))
    labels = torch.tensor([0, 0, 1, 1])
    embeddings = [layer.mean((2, 3)) for layer in observed.layers[2:4]]
    negatives = sample_negatives(observed.logits.detach(), labels, BANDS["uniform"], small.rng())
    triplet(embeddings, negatives, "spread", 2.0).backward()
    assert images.grad.abs().sum() > 0


def test_windows_of_a_swin_transformer_are_stages() -> None:
    net = nets.build("torchvision:swin_t", 4, 3, 64).eval()
    assert (
        net.layer_names == net.channels_last_layers == ("features.1", "features.3", "features.5", "features")
    )
    layers = observe(net, small.randn(1, 3, 64, 64), ("layers",)).layers
    assert [layer.shape[1:] for layer in layers] == [(96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2)]


def test_what_was_found_is_said() -> None:
    assert str(found_in(nets.build("resnet8", 4))) == (
        "layers layer1, layer2, layer3; head fc; 9 of 9 norms matched"
    )
    assert str(found_in(found(build.Blocks(2)))).endswith("head head; 0 of 3 norms matched")


@pytest.mark.parametrize("factory", ["four", "other_name", "lazy"])
def test_factories_of_all_kinds_are_called(
    factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"nets_{factory}.py").write_text(build.FACTORY)
    monkeypatch.chdir(tmp_path)
    net = nets.build(f"nets_{factory}:{factory}", 4, 3, 32)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 4) and net.training


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("four", r"returns \(2, 4\) .*expected logits \(2, 7\)"),
        ("width", "expected a parameter num_classes, and defaults for all others; 'width' has none"),
        ("script", "is a TopLevelTracedModule, expected a torch.nn.Module"),
        ("program", "is a ExportedProgram, expected a torch.nn.Module"),
        ("program_module", "cannot be put into training and evaluation mode.*expected the module itself"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_factories_that_cannot_be_used(
    factory: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"odd_{factory}.py").write_text(build.FACTORY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as refusal:
        nets.build(f"odd_{factory}:{factory}", 7, 3, 32)
    assert len(str(refusal.value).splitlines()) == 1


def test_images_need_not_be_square() -> None:
    net = found(build.Net(), (24, 40))
    assert net.layer_names == ("conv1", "norm")
    assert found(build.Tokens(last=True), (24, 40)).channels_last_layers == ("mix",)


def test_without_a_layer_that_gives_the_logits_there_is_no_head() -> None:
    net = found(build.LogProbabilities())
    assert net.head_name == "" and net.layer_names == ("conv1", "norm")
    with pytest.raises(UserError, match="LogProbabilities has no linear classifier"):
        growing_head(net)


def test_what_a_net_names_itself_is_kept() -> None:
    net = found(build.Named())
    assert net.layer_names == ("conv1",) and net.head_name == "first"


def test_the_feature_of_a_convolution_is_its_inputs_mean() -> None:
    net = nn.Sequential(build.stage(3, 6), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    observed = observe(found(net.eval()), small.randn(2, 3, 8, 8), ("feature", "layers"))
    assert net.head_name == "1" and net.layer_names == ("0",)
    naive = torch.stack([torch.stack([channel.mean() for channel in maps]) for maps in observed.layers[0]])
    torch.testing.assert_close(observed.feature, naive)
    torch.testing.assert_close(F.linear(naive, net[1].weight.flatten(1), net[1].bias), observed.logits)


REFUSED = {
    "a pair": (build.Pair(), r"returns a tuple for images \(2, 3, 32, 32\), expected logits \(2, 4\)"),
    "a pair in training": (build.PairInTraining(), "returns a tuple .* in training mode, expected logits"),
    "probabilities": (build.Probabilities(), "returns probabilities, as of a softmax at its end"),
    "labels": (build.Labels(), "returns torch.int64 values, expected logits"),
    "words": (build.Words(), "takes integers, expected a network of normalised float images"),
    "other classes": (build.Net(7), r"returns \(2, 7\) for images"),
    "other channels": (build.Net(4, 1), "cannot take images of 3x32x32"),
    "other size": (
        build.FixedSize(),
        "ValueError: 16 pixels only .*it takes 16x16: give --set image_size=16",
    ),
    "views": (
        build.Viewing(),
        r"needs contiguous maps: .*foreign_builders.py, line \d+.*write .flatten\(1\)",
    ),
    "a wrong name": (build.MisNamed(), "names a module 'conv9' that it does not have"),
    "nothing to train": (build.NoParameters(), "has no parameters"),
    "a group's batch norm": (nn.SyncBatchNorm.convert_sync_batchnorm(build.Net()), "'norm' is SyncBatchNorm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case: str) -> None:
    net, expected = REFUSED[case]
    with pytest.raises(UserError, match=f"^net 'mine': .*{expected}") as refusal:
        found(net)
    assert len(str(refusal.value).splitlines()) == 1 and hooks(net) == 0


# Batch norms ----------------------------------------------------------------------------------------------------


def test_frozen_batch_norms_know_their_statistics() -> None:
    """torchvision's are no BatchNorm2d, and are counted: the same statistics as of a BatchNorm2d with their buffers."""
    frozen, plain = torchvision.ops.FrozenBatchNorm2d(3), nn.BatchNorm2d(3).eval()
    frozen.running_mean.copy_(torch.tensor([1.0, 2, 3]))
    plain.running_mean.copy_(frozen.running_mean)
    x = small.randn(4, 3, 5, 5)
    assert batch_norms(nn.Sequential(frozen)) == [frozen] and channels_of(frozen) == 3
    ours, theirs = (observe(nn.Sequential(m), x, ("bn", "bn_images", "bn_pooled")) for m in (frozen, plain))
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.bn_pooled, theirs.bn_pooled)
    for kind in ("bn", "bn_images"):
        (a,), (b,) = getattr(ours, kind), getattr(theirs, kind)
        assert all(
            torch.equal(getattr(a, f), getattr(b, f)) for f in ("mean", "var", "running_mean", "running_var")
        )


def test_other_normalisations_do_not() -> None:
    others = [nn.BatchNorm1d(3), nn.InstanceNorm2d(3, track_running_stats=True), nn.GroupNorm(1, 3)]
    assert not batch_norms(nn.Sequential(*others, nn.BatchNorm2d(3, track_running_stats=False)))


# Channels -------------------------------------------------------------------------------------------------------


def test_a_first_convolution_for_colour_is_made_for_other_channels() -> None:
    """With the net's own initialisation: the same columns of the same weights."""
    for channels in (1, 2, 5):
        net, twin = (torchvision.models.squeezenet1_1(weights=None) for _ in range(2))
        twin.load_state_dict(net.state_dict())
        foreign._adapt_channels(net, channels)
        new, old = net.features[0], twin.features[0]
        assert new.in_channels == channels and new.stride == old.stride and new.padding == old.padding
        for i in range(channels):
            assert torch.equal(new.weight[:, i], old.weight[:, i % 3])
        assert torch.equal(new.bias, old.bias)
        assert set(net.state_dict()) == set(twin.state_dict())
