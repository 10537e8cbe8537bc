"""A user's network, as the engine needs it: a copy, checked, with its layers and its head found."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rgal.core.errors import UserError, in_one_line
from rgal.core.observe import batch_norms, observe
from rgal.core.precision import place
from rgal.core.problem import Domain, evaluating
from rgal.nets import count_parameters
from rgal.nets.discover import find_parts

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def own_copy(net: object, name: str, domain: Domain, device: torch.device) -> nn.Module:
    """Copy a user's network to a device, as float32, with its layers and its head named. The original is left alone.

    Wrappers that keep a network inside are taken off: DataParallel, DistributedDataParallel, `torch.compile`.

    Args:
        net: the network, an `nn.Module` that maps normalised images (N,C,H,W) to logits (N, classes).
        name: what it is called in messages.
        domain: the images it takes.
        device: where the copy is.

    Raises:
        UserError: it is no such network, or cannot be copied.
    """
    inner = _unwrapped(net, name)
    uninitialised = [path for path, value in inner.named_parameters() if is_lazy(value)]
    if uninitialised:
        raise UserError(
            f"net '{name}': '{uninitialised[0]}' of a lazy module has no values yet; show it a batch of images first"
        )
    try:
        made = copy.deepcopy(inner)
    except Exception as error:  # modules may hold anything
        raise UserError(f"net '{name}': cannot be copied: {in_one_line(error)}") from error
    for path, parameter in made.named_parameters():
        if parameter.is_meta:
            raise UserError(
                f"net '{name}': '{path}' is on the device 'meta', without values; load weights first"
            )
    try:
        made = place(made.float().eval(), device)
    except Exception as error:  # what torch.export makes has one mode only, and a device may be full
        raise UserError(f"net '{name}': cannot be used on {device}: {in_one_line(error)}") from error
    requires = [parameter.requires_grad for parameter in made.parameters()]
    find_parts(made, name, domain.classes, domain.shape)
    for parameter, required in zip(made.parameters(), requires, strict=True):
        parameter.requires_grad_(required)
    _check_logits(made, name, domain)
    return made


def _unwrapped(net: object, name: str) -> nn.Module:
    """Take off what wraps a network. Raises UserError for anything that is none."""
    if isinstance(net, type):
        raise UserError(f"net '{name}': is a class, expected one of its objects: {name}(...)")
    if isinstance(net, torch.jit.ScriptModule | torch.export.ExportedProgram):
        kind = type(net).__name__
        raise UserError(
            f"net '{name}': is a {kind}, whose layers are no modules; expected the nn.Module itself"
        )
    if not isinstance(net, nn.Module):
        raise UserError(f"net '{name}': is a {type(net).__name__}, expected a torch.nn.Module")
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrapped(net.module, name)
    compiled = getattr(net, "_orig_mod", None)
    return _unwrapped(compiled, name) if isinstance(compiled, nn.Module) else net


@torch.no_grad()
def _check_logits(net: nn.Module, name: str, domain: Domain) -> None:
    """Refuse a network that ends in a softmax: losses need logits, whose differences a softmax hides."""
    device = next(net.parameters()).device
    noise = torch.rand(4, *domain.shape, generator=torch.Generator().manual_seed(0)).to(device)
    with evaluating(net):
        outputs = net(domain.normalise(noise).contiguous(memory_format=torch.channels_last))
    sums = outputs.sum(1)
    if bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise UserError(
            f"net '{name}': returns probabilities (its rows sum to 1), expected logits: leave out its softmax"
        )


@torch.no_grad()
def describe_network(net: nn.Module, domain: Domain) -> list[str]:
    """Say what was found of a network, a line each: layers, head, how many of its norms give statistics."""
    names, head = cast(tuple[str, ...], net.layer_names), cast(str, net.head_name)
    device = next(net.parameters()).device
    image = domain.normalise(torch.full((1, *domain.shape), 0.5, device=device))
    with evaluating(net):
        seen = observe(net, image, ("layers",) if names else ())
    sizes = ["x".join(map(str, layer.shape[1:])) for layer in seen.layers]
    layers = ", ".join(f"{path} ({size})" for path, size in zip(names, sizes, strict=True))
    matched, norms = len(batch_norms(net)), sum(isinstance(module, _NORMS) for module in net.modules())
    return [
        f"layers: {layers or 'none that are maps (N,C,H,W)'}",
        f"head: {_head_text(net, head)}",
        f"norms: {matched} of {max(norms, matched)} with batch statistics that images can match",
        f"parameters: {count_parameters(net):,} on {device}",
    ]


def _head_text(net: nn.Module, head: str) -> str:
    if not head:
        return "none, as no linear layer returns the logits"
    module = net.get_submodule(head)
    return f"{head} ({type(module).__name__})"
