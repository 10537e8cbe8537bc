"""Statistics of the channels of maps, with gradients that cost one pass over each map.

A batch norm layer in evaluation mode scales and shifts each channel. Where its input's statistics are wanted too,
`StatisticsOfLayers.normalised` computes both in one node: the gradient of the input is then a single sum over what
comes from the output and from the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

Moments = tuple[Tensor, Tensor]


class _Raw(torch.autograd.Function):
    """Compute mean and biased variance of each channel of (N,C,H,W); *incoming* gradients are (shift, scale).

    The gradient of the input is shift + scale * input. `_Moments` makes shift and scale from the gradients of mean and
    variance, for all layers of a network at once; nothing else may follow.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Moments:
        ctx.save_for_backward(x)
        return _moments(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, shift: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.addcmul(_of_channels(shift, x), x, _of_channels(scale, x))


class _RawWithOutput(torch.autograd.Function):
    """Compute y = a x + b, with a and b (1,C,1,1) constant, and what `_Raw` computes of x."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, a)
        return torch.addcmul(b, x, a), *_moments(x)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: FunctionCtx, grad: Tensor, shift: Tensor, scale: Tensor
    ) -> tuple[Tensor, None, None]:
        x, a = ctx.saved_tensors  # type: ignore[attr-defined]
        inner = torch.addcmul(_of_channels(shift, x), x, _of_channels(scale, x))
        return inner.addcmul_(grad, a), None, None


class _Moments(torch.autograd.Function):
    """Hand means and variances of L layers through; turn their gradients into what `_Raw` expects.

    For `count` values a channel, d mean/dx = 1/count and d var/dx = 2 (x - mean)/count.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, counts: Sequence[int], *moments: Tensor) -> tuple[Tensor, ...]:
        ctx.counts = counts  # type: ignore[attr-defined]
        means = moments[: len(counts)]
        ctx.save_for_backward(*means)
        return tuple(value.clone() for value in moments)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means, counts = ctx.saved_tensors, ctx.counts  # type: ignore[attr-defined]
        shift = torch._foreach_mul(grads[: len(counts)], [1 / count for count in counts])
        scale = torch._foreach_mul(grads[len(counts) :], [2 / count for count in counts])
        torch._foreach_addcmul_(shift, scale, means, -1.0)
        return None, *shift, *scale


def _moments(x: Tensor) -> Moments:
    """Return mean and biased variance of each channel by the batch norm kernel, in float32 or better."""
    # Given float32 running statistics, here a scratch that momentum 0 leaves alone, the kernel computes the
    # statistics of a bf16 batch in float32.
    low = x.dtype in (torch.bfloat16, torch.float16)
    scratch = x.new_zeros(x.shape[1], dtype=torch.float32) if low else None
    mean, var = torch.batch_norm_update_stats(x, scratch, None if scratch is None else scratch.clone(), 0.0)
    return mean, var


def _of_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.dtype).view(1, -1, 1, 1)


class StatisticsOfLayers:
    """Collect the statistics of a network's layers during a forward pass, to be read after it.

    >>> layers = StatisticsOfLayers()
    >>> layers.of(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    >>> [(mean.tolist(), var.tolist()) for mean, var in layers.moments()]
    [([2.0], [1.0])]
    """

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._raw: list[Moments] = []

    def of(self, x: Tensor) -> None:
        """Take the statistics of a map (N,C,H,W)."""
        self._keep(x, _Raw.apply(x))

    def normalised(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Take the statistics of a map x (N,C,H,W), and return scale * x + shift, with constants (1,C,1,1)."""
        y, *raw = _RawWithOutput.apply(x, scale, shift)
        self._keep(x, raw)
        return y

    def _keep(self, x: Tensor, raw: Sequence[Tensor]) -> None:
        self._counts.append(x.numel() // max(1, x.shape[1]))
        self._raw.append((raw[0], raw[1]))

    def moments(self) -> list[Moments]:
        """Return mean and biased variance of each layer taken, in order and in float32 or better: (C,) tensors."""
        means, variances = zip(*self._raw, strict=True)
        moments = _Moments.apply(tuple(self._counts), *means, *variances)
        return list(zip(moments[: len(means)], moments[len(means) :], strict=True))


def foldable(norm: nn.Module) -> bool:
    """Tell whether a layer scales and shifts each channel by constants: a plain, frozen one in evaluation mode."""
    if type(norm) is not nn.BatchNorm2d or norm.training or norm.running_mean is None or norm.weight is None:
        return False
    return not (norm.weight.requires_grad or norm.bias.requires_grad)


@torch.no_grad()
def scales_and_shifts(norms: Sequence[nn.BatchNorm2d]) -> list[tuple[Tensor, Tensor]]:
    """Return a and b, (1,C,1,1) each, with which each of these layers computes a x + b. They must be `foldable`."""
    if not norms:
        return []
    mean, var, weight, bias = zip(
        *((n.running_mean, n.running_var, n.weight, n.bias) for n in norms), strict=True
    )
    scale = torch._foreach_add(var, [norm.eps for norm in norms])
    torch._foreach_rsqrt_(scale)
    torch._foreach_mul_(scale, weight)
    shift = torch._foreach_addcmul(bias, mean, scale, -1.0)
    return [(a.view(1, -1, 1, 1), b.view(1, -1, 1, 1)) for a, b in zip(scale, shift, strict=True)]


def channel_statistics(x: Tensor) -> Moments:
    """Return the mean and biased variance of every channel of (N,C,H,W), in float32 or better: two (C,) tensors.

    >>> mean, var = channel_statistics(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    >>> mean.tolist(), var.tolist()
    ([2.0], [1.0])
    """
    layers = StatisticsOfLayers()
    layers.of(x)
    return layers.moments()[0]


def image_statistics(x: Tensor) -> Moments:
    """Return the mean and unbiased variance of every image's channels, in float32: two (N,C) tensors.

    x: (N,C,H,W). The variance of maps with one pixel is 0.

    >>> mean, var = image_statistics(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
    >>> mean.tolist(), var.tolist()
    ([[2.0]], [[2.0]])
    """
    values = x.float().flatten(2)
    mean = values.mean(2)
    deviation = (values - mean[..., None]).square().sum(2)
    return mean, deviation / max(1, values.shape[2] - 1)


class _SegmentNorms(torch.autograd.Function):
    """Compute the l2 norms of consecutive segments of a vector; the gradient of a segment of zeros is 0."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, sizes: Sequence[int]) -> Tensor:
        norms = torch.stack(torch._foreach_norm(values.split(sizes)))
        ctx.sizes = sizes  # type: ignore[attr-defined]
        ctx.save_for_backward(values, norms)
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        values, norms = ctx.saved_tensors  # type: ignore[attr-defined]
        factors = torch.where(norms > 0, grad / norms, 0.0).unbind()
        spread = [f.expand(size) for f, size in zip(factors, ctx.sizes, strict=True)]  # type: ignore[attr-defined]
        return values * torch.cat(spread), None


def segment_norms(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the l2 norms (L,) of L consecutive segments of values (sum of sizes,).

    >>> segment_norms(torch.tensor([3.0, 4.0, 0.0, 2.0]), [2, 1, 1]).tolist()
    [5.0, 0.0, 2.0]
    """
    norms: Tensor = _SegmentNorms.apply(values, list(sizes))
    return norms
