"""Networks from elsewhere, by where they come from: `torchvision:NAME`, `timm:NAME`, or `MODULE:FACTORY`, a function or
class of the user's own.

The last one runs the user's code, because the user names it. No pretrained weights are ever fetched: they are given as
a file. What the rest of rgal has to know of such a net is found by `rgal.nets.discover`.
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

from rgal.core.errors import UserError, in_one_line, nearest
from rgal.core.files import code_hash

PATTERN = r"[^:\s]+:[^:\s]+"
FORMS = ("torchvision:NAME", "timm:NAME", "MODULE:FACTORY")
LIBRARIES = ("torchvision", "timm")

# Second outputs in training mode, which a classifier that others train must not have.
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build(name: str, classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """The net that `name` says, freshly initialised, for images (N, channels, *size). Raises UserError.

    Its first convolution is made for as many channels as the images have.
    """
    origin, _, what = name.partition(":")
    try:
        if origin == "torchvision":
            net = _torchvision(what, classes)
        elif origin == "timm":
            net = _timm(what, classes, channels)
        else:
            net = _factory(origin, what, name)(**_arguments(origin, what, classes, channels, size))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise UserError(f"net '{name}': cannot be built: {in_one_line(error)}") from error
    if not isinstance(net, nn.Module) or isinstance(net, torch.jit.ScriptModule):
        raise UserError(f"net '{name}': is a {type(net).__name__}, expected a torch.nn.Module")
    _adapt_channels(net, channels)
    return net


def _torchvision(what: str, classes: int) -> nn.Module:
    import torchvision.models as models

    known = models.list_models(module=models)
    if what not in known:
        raise UserError(_unknown("torchvision", what, known))
    extra = {"aux_logits": False, "init_weights": True} if what in _WITH_AUXILIARY_HEADS else {}
    net: nn.Module = models.get_model(what, weights=None, num_classes=classes, **extra)
    return net


def _timm(what: str, classes: int, channels: int) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError(
            f"net 'timm:{what}': the package timm is not installed; `pip install timm`, or use torchvision:NAME"
        ) from error
    base, known = what.partition(".")[0], timm.list_models()
    if base not in known or "/" in what:
        raise UserError(_unknown("timm", what, known))
    net: nn.Module = timm.create_model(what, pretrained=False, num_classes=classes, in_chans=channels)
    return net


def _unknown(library: str, what: str, known: Iterable[str]) -> str:
    """A library has too many names to list."""
    known = list(known)
    close = difflib.get_close_matches(what, known, n=3, cutoff=0.5)
    hint = f"did you mean '{library}:{close[0]}'? " if close else ""
    rest = f"near: {', '.join(close[1:])}; " if close[1:] else ""
    return f"unknown net '{library}:{what}'; {hint}{rest}{library} has {len(known)} classifiers, see its documentation"


# Factories of the user's own ------------------------------------------------------------------------------------


def _module(path: str, name: str) -> ModuleType:
    """Import it, also from the current directory. Worker processes are handed this process's `sys.path`."""
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
    found = getattr(module, what, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    valid = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    kind = "is no function or class" if hasattr(module, what) else "does not exist"
    raise UserError(f"net '{name}': '{what}' {kind} in {module.__file__ or path}; {nearest(what, valid)}")


def _arguments(path: str, what: str, classes: int, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    """What the factory is called with: the number of classes, and of the rest what it has a parameter for."""
    name = f"{path}:{what}"
    parameters = inspect.signature(_factory(path, what, name)).parameters.values()
    accepted = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if "num_classes" not in accepted and not any(p.kind == p.VAR_KEYWORD for p in parameters):
        raise UserError(
            f"net '{name}': expected a parameter num_classes; found {', '.join(accepted) or 'none'}"
        )
    offered = {
        **dict.fromkeys(("in_channels", "in_chans", "channels"), channels),
        "image_size": size[0] if size[0] == size[1] else size,
        "weights": None, "pretrained": False, "aux_logits": False,
    }  # fmt: skip
    return {"num_classes": classes} | {key: value for key, value in offered.items() if key in accepted}


def _adapt_channels(net: nn.Module, channels: int) -> None:
    """Replace a first convolution for colour by one for `channels`, which starts from the same weights' columns: so it
    keeps the net's own initialisation."""
    found = next(((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or found[1].in_channels != 3 or channels == 3 or found[1].groups != 1:
        return
    name, old = found
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
    """A hash of the code of a factory's module and of what it uses of the modules beside it; "" for libraries."""
    path = name.partition(":")[0]
    if ":" not in name or path in LIBRARIES:
        return ""
    _module(path, name)
    return code_hash(*sorted(_with_neighbours(path)))


def _with_neighbours(path: str) -> set[str]:
    """The module, and those of its package, or else of its folder, that its names come from, and so on."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other in _origins(sys.modules[name]) if _beside(other, path)]
    return found


def _origins(module: ModuleType) -> Iterator[str]:
    """Names of the modules that are in a module's namespace, or whose functions and classes are."""
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
    if not all(files) or other.partition(".")[0] == "rgal":  # ours, which the version stands for
        return False
    home, theirs = (Path(str(file)).resolve() for file in files)
    home = home.parent.parent if home.name == "__init__.py" else home.parent
    return theirs.is_relative_to(home) and "site-packages" not in theirs.parts
