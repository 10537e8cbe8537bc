"""Classifiers by name. An architecture is one file: it is found by its presence in this folder.

Such a file has `PATTERN` (a regular expression for the whole name), `NAMES` (examples of it, shown to people)
and `build(match, classes, channels)`. The module it returns maps normalised images (N,C,H,W) to logits
(N, classes), names its layers in `layer_names` and its classifier in `head_name` (see `rgal.core.observe`).

A plug-in registers a network of its own with `@net("name")`. A name with a colon is a network from a library or from
the user's own code (`rgal.nets.foreign`). These need not name anything: what they have is found.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from torch import nn

from rgal.core.errors import UserError, nearest
from rgal.core.files import code_hash
from rgal.nets import foreign
from rgal.nets.discover import find_parts


class Architecture(Protocol):
    """What a file must have to be an architecture."""

    PATTERN: str
    NAMES: tuple[str, ...]

    def build(self, match: re.Match[str], classes: int, channels: int) -> nn.Module: ...


@dataclass(frozen=True)
class Added:
    """A network that a plug-in brought: (classes, channels, size) -> module, and where it was written."""

    build: Callable[[int, int, int], nn.Module]
    module: str


_ADDED: dict[str, Added] = {}
Builder = Callable[[int, int, int], nn.Module]


def added() -> Mapping[str, Added]:
    """The networks of plug-ins, by name."""
    return dict(sorted(_ADDED.items()))


def net(name: str) -> Callable[[Builder], Builder]:
    """Register the decorated function (classes, channels, size) -> module as the network `name`."""

    def register(build: Builder) -> Builder:
        patterns = [foreign.PATTERN, *(architecture.PATTERN for architecture in _architectures())]
        if any(re.fullmatch(pattern, name) for pattern in patterns):
            raise ValueError(f"network '{name}' is one of rgal's own; give yours another name")
        if name in _ADDED and _ADDED[name].module != build.__module__:
            raise ValueError(f"a network '{name}' exists already, in {_ADDED[name].module}")
        _ADDED[name] = Added(build, build.__module__)
        return build

    return register


@functools.cache
def _architectures() -> tuple[Architecture, ...]:
    names = (f"{__name__}.{info.name}" for info in pkgutil.iter_modules(__path__))
    modules = map(importlib.import_module, names)
    return tuple(cast(Architecture, module) for module in modules if hasattr(module, "NAMES"))


def names() -> tuple[str, ...]:
    """Names that `build` knows; for `wrn<depth>_<width>` these are examples."""
    own = tuple(name for architecture in _architectures() for name in architecture.NAMES)
    return (*own, *added())


def forms() -> tuple[str, ...]:
    """How networks from elsewhere are named."""
    return foreign.FORMS


def code_of(name: str) -> str:
    """A hash of the code of a network from a plug-in or from the user's code; "" for ours, which the version stands
    for, and for those of libraries."""
    return code_hash(_ADDED[name].module) if name in _ADDED else foreign.code_of(name)


def is_own(network: nn.Module) -> bool:
    """Whether it is one of the architectures in this folder."""
    return type(network).__module__.startswith(f"{__name__}.")


def build(name: str, classes: int, channels: int = 3, size: int | tuple[int, int] = 32) -> nn.Module:
    """A freshly initialised classifier of (N, channels, height, width) images.

    size in pixels, or (height, width); all nets of this folder pool adaptively, so that it changes no weight. Weights
    come from torch's global generator. Raises UserError for an unknown name, a number below 1, or a net from elsewhere
    that cannot classify such images.
    """
    height, width = (size, size) if isinstance(size, int) else size
    for what, value in (("classes", classes), ("channels", channels), ("size", min(height, width))):
        if value < 1:
            raise UserError(f"net '{name}': {what} is {value}, expected 1 or more")
    if name in _ADDED:
        made = _ADDED[name].build(classes, channels, height)
        return find_parts(made, name, classes, (channels, height, width))
    if re.fullmatch(foreign.PATTERN, name):
        made = foreign.build(name, classes, channels, (height, width))
        return find_parts(made, name, classes, (channels, height, width))
    for architecture in _architectures():
        if match := re.fullmatch(architecture.PATTERN, name):
            return architecture.build(match, classes, channels)
    raise UserError(f"unknown net '{name}'; {nearest(name, (*names(), *forms()))}")


def count_parameters(net: nn.Module) -> int:
    """Numbers in all parameters, buffers such as running statistics left out."""
    return sum(parameter.numel() for parameter in net.parameters())
