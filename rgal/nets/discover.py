"""Detect the layers and the classifier of a network that does not name them, by watching one forward pass.

The names are set as plain attributes `layer_names`, `head_name` and, where maps are (N,H,W,C), `channels_last_layers`
(see `rgal.core.observe`), beside `layers_are_tokens`; nothing else changes. The same pass shows whether the network can
be used at all; if not, a UserError says why in one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError, in_one_line
from rgal.nets.tokens import DEPTHS, LAYERS, Call, called_once, find_tokens, is_no_stage

_SIZES = (8, 16, 32, 64, 96, 128, 224, 256, 299, 384)  # image sizes to try, so that a message can suggest one


@dataclass
class _Pass:
    """Record one forward pass: its result, and the calls in the order in which they ended."""

    logits: Tensor
    calls: list[Call] = field(default_factory=list)


def find_parts(net: nn.Module, name: str, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Detect a network's layers and head and set their names on it. Names that it already has are kept.

    The caller's random streams are left alone.

    Args:
        net: the network.
        name: what it is called in messages.
        classes: the number of logits it must return.
        shape: (C,H,W) of its images.

    Returns:
        `net` itself.

    Raises:
        UserError: the network cannot classify such images.
    """
    if not any(True for _ in net.parameters()):
        raise UserError(f"net '{name}': has no parameters, expected a network that can be trained")
    for path, module in net.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise UserError(
                f"net '{name}': '{path}' is SyncBatchNorm, which is for groups of processes; "
                "leave it BatchNorm2d, whose weights have the same names"
            )
    mode = net.training
    _check_modes(net, name)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        watched = _watched(net.eval(), name, classes, shape)
        _check_training(net, name, classes, shape)
    net.train(mode)
    head = _find_head(watched, classes)
    if not hasattr(net, "head_name"):
        net.head_name = head.name if head else ""  # type: ignore[assignment]
    if not hasattr(net, "layer_names"):
        ended = watched.calls if head is None else watched.calls[: head.began]
        maps = _find_layers(ended, shape[1:])
        layers = maps or find_tokens(ended)
        net.layers_are_tokens = bool(layers) and not maps  # type: ignore[assignment]
        net.layer_names = tuple(call.name for call in layers)  # type: ignore[assignment]
        last = tuple(
            call.name for call in layers if not _is_map(call.shape, shape[1:]) and len(call.shape) == 4
        )
        net.channels_last_layers = last  # type: ignore[assignment]
    _check_names(net, name)
    return net


# The forward pass -----------------------------------------------------------------------------------------------


def _images(net: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """Make two noise images in the memory format that the training loops use."""
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next(net.parameters()).device).contiguous(memory_format=torch.channels_last)


def _watched(net: nn.Module, name: str, classes: int, shape: tuple[int, int, int]) -> _Pass:
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calls: list[Call] = []
    begun: dict[nn.Module, list[int]] = {}
    handles = []

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        begun.setdefault(module, []).append(len(calls))

    def end(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        call = Call(names[module], module, begun[module].pop())
        if isinstance(output, Tensor):
            call.shape = tuple(output.shape)
            # A copy, because an in-place activation may change it before the pass has ended.
            call.output = output.clone() if _may_be_head(module, classes) else None
        calls.append(call)

    names = {module: path for path, module in net.named_modules() if path}
    try:
        for module in names:
            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        logits = net(_images(net, shape))
    except Exception as error:
        raise UserError(_why_not(net, name, shape, error)) from error
    finally:
        for handle in handles:
            handle.remove()
    return _Pass(_checked(logits, name, classes, shape, ""), calls)


def _check_modes(net: nn.Module, name: str) -> None:
    """Check that the network can be put into training and into evaluation mode: an exported program cannot."""
    mode = net.training
    try:
        net.train().eval().train(mode)
    except Exception as error:
        raise UserError(
            f"net '{name}': cannot be put into training and evaluation mode: {in_one_line(error)}; expected the module "
            "itself, not a program that torch.export or torch.jit made of it"
        ) from error


def _checked(logits: object, name: str, classes: int, shape: tuple[int, int, int], when: str) -> Tensor:
    if isinstance(logits, Tensor) and logits.shape == (2, classes):
        _check_scores(logits, name)
        return logits
    result = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    several = isinstance(logits, Mapping | tuple | list)
    hint = "; write a module around it whose forward returns the logits alone" if several else ""
    images = (2, *shape)
    raise UserError(
        f"net '{name}': returns {result} for images {images}{when}, expected logits (2, {classes}){hint}"
    )


def _check_scores(logits: Tensor, name: str) -> None:
    """Refuse probabilities: what follows takes their softmax once more. Their logarithms are logits as good as any."""
    if not logits.is_floating_point():
        raise UserError(f"net '{name}': returns {logits.dtype} values, expected logits, which are floats")
    sums = logits.sum(1)
    if (
        logits.shape[1] > 1
        and bool((logits >= 0).all())
        and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
    ):
        raise UserError(
            f"net '{name}': returns probabilities, as of a softmax at its end, expected logits: leave the softmax out"
        )


def _check_training(net: nn.Module, name: str, classes: int, shape: tuple[int, int, int]) -> None:
    """Check that it returns logits in training mode too, where some networks have auxiliary outputs.

    The pass changes batch norm statistics, which are restored.
    """
    before = {path: buffer.clone() for path, buffer in net.named_buffers()}
    try:
        logits = net.train()(_images(net, shape))
    except Exception as error:
        raise UserError(f"net '{name}': fails in training mode: {in_one_line(error)}") from error
    for path, buffer in before.items():
        net.get_buffer(path).copy_(buffer)
    _checked(logits, name, classes, shape, " in training mode")


def _why_not(net: nn.Module, name: str, shape: tuple[int, int, int], error: Exception) -> str:
    """Say why images of this shape do not fit, and which size would."""
    channels, height, width = shape
    reason = in_one_line(error)
    if "view size is not compatible" in reason:
        return f"net '{name}': needs contiguous maps: {reason}; write .flatten(1) or .reshape there"
    if "indices" in reason or "Long" in reason:
        return f"net '{name}': takes integers, expected a network of normalised float images: {reason}"
    start = f"net '{name}': cannot take images of {channels}x{height}x{width}: {reason}"
    for size in _SIZES:
        try:
            net(_images(net, (channels, size, size)))
        except Exception:
            continue
        return f"{start}; it takes {size}x{size}: give --set image_size={size}"
    return start


# What the calls say ---------------------------------------------------------------------------------------------


def _may_be_head(module: nn.Module, classes: int) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.out_channels == classes and module.kernel_size == (1, 1)
    return isinstance(module, nn.Linear) and module.out_features == classes


def _find_head(watched: _Pass, classes: int) -> Call | None:
    """Find the last linear layer whose output is the logits.

    A 1x1 convolution counts too, if the spatial mean of its output, or of its rectified output, is the logits.
    """
    for call in reversed(watched.calls):
        if call.output is not None and any(_equal(z, watched.logits) for z in _outcomes(call.output)):
            return call
    return None


def _outcomes(output: Tensor) -> list[Tensor]:
    """List what a network may compute as logits from its last layer's output."""
    if output.ndim != 4:
        return [output]
    return [output.mean((2, 3)), output.relu().mean((2, 3))]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)


def _find_layers(calls: Sequence[Call], size: tuple[int, int]) -> list[Call]:
    """Choose the layers: the last map at each resolution, at most the LAYERS deepest, in the order of the calls.

    Returns [] for a network that does not end in maps, but in tokens (N,T,D) or in channels-last maps (N,H,W,C).
    """
    stages = [call for call in called_once(calls) if len(call.shape) > 2 and not is_no_stage(call)]
    layers: list[Call] = []
    for depth in DEPTHS:
        outputs = [call for call in stages if call.name.count(".") < depth]
        if outputs and not _is_map(outputs[-1].shape, size):
            return []
        last: dict[tuple[int, ...], Call] = {}
        for call in outputs:
            if _is_map(call.shape, size):
                last.pop(call.shape[2:], None)
                last[call.shape[2:]] = call
        if len(last) > len(layers):
            layers = list(last.values())
        if len(layers) > 1:
            break
    return layers[-LAYERS:]


def _is_map(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Tell whether a shape is (N,C,H,W): no larger than the image, and of its proportions up to rounding."""
    if len(shape) != 4:
        return False
    (height, width), (h, w) = size, shape[2:]
    return h <= height and w <= width and abs(h * width - w * height) <= height + width


def _check_names(net: nn.Module, name: str) -> None:
    """Check that the modules which a network names exist."""
    for path in filter(None, (*net.layer_names, net.head_name)):  # type: ignore[misc]
        try:
            net.get_submodule(path)  # type: ignore[arg-type]
        except (AttributeError, TypeError) as error:
            raise UserError(f"net '{name}': names a module '{path}' that it does not have") from error
