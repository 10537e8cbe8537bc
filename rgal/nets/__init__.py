"""Classifiers by name. An architecture is one file: it is found by its presence in this folder.

Such a file has `PATTERN` (a regular expression for the whole name), `NAMES` (examples of it, shown to people)
and `build(match, classes, channels)`. The module it returns maps normalised images (N,C,H,W) to logits
(N, classes), names its layers in `layer_names` and its classifier in `head_name` (see `rgal.observe`).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from typing import Protocol, cast

from torch import nn

from rgal.errors import UserError, nearest


class Architecture(Protocol):
    """What a file must have to be an architecture."""

    PATTERN: str
    NAMES: tuple[str, ...]

    def build(self, match: re.Match[str], classes: int, channels: int) -> nn.Module: ...


@functools.cache
def _architectures() -> tuple[Architecture, ...]:
    names = (f"{__name__}.{info.name}" for info in pkgutil.iter_modules(__path__))
    modules = map(importlib.import_module, names)
    return tuple(cast(Architecture, module) for module in modules if hasattr(module, "PATTERN"))


def names() -> tuple[str, ...]:
    """Names that `build` knows; for `wrn<depth>_<width>` these are examples."""
    return tuple(name for architecture in _architectures() for name in architecture.NAMES)


def build(name: str, classes: int, channels: int = 3, size: int = 32) -> nn.Module:
    """A freshly initialised classifier of (N, channels, size, size) images.

    size in pixels; all nets here pool adaptively, so that it changes no weight. Weights come from torch's
    global generator. Raises UserError for an unknown name or a number below 1.
    """
    for what, value in (("classes", classes), ("channels", channels), ("size", size)):
        if value < 1:
            raise UserError(f"net '{name}': {what} is {value}, expected 1 or more")
    for architecture in _architectures():
        if match := re.fullmatch(architecture.PATTERN, name):
            return architecture.build(match, classes, channels)
    raise UserError(f"unknown net '{name}'; {nearest(name, names())}")


def count_parameters(net: nn.Module) -> int:
    """Numbers in all parameters, buffers such as running statistics left out."""
    return sum(parameter.numel() for parameter in net.parameters())
