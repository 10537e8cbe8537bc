"""A user's network, as the engine needs it: a copy, checked, with its layers and its head found."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rgal.core.errors import UserError, in_one_line
from rgal.core.observe import observe
from rgal.core.precision import place
from rgal.core.problem import Domain, evaluating
from rgal.nets import count_parameters
from rgal.nets.describe import found_in
from rgal.nets.discover import find_parts


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
def describe_network(net: nn.Module, domain: Domain) -> list[str]:
    """Say what was found of a network, a line each: layers, head, how many of its norms give statistics."""
    found, device = found_in(net), next(net.parameters()).device
    image = domain.normalise(torch.full((1, *domain.shape), 0.5, device=device))
    with evaluating(net):
        seen = observe(net, image, ("layers",) if found.layers else ())
    sizes = ["x".join(map(str, layer.shape[1:])) for layer in seen.layers]
    layers = ", ".join(f"{path} ({size})" for path, size in zip(found.layers, sizes, strict=True))
    head = f"{found.head} ({type(net.get_submodule(found.head)).__name__})" if found.head else ""
    return [
        f"layers: {layers or 'none'}",
        f"head: {head or 'none, as no linear layer returns the logits'}",
        f"norms: {found.matched} of {found.norms} with batch statistics that images can match",
        f"parameters: {count_parameters(net):,} on {device}",
    ]
