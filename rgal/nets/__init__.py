"""Build classifiers by name. An architecture is one file in this folder; being there is all the registration it needs.

Such a file has `PATTERN` (a regular expression for the whole name), `NAMES` (examples to show to users) and
`build(match, classes, channels)`. The module it returns maps normalised images (N,C,H,W) to logits (N, classes),
names its layers in `layer_names` and its classifier in `head_name` (see `rgal.core.observe`).

A plug-in registers a network of its own with `@net("name")`. A name with a colon is a network from a library or from
the user's own code (`rgal.nets.foreign`). The layers and the classifier of these are detected (`rgal.nets.discover`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from torch import nn

from rgal.core.code import code_hash
from rgal.core.errors import UserError, nearest
from rgal.core.modules import modules_in
from rgal.nets import foreign
from rgal.nets.discover import find_parts


class Architecture(Protocol):
    """Describe what a file in this folder must define to be an architecture."""

    __name__: str
    PATTERN: str
    NAMES: tuple[str, ...]

    def build(self, match: re.Match[str], classes: int, channels: int) -> nn.Module: ...


@dataclass(frozen=True)
class Added:
    """Hold a plug-in's network: a function (classes, channels, size) -> module, and the module that defines it."""

    build: Callable[[int, int, int], nn.Module]
    module: str


# Names that are no networks, but files.
_FILES = (".pt", ".pth", ".pt2", ".ckpt", ".bin", ".safetensors", ".onnx", ".tar", ".py")
_ADDED: dict[str, Added] = {}
Builder = Callable[[int, int, int], nn.Module]


def added() -> Mapping[str, Added]:
    """Return the networks that plug-ins have registered, by name."""
    return dict(sorted(_ADDED.items()))


def net(name: str) -> Callable[[Builder], Builder]:
    """Register the decorated function (classes, channels, size in pixels) -> module as the network `name`.

    Raises:
        ValueError: the name is taken.
    """

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
    return tuple(cast(Architecture, module) for module in modules_in(__name__) if hasattr(module, "NAMES"))


def names() -> tuple[str, ...]:
    """List the names that `build` takes; of `wrn<depth>_<width>` there are more than the listed examples.

    >>> "wrn40_2" in names()
    True
    """
    own = tuple(name for architecture in _architectures() for name in architecture.NAMES)
    return (*own, *added())


def forms() -> tuple[str, ...]:
    """List the forms of names of networks from libraries and from users' code."""
    return foreign.FORMS


def code_of(name: str) -> str:
    """Hash the code of a network from a plug-in or from the user's code.

    Returns "" for our own networks, which the fingerprints of trials cover, and for those of libraries.
    """
    return code_hash(_ADDED[name].module) if name in _ADDED else foreign.code_of(name)


def module_of(name: str) -> str:
    """Name the module that builds this network; "" for one from a library or from the user's own code."""
    if name in _ADDED:
        return _ADDED[name].module
    own = [module.__name__ for module in _architectures() if re.fullmatch(module.PATTERN, name)]
    return own[0] if own else ""


def is_own(network: nn.Module) -> bool:
    """Tell whether a network is one of the architectures in this folder."""
    return type(network).__module__.startswith(f"{__name__}.")


def build(name: str, classes: int, channels: int = 3, size: int | tuple[int, int] = 32) -> nn.Module:
    """Build a freshly initialised classifier, with weights drawn from torch's global generator.

    Args:
        name: one of `names()` or of the forms in `forms()`.
        classes: number of classes, which is the number of logits.
        channels: channels of the images.
        size: pixels of the images' sides, or (height, width). The networks of this folder take images of any size,
            and their weights do not depend on it.

    Raises:
        UserError: the name is unknown, a number is below 1, or a network from elsewhere cannot classify such images.

    >>> count_parameters(build("wrn40_2", classes=10))
    2243546
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
    if name.endswith(_FILES):
        raise UserError(
            f"unknown net '{name}': a file holds weights or a program, expected the name of a network, as "
            f"MODULE:FACTORY if it is your own; its weights go to --teacher-weights"
        )
    raise UserError(f"unknown net '{name}'; {nearest(name, (*names(), *forms()))}")


def count_parameters(net: nn.Module) -> int:
    """Count the numbers in all parameters; buffers, such as running statistics, do not count.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in net.parameters())
