"""Observe a network: one forward pass gives everything that loss terms may read from it.

Networks are plain modules that return logits. Everything else is read through hooks, which exist only during the call.
A network names its layers in `layer_names` (paths of the modules whose outputs are the layers) and its classifier in
`head_name` (the module whose input is the feature). `rgal.nets.discover` finds both in networks that name neither, and
sets () and "" for what a network does not have. Tokens count as maps that are T pixels high and one wide; maps that are
(N,H,W,C) are turned round where the network names them in `channels_last_layers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rgal.core.batch_statistics import StatisticsOfLayers, foldable, image_statistics, scales_and_shifts

WHAT = frozenset({"logits", "feature", "layers", "layer_inputs", "bn", "bn_pooled", "bn_images"})


@dataclass
class BatchNormStatistics:
    """Hold the statistics of one batch norm layer's *input* beside the layer's running statistics.

    In `Observation.bn`, mean and biased variance are taken over the batch: all four tensors are (C,).
    In `Observation.bn_images`, mean and unbiased variance are those of each image: `mean` and `var` are (N,C).
    """

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


@dataclass
class Observation:
    """Hold what was read during one forward pass; what was not asked for is empty.

    Args:
        logits: (N, classes).
        feature: the input of the classifier, (N, D); if the classifier is a convolution, its input's spatial mean.
        layers: the outputs of the network's layers, each (N, C_l, H_l, W_l); of tokens (N, D, T, 1).
        bn: batch statistics, one entry per layer of `batch_norms`.
        bn_pooled: the spatial means of all batch norm inputs, concatenated, (N, sum of C_l): CMI's instance feature.
        bn_images: statistics of single images, one entry per layer of `batch_norms`.
        layer_inputs: the spatial means of the inputs of the network's layers, concatenated, (N, sum of C_l).
    """

    logits: Tensor
    feature: Tensor | None = None
    layers: list[Tensor] = field(default_factory=list)
    bn: list[BatchNormStatistics] = field(default_factory=list)
    bn_pooled: Tensor | None = None
    bn_images: list[BatchNormStatistics] = field(default_factory=list)
    layer_inputs: Tensor | None = None

    @property
    def required_feature(self) -> Tensor:
        """Return the feature (N, D). Raises ValueError if it was not observed."""
        return _required(self.feature, "feature")

    def detached(self) -> Observation:
        """Return the same logits, feature and layers as constants. Statistics stay as they are."""
        feature = None if self.feature is None else self.feature.detach()
        layers = [layer.detach() for layer in self.layers]
        return replace(self, logits=self.logits.detach(), feature=feature, layers=layers)

    def required(self, what: Literal["bn_pooled", "layer_inputs"]) -> Tensor:
        """Return one of the pooled inputs (N, sum of C_l). Raises ValueError if it was not observed."""
        return _required(getattr(self, what), what)


def _required(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(
            f"'{name}' was not observed: the network has none, or observe() was not asked for it"
        )
    return value


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """List the layers that hold running statistics of the channels of maps, in definition order.

    These are BatchNorm2d and its subclasses, and frozen batch norms: plain modules with the same buffers, such as
    torchvision's FrozenBatchNorm2d and timm's FrozenBatchNormAct2d.
    """
    return [m for m in net.modules() if _has_statistics(m)]


def _has_statistics(module: nn.Module) -> bool:
    frozen = type(module).__name__.startswith("FrozenBatchNorm") and "running_var" in module._buffers
    return (isinstance(module, nn.BatchNorm2d) or frozen) and module.running_mean is not None


def channels_of(norm: nn.Module) -> int:
    """Return the number of channels of one of the layers that `batch_norms` lists."""
    return norm.get_buffer("running_mean").numel()


def shows_everything(net: nn.Module) -> bool:
    """Tell whether the layers, the feature and batch norm statistics of a network can all be observed."""
    return bool(net.layer_names and net.head_name and batch_norms(net))


def observe(net: nn.Module, images: Tensor, what: Iterable[str] = ("logits",)) -> Observation:
    """Forward images through a network once and return what was asked for.

    Hooks are removed before this returns, also after an error. Where batch norm statistics are asked for, frozen layers
    compute them together with their output (`rgal.core.batch_statistics`).

    Args:
        net: a network that returns logits.
        images: normalised images (N,C,H,W).
        what: what to read beside the logits: names out of `WHAT`.

    Raises:
        ValueError: a name is not in `WHAT`.
    """
    wanted = frozenset(what)
    if unknown := wanted - WHAT:
        raise ValueError(f"cannot observe {sorted(unknown)}; valid: {sorted(WHAT)}")
    observation = Observation(logits=images)
    pooled: list[Tensor] = []
    entering: list[Tensor] = []
    handles: list[RemovableHandle] = []
    statistics = _Statistics()
    try:
        if "layers" in wanted:
            last = getattr(net, "channels_last_layers", ())
            handles += [
                layer.register_forward_hook(_keep_output(observation, name in last))
                for name, layer in zip(net.layer_names, _layers(net), strict=True)  # type: ignore[arg-type]
            ]
        if "layer_inputs" in wanted:
            handles += [layer.register_forward_pre_hook(_keep_mean(entering)) for layer in _layers(net)]
        if "feature" in wanted:
            head = net.get_submodule(net.head_name)  # type: ignore[arg-type]
            handles.append(head.register_forward_pre_hook(_keep_feature(observation)))
        if wanted & {"bn_pooled", "bn_images"}:
            hook = _keep_statistics_of_images(observation, pooled, wanted)
            handles += [norm.register_forward_pre_hook(hook) for norm in batch_norms(net)]
        statistics.watch(net, "bn" in wanted)
        observation.logits = net(images)
    finally:
        for handle in handles:
            handle.remove()
        statistics.leave()
    observation.bn = statistics.read()
    observation.bn_pooled = torch.cat(pooled, dim=1) if pooled else None
    observation.layer_inputs = torch.cat(entering, dim=1) if entering else None
    return observation


def _layers(net: nn.Module) -> list[nn.Module]:
    return [net.get_submodule(name) for name in net.layer_names]  # type: ignore[union-attr]


def _keep_output(observation: Observation, channels_last: bool):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        observation.layers.append(as_maps(output, channels_last))

    return hook


def as_maps(layer: Tensor, channels_last: bool = False) -> Tensor:
    """Return a layer as maps (N,C,H,W): tokens (N,T,D) become (N,D,T,1), maps (N,H,W,C) are turned round.

    >>> as_maps(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 3, 5, 1])
    """
    if layer.ndim == 3:
        return layer.transpose(1, 2).unsqueeze(3)
    return layer.permute(0, 3, 1, 2) if channels_last else layer


def _keep_mean(means: list[Tensor]):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        means.append(inputs[0].mean((2, 3)).float())

    return hook


def _keep_feature(observation: Observation):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        observation.feature = x.mean((2, 3)) if x.ndim == 4 else x

    return hook


def _keep_statistics_of_images(observation: Observation, pooled: list[Tensor], wanted: frozenset[str]):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if "bn_images" in wanted:
            running = module.get_buffer("running_mean"), module.get_buffer("running_var")
            observation.bn_images.append(BatchNormStatistics(*image_statistics(x), *running))
        if "bn_pooled" in wanted:
            pooled.append(x.mean((2, 3)).float())

    return hook


class _Statistics:
    """Stand in for plain frozen batch norms during one forward pass, and take the statistics of all batch norms.

    Such a layer computes scale * x + shift, in one operation that gives the bits of torch's kernel, which takes several
    times as long, as does its gradient. What the statistics add to the gradient is computed together with it.
    """

    def __init__(self) -> None:
        self.layers = StatisticsOfLayers()
        self.seen: list[nn.Module] = []
        self.handles: list[RemovableHandle] = []
        self.replaced: list[nn.Module] = []

    def watch(self, net: nn.Module, wanted: bool) -> None:
        """Stand in for layers of a network until `leave`; `wanted`: whether their statistics are asked for."""
        norms = batch_norms(net)
        plain = [norm for norm in norms if foldable(norm) and "forward" not in vars(norm)]
        for norm, constants in zip(plain, scales_and_shifts(plain), strict=True):  # type: ignore[arg-type]
            norm.forward = partial(self._forward, norm, constants, wanted)  # type: ignore[method-assign, arg-type]
            self.replaced.append(norm)
        if wanted:
            others = set(norms) - set(plain)
            self.handles += [norm.register_forward_pre_hook(self._hook) for norm in norms if norm in others]

    def leave(self) -> None:
        """Leave the network as it was."""
        for handle in self.handles:
            handle.remove()
        for norm in self.replaced:
            del norm.forward

    def read(self) -> list[BatchNormStatistics]:
        """Return what was seen, in the order in which the layers were called."""
        if not self.seen:
            return []
        return [
            BatchNormStatistics(mean, var, norm.get_buffer("running_mean"), norm.get_buffer("running_var"))
            for (mean, var), norm in zip(self.layers.moments(), self.seen, strict=True)
        ]

    def _forward(
        self, norm: nn.BatchNorm2d, constants: tuple[Tensor, Tensor], wanted: bool, x: Tensor
    ) -> Tensor:
        scale, shift = constants
        same = x.dtype == scale.dtype  # not under autocast
        if wanted:
            self.seen.append(norm)
            if same:
                return self.layers.normalised(x, scale, shift)
            self.layers.of(x)
        return torch.addcmul(shift, x, scale) if same else nn.BatchNorm2d.forward(norm, x)

    def _hook(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen.append(module)
        self.layers.of(inputs[0])
