"""One forward pass of a network -> everything a loss term may want to see of it.

Nets are plain modules that return logits. What else is needed is read through hooks that exist only during
the call: nothing stays on the net. A net names its layers in `layer_names` (module paths whose outputs are
the layers) and its classifier in `head_name` (the module whose input is the feature). Of nets that do not, both are
found (`rgal.nets.discover`); what is not there is () and "".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

WHAT = frozenset({"logits", "feature", "layers", "bn", "bn_pooled", "bn_images"})


@dataclass
class BatchNormStatistics:
    """Batch statistics of one BatchNorm2d's *input* beside its running statistics, each (C,).

    As `bn_images`, mean and unbiased var are those of single images, (N,C).
    """

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


@dataclass
class Observation:
    """What was asked for of one forward pass; the rest is empty.

    logits (N, classes). feature (N, D); of a classifier that is a convolution, the spatial mean of its input. layers:
    list of (N, C_l, H_l, W_l). bn: one entry a layer of `batch_norms`.
    bn_pooled (N, sum of C_l): the spatial mean of every BatchNorm2d input, concatenated (CMI's instance feature).
    bn_images: like bn, a row of statistics an image.
    """

    logits: Tensor
    feature: Tensor | None = None
    layers: list[Tensor] = field(default_factory=list)
    bn: list[BatchNormStatistics] = field(default_factory=list)
    bn_pooled: Tensor | None = None
    bn_images: list[BatchNormStatistics] = field(default_factory=list)


class _ChannelStatistics(torch.autograd.Function):
    """Mean and biased variance a channel, (N,C,H,W) -> (C,), (C,).

    The same numbers as var_mean(correction=0), several times faster on CPU: the forward pass uses the batch
    norm kernel, the backward pass is a single multiply-add over the input.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> tuple[Tensor, Tensor]:
        # Beside float32 running statistics (momentum 0: scratch) the kernel returns those of a bf16 batch in float32.
        low = x.dtype in (torch.bfloat16, torch.float16)
        scratch = x.new_zeros(x.shape[1], dtype=torch.float32) if low else None
        mean, var = torch.batch_norm_update_stats(
            x, scratch, None if scratch is None else scratch.clone(), 0.0
        )
        ctx.save_for_backward(x, mean)
        return mean.float(), var.float()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:  # type: ignore[override]
        x, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_mean, grad_var = grads
        count = x.numel() // x.shape[1]
        scale = grad_var * (2.0 / count)
        shift = grad_mean / count - scale * mean.float()
        scale, shift = (v.to(x.dtype).view(1, -1, 1, 1) for v in (scale, shift))
        return torch.addcmul(shift, x, scale)


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of (N,C,H,W) in float32: two (C,) tensors."""
    mean, var = _ChannelStatistics.apply(x)
    return mean, var


def image_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance (0 for 1x1 maps) of every image's channels, (N,C,H,W), in float32: two (N,C)."""
    values = x.float().flatten(2)
    mean = values.mean(2)
    deviation = (values - mean[..., None]).square().sum(2)
    return mean, deviation / max(1, values.shape[2] - 1)


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """The layers with running statistics of the channels of maps, in definition order.

    BatchNorm2d and what is derived from it; and frozen ones, plain modules with the same buffers (torchvision's
    FrozenBatchNorm2d, timm's FrozenBatchNormAct2d), as what they know of the data is the same.
    """
    return [m for m in net.modules() if _knows_statistics(m)]


def _knows_statistics(module: nn.Module) -> bool:
    frozen = type(module).__name__.startswith("FrozenBatchNorm") and "running_var" in module._buffers
    return (isinstance(module, nn.BatchNorm2d) or frozen) and module.running_mean is not None


def channels_of(norm: nn.Module) -> int:
    """Of one of `batch_norms`."""
    return norm.get_buffer("running_mean").numel()


def shows_everything(net: nn.Module) -> bool:
    """Whether layers, feature and batch norm statistics can all be observed."""
    return bool(net.layer_names and net.head_name and batch_norms(net))


def observe(net: nn.Module, images: Tensor, what: Iterable[str] = ("logits",)) -> Observation:
    """Forward `images` (N,C,H,W, normalised) once and return what was asked for.

    what: names out of `WHAT`. Hooks are removed before this returns, also after an error.
    """
    wanted = frozenset(what)
    if unknown := wanted - WHAT:
        raise ValueError(f"cannot observe {sorted(unknown)}; valid: {sorted(WHAT)}")
    seen = Observation(logits=images)
    pooled: list[Tensor] = []
    handles: list[RemovableHandle] = []
    try:
        if "layers" in wanted:
            for name in net.layer_names:  # type: ignore[union-attr]
                handles.append(net.get_submodule(name).register_forward_hook(_keep_output(seen)))  # type: ignore[arg-type]
        if "feature" in wanted:
            head = net.get_submodule(net.head_name)  # type: ignore[arg-type]
            handles.append(head.register_forward_pre_hook(_keep_feature(seen)))
        if wanted & {"bn", "bn_pooled", "bn_images"}:
            for layer in batch_norms(net):
                hook = _keep_statistics(seen, pooled, wanted)
                handles.append(layer.register_forward_pre_hook(hook))
        seen.logits = net(images)
    finally:
        for handle in handles:
            handle.remove()
    if pooled:
        seen.bn_pooled = torch.cat(pooled, dim=1)
    return seen


def _keep_output(seen: Observation):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.layers.append(output)

    return hook


def _keep_feature(seen: Observation):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        seen.feature = x.mean((2, 3)) if x.ndim == 4 else x

    return hook


def _keep_statistics(seen: Observation, pooled: list[Tensor], wanted: frozenset[str]):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        running = module.get_buffer("running_mean"), module.get_buffer("running_var")
        if "bn" in wanted:
            seen.bn.append(BatchNormStatistics(*channel_statistics(x), *running))
        if "bn_images" in wanted:
            seen.bn_images.append(BatchNormStatistics(*image_statistics(x), *running))
        if "bn_pooled" in wanted:
            pooled.append(x.mean((2, 3)).float())

    return hook
