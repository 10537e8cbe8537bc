"""Stand-ins for libraries, so that what our modules declare can be read without loading what they compute with.

Methods, tasks and networks say what they are in the modules that also hold their code, and importing PyTorch for that
code takes seconds. A command that only lists or renders calls none of it. Inside `stand_ins` the import statements of
our own modules get a placeholder for each library that is named: it can be subclassed, called, used as a decorator and
in annotations, which is all that happens while a module is imported.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

COMPUTING = ("torch", "torchvision", "kornia", "safetensors", "onnx", "onnxruntime")
DRAWING = ("matplotlib", "numpy", "pandas", "PIL", "scipy")


class _AnyName(type):
    """Give the class every attribute but those that Python itself looks for, whose absence means something."""

    def __getattr__(cls, name: str) -> type[StandIn]:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn

    def __or__(cls, other: Any) -> Any:
        return StandIn

    __ror__ = __or__


class StandIn(metaclass=_AnyName):
    """Stand for a library, and for whatever is imported from it: a module, a class, a function or a constant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, decorated: Any) -> Any:
        """Leave what is decorated by a call, such as `@torch.no_grad()`, as it is."""
        return decorated

    def __class_getitem__(cls, item: Any) -> type[StandIn]:
        return cls


@contextmanager
def stand_ins(*libraries: str) -> Iterator[None]:
    """Import modules of rgal without these libraries inside the block. What was imported so is forgotten behind it.

    A library that this process has loaded already stays itself: there is nothing to save.

    Args:
        libraries: names of packages, as `import` statements write them.
    """
    if all(name in sys.modules for name in libraries):
        yield
        return
    ordinary, before = builtins.__import__, set(sys.modules)
    install(*libraries)
    try:
        yield
    finally:
        builtins.__import__ = ordinary
        _forget({name for name in set(sys.modules) - before if name.startswith("rgal.")})


def install(*libraries: str) -> None:
    """Let the import statements of modules of rgal get stand-ins for these libraries from now on.

    For a process that will do nothing else, such as one that draws; others use `stand_ins`.
    """
    ordinary = builtins.__import__
    missing = {name for name in libraries if name not in sys.modules}

    def importing(name: str, globals: Mapping[str, Any] | None = None, *rest: Any, **named: Any) -> Any:
        ours = str((globals or {}).get("__name__", "")).startswith("rgal.")
        stood_in = ours and name.partition(".")[0] in missing
        return StandIn if stood_in else ordinary(name, globals, *rest, **named)

    builtins.__import__ = importing


def _forget(modules: set[str]) -> None:
    """Remove modules that hold stand-ins, so that they are imported again where they are next needed."""
    for name in modules:
        package, _, member = name.rpartition(".")
        del sys.modules[name]
        if package in sys.modules:
            vars(sys.modules[package]).pop(member, None)
