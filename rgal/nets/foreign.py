"""Build networks from elsewhere: `torchvision:NAME`, `timm:NAME`, or `MODULE:FACTORY`, the user's function or class.

The last form runs the user's code, because the user names it. Pretrained weights are never downloaded: a user gives
them as a file. `rgal.nets.discover` detects the layers and the head of such networks.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from rgal.core.code import code_hash
from rgal.core.errors import UserError, in_one_line, nearest

PATTERN = r"[^:\s]+:[^:\s]+"
FORMS = ("torchvision:NAME", "timm:NAME", "MODULE:FACTORY")
LIBRARIES = ("torchvision", "timm")

# What factories call the number of classes.
_CLASSES = ("num_classes", "n_classes", "nclasses", "classes", "num_class", "n_class")
# They have second outputs in training mode, which our training loops do not expect.
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build(name: str, classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Build a freshly initialised network from a library or from the user's code.

    Args:
        name: in one of the forms `FORMS`.
        classes: number of logits.
        channels: channels of the images; the first convolution is adapted to them.
        size: (height, width) of the images in pixels.

    Raises:
        UserError: the name is unknown, or the network cannot be built.
    """
    origin, _, what = name.partition(":")
    try:
        if origin == "torchvision":
            net = _torchvision(what, classes, size)
        elif origin == "timm":
            net = _timm(what, classes, channels, size)
        else:
            net = _factory(origin, what, name)(**_arguments(origin, what, classes, channels, size))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise UserError(f"net '{name}': cannot be built: {in_one_line(error)}") from error
    if not isinstance(net, nn.Module) or isinstance(net, torch.jit.ScriptModule):
        raise UserError(f"net '{name}': is a {type(net).__name__}, expected a torch.nn.Module")
    _materialise(net, name, (channels, *size))
    _adapt_channels(net, channels)
    return net


def _torchvision(what: str, classes: int, size: tuple[int, int]) -> nn.Module:
    import torchvision.models as models

    valid = models.list_models(module=models)
    if what not in valid:
        raise UserError(_unknown("torchvision", what, valid))
    extra: dict[str, Any] = (
        {"aux_logits": False, "init_weights": True} if what in _WITH_AUXILIARY_HEADS else {}
    )
    if what.startswith("vit_") and size[0] == size[1]:
        extra["image_size"] = size[0]  # which its embedding of positions is made for
    net: nn.Module = models.get_model(what, weights=None, num_classes=classes, **extra)
    return net


def _timm(what: str, classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError(
            f"net 'timm:{what}': the package timm is not installed; `pip install timm`, or use torchvision:NAME"
        ) from error
    base, valid = what.partition(".")[0], timm.list_models()
    if base not in valid or "/" in what:
        raise UserError(_unknown("timm", what, valid))
    settings = timm.get_pretrained_cfg(what)
    fixed: dict[str, Any] = {"img_size": size} if settings is not None and settings.fixed_input_size else {}
    net: nn.Module = timm.create_model(
        what, pretrained=False, num_classes=classes, in_chans=channels, **fixed
    )
    return net


def _unknown(library: str, what: str, valid: Iterable[str]) -> str:
    """Suggest close names only, because a library has too many to list."""
    valid = list(valid)
    close = difflib.get_close_matches(what, valid, n=3, cutoff=0.5)
    hint = f"did you mean '{library}:{close[0]}'? " if close else ""
    rest = f"near: {', '.join(close[1:])}; " if close[1:] else ""
    return f"unknown net '{library}:{what}'; {hint}{rest}{library} has {len(valid)} classifiers, see its documentation"


# Factories of the user's own ------------------------------------------------------------------------------------


def _module(path: str, name: str) -> ModuleType:
    """Import a module, also from the current directory. Worker processes are given this process's `sys.path`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file there must not take the place of one of ours
    importlib.invalidate_caches()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or path
        if path != missing and not path.startswith(f"{missing}."):
            raise UserError(f"net '{name}': importing it failed: {in_one_line(error)}") from error
        close = difflib.get_close_matches(path, LIBRARIES, n=1, cutoff=0.7)
        hint = f"did you mean '{close[0]}:{name.partition(':')[2]}'? " if close else ""
        raise UserError(
            f"net '{name}': no module '{missing}' in {here} or among the installed packages; "
            f"{hint}valid: {', '.join(FORMS)}"
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(f"net '{name}': importing it failed: {in_one_line(error)}") from error


def _factory(path: str, what: str, name: str) -> Callable[..., Any]:
    module = _module(path, name)
    factory = getattr(module, what, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    valid = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    kind = "is no function or class" if hasattr(module, what) else "does not exist"
    raise UserError(f"net '{name}': '{what}' {kind} in {module.__file__ or path}; {nearest(what, valid)}")


def _arguments(path: str, what: str, classes: int, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the factory's arguments: those that it has a parameter for. What it returns is checked later.

    Raises:
        UserError: it needs others.
    """
    name = f"{path}:{what}"
    parameters = inspect.signature(_factory(path, what, name)).parameters.values()
    accepted = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    offered = {
        **dict.fromkeys(_CLASSES, classes),
        **dict.fromkeys(("in_channels", "in_chans", "channels"), channels),
        "image_size": size[0] if size[0] == size[1] else size,
        "weights": None, "pretrained": False, "aux_logits": False,
    }  # fmt: skip
    arguments = {key: value for key, value in offered.items() if key in accepted}
    if any(p.kind == p.VAR_KEYWORD for p in parameters) and not arguments.keys() & set(_CLASSES):
        arguments["num_classes"] = classes
    required = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if missing := [key for key in required if key not in arguments]:
        raise UserError(
            f"net '{name}': expected a parameter num_classes, and defaults for all others; "
            f"'{missing[0]}' has none"
        )
    return arguments


def _materialise(net: nn.Module, name: str, shape: tuple[int, int, int]) -> None:
    """Let lazy modules see an image, so that they know their sizes. The draws come from torch's global generator."""
    if not any(isinstance(parameter, UninitializedParameter) for parameter in net.parameters()):
        return
    mode = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *shape))
    except Exception as error:
        size = "x".join(map(str, shape))
        raise UserError(
            f"net '{name}': has lazy modules, which cannot take an image of {size}: {in_one_line(error)}"
        ) from error
    net.train(mode)


def _adapt_channels(net: nn.Module, channels: int) -> None:
    """Replace a first convolution for three channels by one for `channels`.

    The new one copies the old one's weights, channel by channel, and so keeps the network's own initialisation.
    """
    convolutions = ((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    name, old = next(convolutions, ("", None))
    if old is None or old.in_channels != 3 or channels == 3 or old.groups != 1:
        return
    shape: dict[str, Any] = {
        key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **shape)
    with torch.no_grad():
        new.weight.copy_(old.weight[:, torch.arange(channels) % 3])
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, new)


# What a key must hold -------------------------------------------------------------------------------------------


def code_of(name: str) -> str:
    """Hash the code of a factory's module and of the modules beside it that it uses. Returns "" for libraries."""
    path = name.partition(":")[0]
    if ":" not in name or path in LIBRARIES:
        return ""
    _module(path, name)
    return code_hash(*sorted(_with_neighbours(path)))


def _with_neighbours(path: str) -> set[str]:
    """Collect the module and, transitively, the modules of its package or folder that its names come from."""
    neighbours: set[str] = set()
    waiting = [path]
    while waiting:
        name = waiting.pop()
        if name not in neighbours:
            neighbours.add(name)
            waiting += [other for other in _origins(sys.modules[name]) if _beside(other, path)]
    return neighbours


def _origins(module: ModuleType) -> Iterator[str]:
    """Yield the modules in a module's namespace, and those that define its functions and classes."""
    for value in list(vars(module).values()):
        if inspect.ismodule(value):
            yield value.__name__
        elif inspect.isfunction(value) or inspect.isclass(value):
            yield value.__module__


def _beside(other: str, path: str) -> bool:
    top = path.partition(".")[0]
    if other.partition(".")[0] == top:
        return other in sys.modules
    files = [getattr(sys.modules.get(name), "__file__", None) for name in (top, other)]
    if not all(files) or other.partition(".")[0] == "rgal":  # ours, which the version covers
        return False
    home, theirs = (Path(str(file)).resolve() for file in files)
    home = home.parent.parent if home.name == "__init__.py" else home.parent
    return theirs.is_relative_to(home) and "site-packages" not in theirs.parts
