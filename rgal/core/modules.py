"""Finding the modules of a package: where a file's presence is its registration, all of them are imported."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from types import ModuleType


def modules_in(package: str) -> tuple[ModuleType, ...]:
    """Import and return the modules and packages that lie directly in a package, in alphabetical order.

    Its folders are read once in a process, unless the package gets another one.

    >>> [module.__name__ for module in modules_in("rgal.engine")][:2]
    ['rgal.engine.batches', 'rgal.engine.clock']
    """
    names = _names(package, tuple(importlib.import_module(package).__path__))
    return tuple(sys.modules.get(name) or importlib.import_module(name) for name in names)


@functools.cache
def _names(package: str, folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{package}.{info.name}" for info in pkgutil.iter_modules(folders))
